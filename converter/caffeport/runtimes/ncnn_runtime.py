"""ncnn on the CPU: pnnx makes its files for the sizes that it meets, and it takes one image at a time."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..lazy import require
from .known import ModelRunError
from .model_file import ModelFile, Port
from .tool import run_tool

_HALF = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage")


class Ncnn:
    """A net of ncnn for the sizes of the last run; a batch runs image by image, since its arrays have no such axis."""

    about = "image by image"

    def __init__(self, file: ModelFile, threads: int) -> None:
        self._ncnn: Any = require("ncnn")
        self._file, self._threads = file, threads
        self._sizes: tuple[tuple[int, ...], ...] = ()
        self._net: Any = None

    def run(self, arrays: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        counts = {len(array) for array in arrays.values() if array.ndim}
        if len(counts) != 1:
            raise ModelRunError(
                f"ncnn takes one image at a time, and {self._file.path} has inputs without one batch axis"
            )
        sizes = tuple(array.shape[1:] for array in arrays.values())
        if self._net is None or sizes != self._sizes:
            self._net, self._sizes = self._converted(arrays), sizes
        images = [self._image({name: array[i] for name, array in arrays.items()}) for i in range(counts.pop())]
        return [np.stack(column) for column in zip(*images, strict=True)]

    def _image(self, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        extractor = self._net.create_extractor()
        for place, array in enumerate(arrays.values()):
            extractor.input(f"in{place}", self._ncnn.Mat(array))
        results = []
        for place in range(len(self._file.outputs)):
            code, result = extractor.extract(f"out{place}")
            if code != 0:
                raise ModelRunError(f"ncnn does not run {self._file.path}: it ends with {code}")
            results.append(_as_declared(np.array(result), self._file.outputs[place]))
        return results

    def _converted(self, arrays: Mapping[str, np.ndarray]) -> Any:
        origin = importlib.util.find_spec("pnnx")
        program = Path(origin.origin or "").parent / "pnnx" if origin else Path("pnnx")  # the package imports torch
        shapes = ",".join(str([1, *array.shape[1:]]).replace(" ", "") + "f32" for array in arrays.values())
        with tempfile.TemporaryDirectory() as folder:
            path = _linked(self._file.path, Path(folder))
            names = ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnparam", "ncnnbin", "ncnnpy")
            files = [f"{name}={folder}/{name}" for name in names]
            output = run_tool([program, path, f"inputshape={shapes}", "fp16=0", *files], folder)
            net = self._ncnn.Net()
            for name in _HALF:
                setattr(net.opt, name, False)
            net.opt.num_threads = self._threads
            parameters, weights = Path(folder, "ncnnparam"), Path(folder, "ncnnbin")
            if not (parameters.is_file() and weights.is_file()):
                raise ModelRunError(f"pnnx does not take {self._file.path} at {shapes}: {_last(output)}")
            if net.load_param(str(parameters)) or net.load_model(str(weights)):
                raise ModelRunError(
                    f"ncnn does not take {self._file.path}: {_foreign(parameters, self._ncnn.layer_to_index)}"
                )
        return net


def _linked(path: Path, folder: Path) -> Path:
    """A name for the model in the folder, since pnnx writes files of its own beside what it reads."""
    for one in (path, path.with_name(path.name + ".data")):
        if one.is_file():
            (folder / one.name).symlink_to(one.resolve())
    return folder / path.name


def _as_declared(array: np.ndarray, port: Port) -> np.ndarray:
    """The array of one image without axes of one number in front that the file does not have."""
    beyond = array.ndim - (len(port.shape) - 1)
    return array.reshape(array.shape[beyond:]) if beyond > 0 and array.shape[:beyond] == (1,) * beyond else array


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def _foreign(parameters: Path, known: Callable[[str], int]) -> str:
    """The layer types of the text that ncnn has not; pnnx writes those for what it has no better word for."""
    types = {line.split()[0] for line in parameters.read_text().splitlines()[2:] if line.split()}
    foreign = sorted(one for one in types if known(one) < 0)
    return f"it has no layer for {', '.join(foreign)}" if foreign else "the files that pnnx has made do not load"


def start(file: ModelFile, threads: int, net: Any = None) -> Ncnn:
    return Ncnn(file, threads)
