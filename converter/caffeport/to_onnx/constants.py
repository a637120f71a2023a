"""Nodes that read constants alone, computed once when the file is written: not every runtime does it by itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ..lazy import LazyModule
from ..operators.onnx_builder import Emitter, Node, Tensor

onnx: Any = LazyModule("onnx")
evaluation: Any = LazyModule("onnx.reference")

MOST_NUMBERS = 1 << 18
"""A larger constant costs more in the file than its node in a run."""


def fold_constants(g: Emitter, named: Collection[str]) -> None:
    """Replace every node whose inputs are all constants by what it gives, as onnx's reference implementation has it.

    named: what blobs are called; one that is constant comes from an Identity, so that it can be compared.
    """
    kept: list[Node] = []
    known = dict(g.constants)  # with those of blobs
    for node in g.nodes:
        results = _results(known, node, g.opset)
        if results is None or node.op == "Identity":
            kept.append(node)
            known.update(zip((output.name for output in node.outputs), results or [], strict=False))
            continue
        for output, array in zip(node.outputs, results, strict=True):
            if output.name not in named:
                g.constants[output.name] = known[output.name] = array
                continue
            source = Tensor(g.fresh(f"{output.name}/constant"), array.shape, dtype=array.dtype, array=array)
            g.constants[source.name] = known[output.name] = array
            kept.append(Node("Identity", [source], {}, g.fresh(f"{output.name}/Identity"), [output]))
    g.nodes = kept


def _results(numbers: Mapping[str, np.ndarray], node: Node, opset: int) -> list[np.ndarray] | None:
    """Return what the node gives; None where that is no constant, or a large one."""
    names = ["" if x is None else x.name for x in node.inputs]
    if not names or "body" in node.attributes or any(name and name not in numbers for name in names):
        return None
    outputs = [output.name for output in node.outputs]
    single = onnx.helper.make_node(node.op, names, outputs, **node.attributes)
    graph = onnx.helper.make_graph([single], "one", [], [onnx.ValueInfoProto(name=name) for name in outputs])
    for name in dict.fromkeys(filter(None, names)):
        graph.initializer.append(onnx.numpy_helper.from_array(numbers[name], name))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"):
        results = [np.asarray(array) for array in evaluation.ReferenceEvaluator(model).run(None, {})]
    return None if sum(array.size for array in results) > MOST_NUMBERS else results
