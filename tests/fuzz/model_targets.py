"""Models that features are extracted with, and the class weights that a finetuning starts from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from support import nets

NET = (
    nets.inputs(data=(1, 3, 6, 5))
    + nets.conv("data", "conv", 3)
    + nets.layer("PReLU", "conv", "conv", name="relu")
    + nets.inner_product("conv", "fc", 4)
)
Row = tuple[str, str, Callable[[Path], object], Callable[[], list[bytes]]]


def _features(*model: Path) -> None:
    from normface.features import Extractor

    extractor = Extractor(*model, mean=128, scale=1 / 128, rgb=False, device="cpu", runtime="onnxruntime", threads=1)
    height, width = extractor.size
    if height * width <= 1 << 16:
        extractor.features_of([np.full((height, width, 3), 99, np.uint8)])


def _features_of_net(path: Path) -> None:
    text = path.with_suffix(".prototxt")
    text.write_text(NET)
    _features(text, path)


def _models(suffix: str) -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        net = nets.load(folder, NET)
        random = np.random.default_rng(0)
        net = net.with_weights(
            {
                layer.name: [random.normal(size=param.shape).astype(np.float32) for param in layer.params]
                for layer in net.layers
                if layer.params
            }
        )
        path = folder / f"file{suffix}"
        if suffix == ".onnx":
            net.to_onnx(path)
        else:
            net.save(path)
        return [path.read_bytes()]


def _loss() -> Any:
    from normface.losses import NormalizedSoftmaxLoss

    return NormalizedSoftmaxLoss(4, 5)


def _start(path: Path) -> None:
    """--head of a finetuning."""
    from normface.finetune import head_file

    head_file.read(path, _loss())


def _heads() -> list[bytes]:
    from normface.finetune import head_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.safetensors"
        head_file.write(_loss(), path, leads=True)
        return [path.read_bytes()]


def rows() -> list[Row]:
    """Return (name, suffix, read, whole files) of each."""
    return [
        ("extract", ".onnx", _features, lambda: _models(".onnx")),
        ("extract-caffe", ".caffemodel", _features_of_net, lambda: _models(".caffemodel")),
        ("head", ".safetensors", _start, _heads),
    ]
