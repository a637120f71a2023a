"""Weights as a file holds them: layers of blobs, whose numbers stay on disk until they are asked for."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np

from . import wire

Shape = tuple[int, ...]


@dataclass(slots=True)
class Run:
    """Numbers that lie one after another: ``count`` of ``dtype``, ``stride`` bytes apart."""

    start: int
    count: int
    dtype: str
    stride: int


@dataclass(slots=True)
class Blob:
    """One stored blob. ``legacy`` marks a shape from num/channels/height/width, padded to four axes."""

    shape: Shape
    legacy: bool = False
    _data: wire.Buffer = b""
    _runs: list[Run] = field(default_factory=list)

    def array(self) -> np.ndarray:
        """Return the numbers as float32, in ``shape``; read-only and without a copy where the file allows it."""
        parts = [
            np.ndarray((run.count,), run.dtype, buffer=self._data, offset=run.start, strides=(run.stride,))
            for run in self._runs
        ]
        if len(parts) == 1 and parts[0].dtype == np.float32 and parts[0].flags.c_contiguous:
            return parts[0].reshape(self.shape)
        joined = np.empty(math.prod(self.shape), np.float32)
        position = 0
        for part in parts:
            joined[position : position + part.size] = part
            position += part.size
        joined.flags.writeable = False
        return joined.reshape(self.shape)

    def fits(self, shape: Shape) -> bool:
        """Return whether a blob of ``shape`` can be meant: the same, or one of the two has axes of 1 around the other.

        Caffe's Blob::ShapeEquals allows that for leading axes of a legacy shape alone; converters and forks write
        a bias as 1x1x1xN or Nx1x1x1 in today's form too. Shapes of as many axes have to be the same: 1x4 and 4x1 are
        two inner products.
        """
        short, long = sorted((self.shape, tuple(shape)), key=len)
        if len(short) == len(long):
            return short == long
        return any(
            long == (1,) * before + short + (1,) * (len(long) - len(short) - before)
            for before in range(len(long) - len(short) + 1)
        )


@dataclass(slots=True)
class StoredLayer:
    """A layer as the weights file has it; ``type`` is a V2 name, or "" for an unknown V1 number."""

    name: str
    type: str
    blobs: list[Blob]


@dataclass(slots=True)
class Caffemodel:
    path: str
    name: str
    layers: list[StoredLayer]
    data: wire.Buffer = b""
    """The file's bytes, which stay on disk."""

    def sha256(self) -> str:
        """SHA-256 of the file as it was opened; "" of one that was put together."""
        return hashlib.sha256(self.data).hexdigest() if len(self.data) else ""

    def by_name(self) -> dict[str, list[StoredLayer]]:
        """Return the layers of each name in the file's order; of several those with blobs, if any has some."""
        named: dict[str, list[StoredLayer]] = {}
        for layer in self.layers:
            named.setdefault(layer.name, []).append(layer)
        return {name: [layer for layer in layers if layer.blobs] or layers for name, layers in named.items()}
