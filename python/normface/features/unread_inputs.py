"""Inputs of an ONNX file that the feature does not depend on (a label), which ONNX Runtime wants all the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from caffeport.lazy import require


@dataclass(frozen=True)
class UnreadInput:
    """One such input; an axis of any size is None in ``dims``."""

    dtype: Any
    dims: tuple[int | None, ...]

    def zeros(self, batch: int) -> np.ndarray:
        """Return what ONNX Runtime takes for it beside ``batch`` images."""
        free = [batch, *[1] * len(self.dims)]
        return np.zeros([free[axis] if dim is None else dim for axis, dim in enumerate(self.dims)], self.dtype)


def unread_inputs(path: Path, output: str) -> dict[str, UnreadInput]:
    """Return {name: input} of those that ``output`` does not depend on."""
    onnx = require("onnx")
    graph = onnx.load(str(path), load_external_data=False).graph
    makers = {name: node for node in graph.node for name in node.output}
    read: set[str] = set()
    open_names = [output]
    while open_names:
        name = open_names.pop()
        if name not in read:
            read.add(name)
            open_names += names_read(makers[name]) if name in makers else []
    unread = {}
    for one in graph.input:
        if one.name not in read:
            tensor = one.type.tensor_type
            dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
            unread[one.name] = UnreadInput(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), dims)
    return unread


def names_read(node: Any) -> list[str]:
    """Return what a node reads, the graphs within it included."""
    graphs = [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)]
    within = [name for graph in graphs for inner in graph.node for name in names_read(inner)]
    returned = [one.name for graph in graphs for one in graph.output]  # a branch may return an outer value as it is
    return [*node.input, *within, *returned]
