"""The DummyData layer: what its fillers make; constants once, everything else anew for every batch."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from caffeport import Layer
from caffeport.operators.data import DataLayer
from caffeport.operators.fillers import FillerParameter, fill

from ...errors import DataError
from .source import FILLING, Place, Source


class DummyData(Source):
    """Made-up blobs, of 0 where no filler is given."""

    def __init__(self, layer: Layer, place: Place) -> None:
        super().__init__(layer, place)
        self._shapes: list[Any] = [tuple(shape or ()) for shape in cast(DataLayer, layer.op).declared_shapes()]
        fillers = self.p.data_filler or [FillerParameter()]
        if len(fillers) not in (1, len(self._shapes)):
            raise DataError(f"{layer.title}: has {len(fillers)} data_fillers; expected 0, 1 or {len(self._shapes)}")
        self._fillers = fillers * len(self._shapes) if len(fillers) == 1 else fillers
        self.batch_size = self._shapes[0][0] if self._shapes[0] else 1

    def __len__(self) -> int:
        return self.batch_size

    def shapes(self) -> list[tuple[int, ...]]:
        return self._shapes

    def batch(self, number: int) -> list[np.ndarray]:
        pairs = enumerate(zip(self._fillers, self._shapes, strict=True))
        return [fill(filler, shape, self.random(FILLING, number, top)) for top, (filler, shape) in pairs]
