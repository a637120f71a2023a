"""The base of every data layer's source. A source is a function of the batch's number, and holds no position."""

from __future__ import annotations

import os
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from caffeport import Layer
from caffeport.operators.base import Phase

from ...errors import DataError

Shape = tuple[int, ...]

DRAWS, ORDER, SKIP, ROWS, FILLING = range(5)
"""The purpose of random numbers; each has a stream of its own."""

_ORDERS = 6  # kept of a source: two epochs' of files and of rows, and some room


@dataclass(frozen=True)
class Place:
    """The surroundings of a layer: the folder of the net's text, the phase, and the seed of all that is random."""

    folder: Path
    phase: Phase
    seed: int

    def find(self, path: str, layer: Layer, what: str = "source") -> Path:
        """``path`` as Caffe would open it, from the working directory; where there is none, from the net's folder."""
        if not path:
            raise DataError(f"{layer.title}: names no {what}")
        for candidate in (Path(path), self.folder / path):
            if os.path.exists(candidate):
                return candidate
        where = "" if Path(path).is_absolute() else f" (neither from {Path.cwd()} nor from {self.folder})"
        raise DataError(f"{layer.title}: its {what} {path} does not exist{where}")


class Source:
    """Batches of one data layer. ``batch(number)`` is the same whenever and in whichever thread it is asked for."""

    def __init__(self, layer: Layer, place: Place) -> None:
        self.layer, self.place = layer, place
        self.p: Any = layer.op.p
        self.path: Path | None = None  # the file or folder that is read
        self.batch_size: int = getattr(self.p, "batch_size", 0)
        self._orders: dict[tuple[int, ...], np.ndarray] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """The number of images or rows of an epoch."""
        raise NotImplementedError

    def shapes(self) -> list[Shape]:
        """The first batch's shape of every top."""
        return [array.shape for array in self.batch(0)]

    def batch(self, number: int) -> list[np.ndarray]:
        """float32 arrays of the ``number``-th batch, one a top. Raises DataError that names what cannot be read."""
        raise NotImplementedError

    def random(self, purpose: int, *numbers: int) -> np.random.Generator:
        """A generator that depends on the seed, the phase, the layer, the purpose and ``numbers`` alone."""
        name = zlib.crc32(self.layer.name.encode())
        return np.random.default_rng([self.place.seed, self.place.phase.value, name, purpose, *numbers])

    def order(self, count: int, purpose: int, *numbers: int) -> np.ndarray:
        """A permutation of ``count`` rows; the latest few are kept, as every batch of an epoch asks for the same."""
        key = (purpose, *numbers)
        with self._lock:
            if key not in self._orders:
                while len(self._orders) >= _ORDERS:
                    del self._orders[next(iter(self._orders))]
                self._orders[key] = self.random(*key).permutation(count)
            return self._orders[key]

    def need_batch_size(self) -> None:
        if self.batch_size < 1:
            raise DataError(f"{self.layer.title}: batch_size is {self.batch_size}; expected 1 or more")
