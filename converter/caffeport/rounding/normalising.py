"""The bounds of the operators that divide by what they measure, BatchNormalization and LRN."""

from __future__ import annotations

from typing import Any

from .bound_graph import BoundGraph, UnboundedError, attributes


def batch_normalised(g: BoundGraph, node: Any) -> str:
    """y = s (x - m) / sqrt(v + eps) + b: the errors of x and m times s, those of s and v times |x| + |m|, that of b."""
    x, scale, bias, mean, variance = node.input
    if len(node.output) > 1:
        raise UnboundedError("BatchNormalization while training")
    least, factor = g.size(variance), g.size(scale)
    wrong = g.errors.get(scale)
    if variance in g.errors:  # 1 / sqrt grows fastest at the least variance
        eps = g.const(attributes(node).get("epsilon", 1e-5))
        least = g.op("Relu", g.op("Sub", g.size(variance), g.errors[variance]))
        ratio = g.op("Sqrt", g.op("Div", g.op("Add", g.size(variance), eps), g.op("Add", least, eps)))
        wrong = g.sum(wrong, g.op("Mul", factor, g.op("Sub", ratio, g.const(1))))
    none = g.op("Mul", factor, g.const(0))
    away = g.op("Neg", g.sum(g.size(mean), g.errors.get(mean)) or "")
    minus = g.op("Neg", g.some(mean))
    parts = [g.copy(node, [g.some(x), factor, g.some(bias), minus, least])[0]]
    if wrong is not None:
        reach = g.op("Add", g.size(x), g.some(x))
        parts.append(g.copy(node, [reach, wrong, none, away, least])[0])
    return g.sum(*parts) or parts[0]


def locally_normalised(g: BoundGraph, node: Any) -> str:
    """y = x d^-beta, d = k + alpha / n sum x²: furthest where |x| is at one end and d at the other."""
    known = attributes(node)
    n, alpha, beta, k = known["size"], known.get("alpha", 1e-4), known.get("beta", 0.75), known.get("bias", 1.0)
    if beta < 0 or k <= 0 or alpha < 0:
        raise UnboundedError("LRN")
    x, error = g.size(node.input[0]), g.some(node.input[0])
    most = g.op("Add", x, error)
    least = g.op("Relu", g.op("Sub", x, error))

    def divisor(at: str) -> str:
        mean = _mean_over_channels(g, g.op("Mul", at, at), n)
        return g.op("Pow", g.op("Add", g.op("Mul", mean, g.const(alpha)), g.const(k)), g.const(beta))

    here = g.op("Div", x, divisor(x))
    above = g.op("Sub", g.op("Div", most, divisor(least)), here)
    below = g.op("Sub", here, g.op("Div", least, divisor(most)))
    crossing = g.op("Where", g.op("Less", x, error), g.op("Add", here, g.op("Div", error, divisor(least))), g.const(0))
    return g.op("Max", g.op("Max", above, below), crossing)


def _mean_over_channels(g: BoundGraph, tensor: str, n: int) -> str:
    """The sum over the n channels around each, as ONNX's LRN takes them, over n: of (N, C, ...) as (N, 1, C, rest)."""
    shape = g.op("Concat", *(g.const([size], "int64") for size in (0, 0, -1)), axis=0)
    flat = g.op("Unsqueeze", g.op("Reshape", tensor, shape), g.const([1], "int64"))
    before = (n - 1) // 2
    pads = [before, 0, n - 1 - before, 0]
    mean = g.op("AveragePool", flat, kernel_shape=[n, 1], pads=pads, count_include_pad=1)
    return g.op("Reshape", mean, g.op("Shape", tensor))
