"""What a snapshot holds: Caffe's own fields, and what else a run needs to go on to the same numbers.

The latter is a tree, packed as the bytes of an ``.npz``: arrays, and one JSON text. No pickle is written or read.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..npz import read_arrays

_JSON = "json"


@dataclass
class SolverState:
    """``history`` in Caffe's order: one for every blob of the net, then the second ones of AdaDelta and Adam.

    extras: a tree of dicts of numbers, strings, lists and arrays.
    """

    iteration: int
    learned_net: str
    current_step: int = 0
    history: list[np.ndarray] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)


def pack(extras: dict[str, Any]) -> bytes:
    """Return the bytes of a tree of dicts of numbers, strings, lists and arrays."""
    arrays: list[np.ndarray] = []

    def lift(node: Any) -> Any:
        """The tree with arrays taken out: {"array": its number}."""
        if isinstance(node, np.ndarray):
            arrays.append(node)
            return {"array": len(arrays) - 1}
        if isinstance(node, dict):
            return {"dict": {str(key): lift(value) for key, value in node.items()}}
        if isinstance(node, (list, tuple)):
            return {"list": [lift(value) for value in node]}
        return node.item() if isinstance(node, np.generic) else node

    text = json.dumps(lift(extras))
    stream = io.BytesIO()
    named: dict[str, Any] = {_JSON: np.frombuffer(text.encode(), np.uint8)}
    named.update((str(i), array) for i, array in enumerate(arrays))
    np.savez_compressed(stream, **named)
    return stream.getvalue()


def unpack(raw: bytes) -> dict[str, Any]:
    """Return the tree again. Raises ValueError and the like for bytes that are none."""
    stored = read_arrays(io.BytesIO(raw), len(raw))
    text = json.loads(stored[_JSON].tobytes())

    def place(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        if len(node) != 1:
            raise ValueError("its extras are damaged")
        ((kind, value),) = node.items()
        if kind == "array":
            return stored[str(value)]
        if kind == "list":
            return [place(entry) for entry in value]
        return {key: place(entry) for key, entry in value.items()}

    values = place(text)
    if not isinstance(values, dict):
        raise ValueError("its extras are no table")
    return values
