"""Reading files in a process of their own: what each raises, its seconds of processor time, and the memory it takes.

``python bounded_reads.py`` takes ``[[reader, path], ...]`` as JSON on standard input and prints a JSON list in the
same order. The process has 2 GiB of addresses from its start on, of which Python, torch and OpenCV take 1.2.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADDRESSES = 2 << 30


@dataclass(frozen=True)
class Reading:
    """``error`` is the exception's class, "" where there was none; ``megabytes`` what the peak lies above the start."""

    error: str
    message: str
    seconds: float
    megabytes: float
    bytes_seconds: float
    """What it took to read the file's bytes and their SHA-256, as one who checks a download does."""


def readings(wanted: list[tuple[str, Path]]) -> list[Reading]:
    """Read one after the other in a new process."""
    asked = json.dumps([[reader, str(path)] for reader, path in wanted])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # a thread has addresses, too
    done = subprocess.run(
        [sys.executable, __file__], input=asked, capture_output=True, text=True, timeout=900, env=environment
    )
    assert done.returncode == 0, f"{done.stdout[-200:]}{done.stderr[-2000:]}"
    return [Reading(**one) for one in json.loads(done.stdout)]


def _images(path: Path) -> None:
    from normface.data import open_reader  # which does not load torch

    images = open_reader(path)
    for index in range(min(len(images), 20)):
        images.read(index)


def _hdf5(path: Path) -> None:
    import caffeport
    from normface.data.caffe import Feed

    path.with_suffix(".list").write_text(str(path))
    text = (
        f'layer {{ name: "d" type: "HDF5Data" top: "data" hdf5_data_param {{ source: "{path.with_suffix(".list")}" '
        "batch_size: 1 } }"
    )
    path.with_suffix(".prototxt").write_text(text)
    net = caffeport.load(path.with_suffix(".prototxt"), input_shapes={"data": (1, 4)})
    next(iter(Feed(net)))


def _index(path: Path) -> None:
    """A file of an index, which is searched as a whole."""
    import numpy as np
    from normface.recognise import IndexedGallery

    folder = path.parent if path.name == "index.json" else path.parent.parent
    gallery = IndexedGallery(folder)
    gallery.nearest(np.random.default_rng(0).normal(size=(20, gallery.manifest.dimension)), 10)


def _head(path: Path) -> None:
    """The class weights that a finetuning starts from."""
    from normface.finetune import head_file
    from normface.losses import NormalizedSoftmaxLoss

    head_file.read(path, NormalizedSoftmaxLoss(4, 5))


def _onnx(path: Path) -> None:
    from normface.features import Extractor

    Extractor(path, mean=128, scale=1 / 128, rgb=False, device="cpu", runtime="onnxruntime", threads=1)


def _torch(path: Path) -> None:
    """Weights that were written for torch."""
    import caffeport

    text = path.with_suffix(".prototxt")
    text.write_text('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }\n'
                    'layer { name: "y" type: "InnerProduct" bottom: "x" top: "y" '
                    'inner_product_param { num_output: 1 } }')  # fmt: skip
    caffeport.check(caffeport.load(text), backends=("torch",), torch=path)


def _readers() -> dict[str, Any]:
    from caffeport.formats.caffemodel import read as read_weights
    from normface.alignment.landmarks import read_landmarks
    from normface.evaluate.bin_sets import read_bin
    from normface.evaluate.blufr_config import read_config
    from normface.evaluate.lfw import read_pairs
    from normface.evaluate.ytf import read_splits
    from normface.features import load_features
    from normface.recognise import threshold_for
    from normface.solver.state import read as read_state

    from experiments.gallery import read_results
    from experiments.mnist import read_idx

    return {
        "bin": read_bin,
        "calibration": lambda path: threshold_for(1e-3, calibration=path),
        "features": load_features,
        "hdf5": _hdf5,
        "head": _head,
        "index": _index,
        "idx": lambda path: read_idx(path, 3),
        "landmarks": read_landmarks,
        "list": _images,
        "mat": read_config,
        "net": _net,
        "onnx": _onnx,
        "pairs": read_pairs,
        "images": _images,
        "results": read_results,
        "solverstate": read_state,
        "splits": read_splits,
        "torch": _torch,
        "weights": read_weights,
    }


def _memory(field: str) -> int:
    """Return kilobytes, by Linux's own account."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def _measured(read: Any, path: Path) -> dict[str, Any]:
    start = time.process_time()
    for file in [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]:
        hashlib.sha256(file.read_bytes()).digest()
    bytes_seconds = time.process_time() - start
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now on
    before, start = _memory("VmHWM"), time.process_time()
    error = message = ""
    try:
        read(path)
    except Exception as raised:
        error, message = type(raised).__name__, str(raised)
    seconds = time.process_time() - start
    return {
        "error": error,
        "message": message,
        "seconds": seconds,
        "megabytes": (_memory("VmHWM") - before) / 1024,
        "bytes_seconds": bytes_seconds,
    }


def _net(path: Path) -> None:
    """Compare torch and ONNX Runtime, which takes everything that a net can be asked for."""
    import caffeport

    caffeport.check(caffeport.load(path), backends=("torch", "onnx"))


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))  # whatever it then loads
    import cv2
    import numpy as np
    import torch

    torch.set_num_threads(1)

    wanted = json.load(sys.stdin)
    warnings.simplefilter("ignore")
    if any(reader == "index" for reader, _ in wanted):
        import faiss  # noqa: F401 - whose libraries are no part of what a file takes
    cv2.setNumThreads(1)
    cv2.imdecode(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1], cv2.IMREAD_COLOR)  # loads what it needs
    known = _readers()
    with tempfile.TemporaryDirectory() as folder:  # what a first net loads is no net's own
        first = Path(folder) / "net.prototxt"
        first.write_text('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }\n'
                         'layer { name: "y" type: "ReLU" bottom: "x" top: "y" }')  # fmt: skip
        _net(first)
    print(json.dumps([_measured(known[reader], Path(path)) for reader, path in wanted]))


if __name__ == "__main__":
    main()
