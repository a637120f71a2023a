"""MNN on the CPU: its converter first, then its own file."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..lazy import require
from .known import ModelRunError
from .model_file import ModelFile
from .tool import run_tool

_CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv)"
"""MNN's converter as a program. Its own start script, mnnconvert, sends what it has done to its makers."""


class Mnn:
    """A module of MNN."""

    about = ""

    def __init__(self, file: ModelFile, threads: int) -> None:
        networks = require("MNN.nn")
        self._expr: Any = require("MNN.expr")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.mnn"
            words = ["-f", "ONNX", "--modelFile", str(file.path.resolve()), "--MNNModel", str(path)]
            output = run_tool([sys.executable, "-c", _CONVERT, *words, "--bizCode", "caffeport"], folder)
            if not path.is_file():
                raise ModelRunError(f"MNN's converter does not take {file.path}: {_complaint(output)}")
            settings = {"precision": "high", "backend": "CPU", "numThread": threads}
            self._manager = networks.create_runtime_manager((settings,))
            self._module: Any = networks.load_module_from_file(
                str(path),
                [port.name for port in file.inputs],
                [port.name for port in file.outputs],
                runtime_manager=self._manager,
            )

    def run(self, arrays: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        planar = self._expr.NCHW
        inputs = [self._expr.const(array, list(array.shape), planar) for array in arrays.values()]
        outputs = self._module.onForward(inputs)
        return [np.array(self._expr.convert(output, planar).read()) for output in outputs]


def _complaint(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    faults = [line for line in lines if any(word in line.lower() for word in ("error", "not support", "fail"))]
    return (faults or lines or ["it said nothing"])[0][:300]


def start(file: ModelFile, threads: int, net: Any = None) -> Mnn:
    return Mnn(file, threads)
