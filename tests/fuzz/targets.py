"""Every reader of a file of the user's, with small whole files to start from."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import caffeport
import numpy as np
from caffeport import CaffeportError
from support import data_writers, nets

from . import model_targets, packed_targets

OWN = (CaffeportError, caffeport.MissingDependencyError)

NET = (
    nets.inputs(data=(1, 2, 5, 5))
    + nets.conv("data", "conv", 3)
    + nets.layer("PReLU", "conv", "conv", name="relu")
    + nets.inner_product("conv", "fc", 2)
)
OLD_NET = """name: "old" input: "data" input_dim: 1 input_dim: 1 input_dim: 4 input_dim: 4
layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" blobs_lr: 1 convolution_param { num_output: 2
  kernel_size: 3 } }
layers { layer { name: "i" type: "innerproduct" num_output: 3 } bottom: "c" top: "i" }
"""


@dataclass(frozen=True)
class Target:
    """``read`` takes the path of a file whose name ends in ``suffix``; ``whole`` gives files that it reads."""

    name: str
    suffix: str
    read: Callable[[Path], object]
    whole: Callable[[], list[bytes]]


def run(target: Target, path: Path) -> str:
    """Read the file; return "" or the name of the package's own error, whose message is one short line.

    Raises AssertionError for a message that is not, and whatever else the reader raises.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(path)
    except OWN as error:
        message = str(error)
        assert len(message) < 4000, f"a message of {len(message)} characters: {message[:300]}"
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", message), repr(message[:300])
        return type(error).__name__
    return ""


# Caffe's files


@cache
def net() -> caffeport.Net:
    """Return the net that weights and exported files are read for."""
    with tempfile.TemporaryDirectory() as folder:
        return nets.load(Path(folder), NET)


def _saved(suffix: str) -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these weights are the fillers'
        path = Path(folder) / f"file{suffix}"
        if suffix == ".onnx":
            net().to_onnx(path)
        elif suffix == ".caffemodel":
            net().save(path)
        else:
            from caffeport.to_torch.file import save_torch

            save_torch(net(), path)
        return [path.read_bytes()]


def _solverstate() -> list[bytes]:
    blob = b"\x3a\x04\x0a\x02\x01\x01\x2a\x04" + struct.pack("<f", 0.5)
    name = b"x.caffemodel"
    head = b"\x08\x05\x12" + bytes([len(name)]) + name
    return [head + b"\x1a" + bytes([len(blob)]) + blob + b"\x20\x01"]


def _load(path: Path) -> None:
    loaded = caffeport.load(path)
    loaded.to_onnx(path.with_suffix(".onnx"))


def _with_weights(path: Path) -> None:
    text = path.with_suffix(".prototxt")
    text.write_text(NET)
    caffeport.load(text, path).blob_shapes  # noqa: B018


def _check_onnx(path: Path) -> None:
    caffeport.check(net(), backends=("torch",), onnx=path)


def _check_torch(path: Path) -> None:
    caffeport.check(net(), backends=("torch",), torch=path)


# Images and lists


def _images(path: Path) -> None:
    from normface.data import open_reader

    images = open_reader(path)
    for index in range(min(len(images), 3)):
        images.read(index)


def _list(path: Path) -> None:
    image = path.with_name("a.png")
    if not image.exists():
        image.write_bytes(data_writers.encoded(data_writers.random_image(0, 4, 3)))
    _images(path)


def _decode(path: Path) -> None:
    from normface.data import decode

    decode(path.read_bytes(), path.name)


def _encoded() -> list[bytes]:
    image = data_writers.random_image(0, 6, 5)
    return [
        data_writers.encoded(image, suffix) for suffix in (".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm", ".gif")
    ]


def _lmdb() -> list[bytes]:
    image = data_writers.random_image(0, 4, 3)
    values = [
        data_writers.datum(image.transpose(2, 0, 1), 1),
        data_writers.datum(data_writers.encoded(image), 2, encoded=True),
        data_writers.datum(data_writers.encoded(image) + bytes(6000), 3, encoded=True),  # on pages of its own
    ]
    with tempfile.TemporaryDirectory() as folder:
        return [(data_writers.write_lmdb(Path(folder) / "db", values) / "data.mdb").read_bytes()]


def _recordio() -> list[bytes]:
    raw = data_writers.encoded(data_writers.random_image(0, 4, 3))
    return [
        b"".join(data_writers.record(data_writers.image_record(label, i, raw)) for i, label in enumerate([0.0, 1.0]))
    ]


def _zip() -> list[bytes]:
    raw = data_writers.encoded(data_writers.random_image(0, 4, 3))
    files = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            archive.writestr("a/1.png", raw)
            archive.writestr("b/2.png", raw)
        files.append(stream.getvalue())
    return files


def _npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _bin() -> list[bytes]:
    images = [data_writers.encoded(data_writers.random_image(i, 4, 4)) for i in range(4)]
    return [pickle.dumps((images, [True, False]), protocol) for protocol in (2, 4)]


def _mat() -> list[bytes]:
    from scipy.io import savemat

    stream, packed = io.BytesIO(), io.BytesIO()
    names = np.array([["a.jpg"], ["b.jpg"], ["c.jpg"]], object)
    content: dict[str, Any] = {"imageList": names, "labels": np.array([1.0, 1, 2])}
    for name, numbers in {"testIndex": [1, 2, 3], "galIndex": [1], "probIndex": [2]}.items():
        content[name] = np.empty((1, 1), object)
        content[name][0, 0] = np.array([numbers], float)
    savemat(stream, content)
    savemat(packed, content, do_compression=True)
    return [stream.getvalue(), packed.getvalue()]


def _hdf5() -> list[bytes]:
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for blob in net().params:
            file[f"data/{blob.layer}/{0 if blob.name == 'weight' else 1}"] = blob.data
    return [stream.getvalue()]


def _calibration() -> list[bytes]:
    return [b'{"thresholds": {"0.001": 0.5}}']


def _results() -> bytes:
    whole: dict[str, Any] = {
        "experiment": "case",
        "title": "t",
        "command": "c",
        "claim": "c",
        "finding": "f",
        "measured": {},
    }
    return json.dumps(
        whole | {"figures": [], "timings": {"seconds": 1.0}, "seed": 0, "full": False, "holds": None}
    ).encode()


def _safe_unpickled(path: Path) -> None:
    from caffeport.parity.written_torch import run as run_file

    run_file(net(), path, {"data": np.zeros((1, 2, 5, 5), np.float32)})


def targets() -> dict[str, Target]:
    """Return {name: target}; what they need of normface is imported here, which takes seconds."""
    from caffeport.formats.caffemodel import read as read_weights
    from caffeport.formats.caffemodel import read_binaryproto
    from normface.alignment.landmarks import read_landmarks
    from normface.evaluate.bin_sets import read_bin
    from normface.evaluate.blufr_config import read_config
    from normface.evaluate.lfw import read_pairs
    from normface.evaluate.ytf import read_splits
    from normface.features import load_features
    from normface.finetune import config_file
    from normface.recognise import threshold_for
    from normface.solver.state import read as read_state

    from experiments.gallery import read_results

    features = {"features": np.ones((2, 3), np.float32), "names": np.array(["a", "b"])}
    text = [NET.encode(), OLD_NET.encode()]
    rows: list[tuple[str, str, Callable[[Path], Any], Callable[[], list[bytes]]]] = [
        ("prototxt", ".prototxt", caffeport.read_prototxt, lambda: text),
        ("net", ".prototxt", _load, lambda: text),
        ("caffemodel", ".caffemodel", read_weights, lambda: _saved(".caffemodel")),
        ("weights", ".caffemodel", _with_weights, lambda: _saved(".caffemodel")),
        ("hdf5-weights", ".caffemodel.h5", read_weights, _hdf5),
        ("mean", ".binaryproto", read_binaryproto, lambda: [b"\x08\x01\x10\x01\x18\x02\x20\x01\x2a\x08" + bytes(8)]),
        ("onnx", ".onnx", _check_onnx, lambda: _saved(".onnx")),
        ("safetensors", ".safetensors", _check_torch, lambda: _saved(".safetensors")),
        ("pth", ".pth", _safe_unpickled, lambda: _saved(".pth")),
        ("image", ".img", _decode, _encoded),
        ("lmdb", ".mdb", _images, _lmdb),
        ("recordio", ".rec", _images, _recordio),
        ("zip", ".zip", _images, _zip),
        ("list", ".txt", _list, lambda: [b"a.png 0\na.png 1\n", b"a.png\n"]),
        ("bin", ".bin", read_bin, _bin),
        ("features", ".npz", load_features, lambda: [_npz(**features)]),
        ("mat", ".mat", read_config, _mat),
        ("pairs", ".txt", read_pairs, lambda: [b"1 1\na\t1\t2\na\t1\tb\t2\n"]),
        ("splits", ".txt", read_splits, lambda: [b"1, 1, a/1, b/1, 0\n1, 2, a/1, a/2, 1\n"]),
        ("landmarks", ".json", read_landmarks, lambda: [b'{"a.jpg": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}']),
        ("calibration", ".json", lambda path: threshold_for(1e-3, calibration=path), _calibration),
        ("results", ".json", read_results, lambda: [_results()]),
        ("solverstate", ".solverstate", read_state, _solverstate),
        ("config", ".toml", config_file.read, lambda: [b'steps = 10\nloss = "normalized-softmax"\nlr = 0.1\n']),
    ]  # fmt: skip
    rows += packed_targets.rows(_images) + model_targets.rows()
    return {name: Target(name, suffix, read, whole) for name, suffix, read, whole in rows}
