"""How many parts an ONNX file has (onnx.proto's ModelProto): a node may take two bytes, and a kilobyte in memory."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Mapping
from pathlib import Path

from . import wire

MOST_ENTRIES = 50_000
"""Nodes, weights and whatever else a graph lists: a net of a thousand layers has 5,000."""
MOST_FIELDS = 500_000
"""Of all of those together. What a tensor holds is packed, and not looked at."""
_GRAPH, _NODE, _ATTRIBUTE = "graph", "node", "attribute"
_INNER: Mapping[str, Mapping[int, str]] = {
    "model": {7: _GRAPH},
    _GRAPH: {1: _NODE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {6: _GRAPH, 11: _GRAPH},
}


def refuse_many(path: str | Path) -> None:
    """Raise ValueError for a file with more parts than any model has; what is no ONNX file, or is damaged, passes."""
    with open(path, "rb") as stream:
        if not stream.seek(0, 2):
            return
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data, contextlib.suppress(wire.WireError):
            _count(data)


def _count(data: mmap.mmap) -> None:
    entries = fields = 0
    waiting = [("model", 0, len(data))]
    while waiting:
        message, start, end = waiting.pop()
        for number, kind, first, last in wire.fields(data, start, end):
            fields += 1
            entries += message == _GRAPH
            if entries > MOST_ENTRIES:
                raise ValueError(f"its graph lists more than {MOST_ENTRIES} nodes, weights and values")
            if fields > MOST_FIELDS:
                raise ValueError(f"it has more than {MOST_FIELDS} parts")
            inner = _INNER[message].get(number) if kind == wire.LENGTH else None
            if inner is not None:
                waiting.append((inner, first, last))
