"""The cascade's three nets, PNet, RNet and ONet, from Caffe's files to a runtime."""

from __future__ import annotations

import os
import tempfile
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from ..inference import Engine, choose, open_engine
from ..inference.engine import OnnxEngine
from .weights import OWN_NETS, installed_weights

if TYPE_CHECKING:
    from caffeport import Net

MEAN, SCALE = 127.5, 0.0078125
"""The preprocessing that the nets were trained with: RGB, (x - 127.5) * 0.0078125."""
OpenNet = Callable[[Path, Any], Engine]
"""Opens the ONNX file that was made of a net."""
STAGES = ("det1", "det2", "det3")
_NUMBERS = {2: "scores", 4: "offsets", 10: "landmarks"}
"""The meaning of an output of so many numbers a face."""


class Stage:
    """One net in its runtime: images in, its outputs by meaning out ("scores", "offsets", "landmarks").

    Runs on the thread that calls it, and may be called from several at once.
    """

    def __init__(self, net: Net, wanted: tuple[str, ...], open_net: OpenNet) -> None:
        self.size = _input_size(net)
        outputs = {_NUMBERS.get(net.blob_shapes[name][1], ""): name for name in net.outputs}
        if missing := [meaning for meaning in wanted if meaning not in outputs]:
            raise DataError(
                f'{net.weights_path}: net "{net.name}" is not what MTCNN has in this place: it has no output for '
                f"{', '.join(missing)}; its outputs are {', '.join(net.outputs)}"
            )
        self._meanings = {meaning: outputs[meaning] for meaning in wanted}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "net.onnx")
            turned = upright(net)
            turned.to_onnx(path, mean=MEAN, scale=SCALE, rgb=True)
            self._engine = open_net(path, turned)
        self.runtime = self._engine.title
        self._input = net.inputs[0]
        self.checksum = zlib.crc32(b"".join(param.data.tobytes() for param in net.params))

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """images: (N, H, W, 3) BGR uint8. Every output has N as its first axis."""
        x = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
        outputs = self._engine.run(list(self._meanings.values()), {self._input: x})
        return dict(zip(self._meanings, outputs, strict=True))


def _input_size(net: Net) -> int:
    shape = net.blob_shapes[net.inputs[0]]
    if len(net.inputs) != 1 or len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        raise DataError(f"{net.weights_path}: a net of MTCNN takes one square image of 3 channels, got {shape}")
    return shape[2]


def load_stages(
    folder: str | Path | None, providers: Sequence[str] | None = None, runtime: str = "auto", threads: int = 1
) -> tuple[Stage, Stage, Stage]:
    """PNet, RNet and ONet from ``folder`` (det1 to det3, .prototxt and .caffemodel), or from an installed package.

    Where the folder has weights only, the prototxts that come with this package serve. runtime: see
    normface.inference.choose; threads: runs that go on at the same time. providers: ONNX Runtime's, in its place.

    Raises DataError naming the file that is missing, or CaffeportError from reading it.
    """
    nets = _from_package() if folder is None else _from_folder(Path(folder))
    choice = choose(runtime, "cpu", any_size=True)

    def open_net(path: Path, net: Net) -> Engine:
        if providers is not None:
            return OnnxEngine(path, "cpu", providers)
        return open_engine(path, choice, threads, net if choice.runtime == "torch" else None)

    wanted = (("scores", "offsets"), ("scores", "offsets"), ("scores", "offsets", "landmarks"))
    pnet, rnet, onet = (Stage(net, words, open_net) for net, words in zip(nets, wanted, strict=True))
    return pnet, rnet, onet


def _from_folder(folder: Path) -> list[Net]:
    import caffeport

    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder; it should hold det1 to det3 of MTCNN, .prototxt and .caffemodel")
    nets = []
    for name in STAGES:
        weights, text = folder / f"{name}.caffemodel", folder / f"{name}.prototxt"
        if not os.path.isfile(weights):
            raise DataError(f"{weights}: missing; MTCNN's weights are {', '.join(s + '.caffemodel' for s in STAGES)}")
        with warnings.catch_warnings():  # of published weights that no text takes: RNet's landmarks
            warnings.simplefilter("ignore", caffeport.WeightsWarning)
            nets.append(caffeport.load(text if os.path.isfile(text) else OWN_NETS / text.name, weights))
    return nets


def _from_package() -> list[Net]:
    import caffeport

    nets = []
    for name, weights in zip(STAGES, installed_weights(), strict=True):
        net = caffeport.load(OWN_NETS / f"{name}.prototxt", allow_missing_weights=True)
        nets.append(net.with_weights(weights))
    return nets


def upright(net: Net) -> Net:
    """The net for images as they are: the published ones were trained on images with x and y exchanged.

    MATLAB stores columns first, so what reached Caffe was the transpose. Exchanging a kernel's two axes does
    to the weights what transposing would do to every image and every result.
    """
    changed = {}
    for layer in net.layers:
        if layer.type == "Convolution":
            changed[layer.name] = [layer.blobs[0].swapaxes(2, 3), *layer.blobs[1:]]
        elif layer.type == "InnerProduct" and len(layer.inputs[0].shape) == 4:
            weight = layer.blobs[0]
            maps = weight.reshape(weight.shape[0], *layer.inputs[0].shape[1:])
            changed[layer.name] = [maps.swapaxes(2, 3).reshape(weight.shape), *layer.blobs[1:]]
    return net.with_weights({**{x.name: x.blobs for x in net.layers if x.blobs}, **changed})
