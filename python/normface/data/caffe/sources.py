"""The data layers that have a source here, and what to say of those that have none."""

from __future__ import annotations

from caffeport import Layer
from caffeport.operators.base import Role

from ...errors import DataError
from .dummy import DummyData
from .hdf5 import HDF5Data
from .images import Data, ImageData
from .source import Place, Source

SOURCES: dict[str, type[Source]] = {
    "Data": Data,
    "DummyData": DummyData,
    "HDF5Data": HDF5Data,
    "ImageData": ImageData,
}

_WITHOUT = {
    "Input": "has no source of its own: hand its batches over in Python (Solver.step), or give the net a data layer",
    "MemoryData": "takes what a program hands it: hand its batches over in Python (Solver.step)",
    "WindowData": "is not read here; cut the windows out once and list them for an ImageData layer",
}


def open_sources(layers: list[Layer], place: Place) -> list[Source]:
    """The source of every data layer among ``layers``. Raises DataError for a layer that has none."""
    data_layers = [layer for layer in layers if layer.op.role is Role.DATA]
    if not data_layers:
        raise DataError(f"the net has no data layer in the {place.phase.name} phase; expected {', '.join(SOURCES)}")
    for layer in data_layers:
        if layer.type not in SOURCES:
            problem = _WITHOUT.get(layer.type, f"is a data layer without a source here; known: {', '.join(SOURCES)}")
            raise DataError(f"{layer.title}: {problem}")
    return [SOURCES[layer.type](layer, place) for layer in data_layers]
