"""The bounds of 8-bit numbers: half of a step, as the file's scales give it, and what lies beyond their range."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..lazy import LazyModule
from .bound_graph import BoundGraph, UnboundedError, attributes

onnx: Any = LazyModule("onnx")

CUT = 0.06
"""The largest part of a tensor, as a root mean square, that may lie beyond the file's range: images that are none of
the calibration's may go a little further than those; a scale that is wrong cuts off more."""


def quantised(g: BoundGraph, node: Any) -> str:
    """|q(x + e) - x| <= |e| + step / 2 within the range, and x's own way beyond it."""
    x, scale, *zero = node.input
    step = _stored(g, scale, node)
    point = _stored(g, zero[0], node) if zero and zero[0] else np.zeros(1, np.uint8)
    if step.size != 1 and x not in g.stored:
        raise UnboundedError("QuantizeLinear by channels")
    shape = _shape(g, x, step, node)
    limits = np.iinfo(point.dtype)
    ends = [(float(end) - point.astype(np.float64).reshape(-1)) * step.reshape(-1) for end in (limits.min, limits.max)]
    low, high = (g.const(end.reshape(shape)) for end in ends)
    half = g.const(step.reshape(shape) / 2)
    numbers = g.numbers(x)
    beyond = g.op("Relu", g.op("Max", g.op("Sub", numbers, high), g.op("Sub", low, numbers)))
    beyond = g.op("Mul", beyond, _few(g, beyond, numbers))
    return g.sum(g.op("Add", beyond, half), g.errors.get(x)) or half


def dequantised(g: BoundGraph, node: Any) -> str:
    """What is stored in 8 bits is off by half a step; what the graph quantised, by what it was then."""
    q, scale, *_ = node.input
    if q not in g.stored:
        return g.errors.get(q) or g.op("Mul", g.numbers(node.output[0]), g.const(0))
    step = _stored(g, scale, node)
    g.independent.add(node.output[0])
    half = g.const(np.abs(step.reshape(_shape(g, q, step, node))) / 2)
    return g.op("Expand", half, g.op("Shape", node.output[0]))


def _few(g: BoundGraph, beyond: str, numbers: str) -> str:
    """1 where what lies beyond the range is at most CUT of the numbers, else 0."""
    squares = [g.op("ReduceMean", g.op("Mul", part, part), keepdims=0) for part in (beyond, numbers)]
    allowed = g.op("Mul", squares[1], g.const(CUT * CUT))
    return g.op("Cast", g.op("LessOrEqual", squares[0], allowed), to=1)


def _stored(g: BoundGraph, name: str, node: Any) -> np.ndarray:
    if name not in g.stored:
        raise UnboundedError(f"{node.op_type} with a scale that is computed")
    return np.asarray(onnx.numpy_helper.to_array(g.stored[name]))


def _shape(g: BoundGraph, x: str, step: np.ndarray, node: Any) -> tuple[int, ...]:
    """The shape in which one step for each channel fits the tensor."""
    if step.size == 1:
        return ()
    rank = len(g.stored[x].dims)
    axis = attributes(node).get("axis", 1) % rank
    return tuple(step.size if place == axis else 1 for place in range(rank))
