"""tract, on one thread, planned anew for every combination of sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..lazy import require
from .model_file import ModelFile

_TYPES = {"float32": "f32", "float16": "f16", "float64": "f64", "int64": "i64", "int32": "i32", "uint8": "u8"}


class Tract:
    """A plan of tract for the sizes of the last run."""

    about = "one thread"

    def __init__(self, file: ModelFile) -> None:
        self._tract: Any = require("tract")
        self._file = file
        self._tract.onnx().load(str(file.path))  # so that a file that it cannot read is refused here
        self._sizes: tuple[tuple[int, ...], ...] = ()
        self._plan: Any = None

    def run(self, arrays: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        sizes = tuple(array.shape for array in arrays.values())
        if self._plan is None or sizes != self._sizes:
            self._plan, self._sizes = self._planned(arrays), sizes
        return [tensor.to_numpy() for tensor in self._plan.run(list(arrays.values()))]

    def _planned(self, arrays: Mapping[str, np.ndarray]) -> Any:
        model = self._tract.onnx().load(str(self._file.path))
        for place, array in enumerate(arrays.values()):
            sizes = ",".join(map(str, array.shape))
            model.set_input_fact(place, f"{sizes}{',' * bool(sizes)}{_TYPES[array.dtype.name]}")
        for place in range(model.output_count()):
            model.set_output_fact(place, None)  # the file's have free axes
        return model.into_model().into_runnable()


def start(file: ModelFile, threads: int, net: Any = None) -> Tract:
    return Tract(file)
