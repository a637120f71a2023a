"""The HDF5Data layer: rows of the data sets that are called like its tops, from the files of a list."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from caffeport import Layer, MissingDependencyError
from caffeport.errors import shape_text

from ...errors import DataError
from ...reading import opened, parsing, printable, read_file, unpacked_limit
from .source import ORDER, ROWS, Place, Source

_KEPT = 2  # files held in memory: a batch may end one and begin the next


class HDF5Data(Source):
    """Files one after another, each read whole, row by row. With shuffle files and rows come in another order every
    epoch; the orders are not Caffe's (those depend on its C++ library), but the same for the same seed."""

    def __init__(self, layer: Layer, place: Place) -> None:
        super().__init__(layer, place)
        self.need_batch_size()
        if layer.op.context.transform is not None:
            raise DataError(f"{layer.title}: has a transform_param, and HDF5Data does not transform; take it out")
        self.path = place.find(self.p.source, layer)
        self._files = [self._find(name) for name in os.fsdecode(read_file(self.path)).split()]
        if not self._files:
            raise DataError(f"{self.path}: names no HDF5 file; expected one on each line")
        self._shapes = [self._look(path) for path in self._files]
        for path, shapes in zip(self._files, self._shapes, strict=True):
            for name, shape, first in zip(layer.tops, shapes, self._shapes[0], strict=True):
                if shape[1:] != first[1:]:
                    got, want = shape_text(shape[1:]), shape_text(first[1:])
                    raise DataError(f'{path}: rows of "{name}" are {got}, and those of {self._files[0]} are {want}')
        self._counts = [shapes[0][0] for shapes in self._shapes]
        self._kept: dict[int, list[np.ndarray]] = {}
        self._loading = threading.Lock()

    def __len__(self) -> int:
        return sum(self._counts)

    def shapes(self) -> list[tuple[int, ...]]:
        return [(self.batch_size, *shape[1:]) for shape in self._shapes[0]]

    def batch(self, number: int) -> list[np.ndarray]:
        out = [np.empty(shape, np.float32) for shape in self.shapes()]
        filled = 0
        while filled < self.batch_size:
            epoch, row = divmod(number * self.batch_size + filled, len(self))
            for file in self._file_order(epoch).tolist():
                if row < self._counts[file]:
                    break
                row -= self._counts[file]
            count = min(self.batch_size - filled, self._counts[file] - row)
            rows = self._row_order(epoch, file)[row : row + count]
            for array, stored in zip(out, self._load(file), strict=True):
                array[filled : filled + count] = stored[rows]
            filled += count
        return out

    def _file_order(self, epoch: int) -> np.ndarray:
        files = len(self._files)
        return self.order(files, ORDER, epoch) if self.p.shuffle else np.arange(files)

    def _row_order(self, epoch: int, file: int) -> np.ndarray:
        count = self._counts[file]
        return self.order(count, ROWS, epoch, file) if self.p.shuffle else np.arange(count)

    def _load(self, file: int) -> list[np.ndarray]:
        with self._loading:
            if file not in self._kept:
                while len(self._kept) >= _KEPT:
                    del self._kept[next(iter(self._kept))]
                self._kept[file] = self._open(self._files[file], lambda data: np.asarray(data, np.float32))
            return self._kept[file]

    def _look(self, path: Path) -> list[tuple[int, ...]]:
        shapes = self._open(path, lambda data: tuple(data.shape))
        if len({shape[0] for shape in shapes}) != 1:
            rows = ", ".join(f"{name} {shape[0]}" for name, shape in zip(self.layer.tops, shapes, strict=True))
            raise DataError(f"{path}: its data sets have different numbers of rows ({rows})")
        if not shapes[0][0]:
            raise DataError(f"{path}: has no rows")
        return shapes

    def _open(self, path: Path, take: Any) -> list[Any]:
        """``take(data set)`` of every top's data set, checked. Raises DataError that names the file."""
        try:
            import h5py
        except ImportError as error:
            advice = "HDF5Data needs h5py; install it: pip install h5py"
            raise MissingDependencyError(f"{self.layer.title}: {advice}") from error
        with opened(path) as (_, size), parsing(path, "cannot be read as HDF5"), h5py.File(path, "r") as file:
            sets = [_data_set(file, name, path) for name in self.layer.tops]
            declared = sum(4 * data.size for data in sets)  # float32, as they are taken
            if declared > unpacked_limit(size):
                problem = f"its data sets declare {declared} bytes, far more than a file of {size} bytes holds"
                raise DataError(f"{path}: {problem}")
            return [take(data) for data in sets]

    def _find(self, name: str) -> Path:
        assert self.path is not None
        beside = self.path.parent / name
        if not os.path.exists(name) and os.path.exists(beside):
            return beside
        return self.place.find(name, self.layer, "file")


def _data_set(file: Any, name: str, path: Path) -> Any:
    data = file.get(name)
    if data is None or not hasattr(data, "shape"):
        raise DataError(f'{path}: has no data set "{name}"; it has {printable(", ".join(sorted(file)) or "none")}')
    if data.dtype.kind not in "fiu" or not data.shape:
        raise DataError(f'{path}: "{name}" is {data.dtype} {data.shape}; expected rows of numbers')
    return data
