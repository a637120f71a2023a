"""PRelu in ONNX files of other tools, rewritten for ONNX Runtime on a CPU: face nets run in half the time.

caffeport writes files that need none of this. Others, such as torch's exporter, write PRelu, which takes more than half
of MobileFaceNet's time in ONNX Runtime (10.6 ms to 4.4 on one core), since the blocked layout of the convolutions
around it is undone and done again. max(x, 0) - a max(-x, 0) is five operators that do not, with the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from caffeport.naming import Names

LARGEST = 1 << 30
"""Bytes of a model that is read for it; a larger one runs as it is."""
OLDEST = 9
"""The opset from which PRelu's slope is as it is today."""


def with_fast_prelu(path: str | Path) -> str | bytes:
    """Return what an InferenceSession takes: the rewritten model, or the path where there is nothing to rewrite.

    Left alone: a slope that is computed, weights in files of their own, and everything where onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        return str(path)
    if Path(path).stat().st_size > LARGEST:
        return str(path)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception:  # protobuf has no error of its own; ONNX Runtime says what is wrong with the file
        return str(path)
    opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
    outside = any(one.data_location == onnx.TensorProto.EXTERNAL for one in model.graph.initializer)
    if opset < OLDEST or outside or not _rewrite(onnx, model.graph):
        return str(path)
    return model.SerializeToString()


def _rewrite(onnx: Any, graph: Any) -> int:
    """Return how many there were."""
    slopes = {one.name: one for one in graph.initializer}
    overridable = {one.name for one in graph.input}
    names = Names(_all_names(graph))
    nodes, used, count = [], set(), 0
    for node in graph.node:
        slope = slopes.get(node.input[1]) if node.op_type == "PRelu" and node.domain in ("", "ai.onnx") else None
        if slope is None or slope.name in overridable:
            nodes.append(node)
            used.update(node.input)
            continue
        count += 1
        x, y = node.input[0], node.output[0]
        values = onnx.numpy_helper.to_array(slope)
        ends = ("minus", "slope", "turned", "below", "scaled", "above", "sum")
        minus, a, turned, below, scaled, above, last = (names.take(f"fast_prelu_{count}/{end}") for end in ends)
        for name, array in ((minus, np.full_like(values, -1)), (a, -values)):
            graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        for kind, inputs, output, name in (
            ("Mul", [x, minus], turned, turned),
            ("Relu", [turned], below, below),
            ("Mul", [below, a], scaled, scaled),
            ("Relu", [x], above, above),
            ("Add", [above, scaled], y, last),
        ):
            nodes.append(onnx.helper.make_node(kind, inputs, [output], name))
            used.update(inputs)
    if count:
        # Slopes that nobody reads any more; those read within a node's own graph (If, Loop) keep their PRelu there.
        inner = {name for node in nodes for attribute in node.attribute for name in _names(attribute)}
        initializers = [one for one in graph.initializer if one.name in used | inner]
        del graph.initializer[:], graph.node[:]
        graph.initializer.extend(initializers)
        graph.node.extend(nodes)
    return count


def _all_names(graph: Any) -> Iterator[str]:
    """Return all names in the graph, those of the graphs within its nodes included."""
    for one in (*graph.input, *graph.output, *graph.initializer):
        yield one.name
    for node in graph.node:
        yield node.name
        yield from node.output
        for attribute in node.attribute:
            for within in (attribute.g, *attribute.graphs):
                yield from _all_names(within)


def _names(attribute: Any) -> set[str]:
    """Return the names that the graph in an attribute reads."""
    nodes = [node for graph in (attribute.g, *attribute.graphs) for node in graph.node]
    return {name for node in nodes for name in node.input} | {
        name for node in nodes for within in node.attribute for name in _names(within)
    }
