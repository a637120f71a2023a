"""What an ONNX operator makes of the errors of its inputs: E of its result from E of each input.

Each rule is a first-hand inequality, named at its place; sums of products follow Higham's section 3.1, |W||x|. An
operator that is not here has no bound: its result jumps (comparisons, TopK), or nobody has derived one (LSTM).
"""

from __future__ import annotations

from typing import Any

from .bound_graph import FLOATS, HUGE, BoundGraph, Rule, UnboundedError, attributes
from .normalising import batch_normalised, locally_normalised
from .quantised import dequantised, quantised

LIKELY = 8.0
"""Standard deviations of a sum of independent rounding errors: by Hoeffding's inequality one is beyond that with a
probability of at most 2 exp(-8² / 2) = 2.5e-14 (N. J. Higham and T. Mary, A new approach to probabilistic rounding
error analysis, SIAM J. Sci. Comput. 41, 2019)."""

MOVING = (
    "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Split", "Gather", "GatherElements",
    "GatherND", "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "ReverseSequence", "Compress", "Dropout",
)  # fmt: skip
"""Operators that hand numbers on as they are, of their first input; so they do with the bounds."""
_OF_ONE = (
    "MaxPool", "GlobalMaxPool", "AveragePool", "GlobalAveragePool", "ReduceSum", "ReduceMean", "ReduceMax",
    "ReduceL1", "ReduceL2", "CumSum",
)  # fmt: skip
"""Operators f with |f(x + e) - f(x)| <= f(|e|): averages, sums, largest ones, norms."""
_STEADY = ("Relu", "Abs", "Neg", "Sin", "Cos", "Tanh", "Softsign", "Clip")
"""Functions of one number with a slope of at most 1."""
_RISING = ("Sigmoid", "Exp", "Softplus", "Elu", "Selu", "HardSigmoid", "Erf")
"""Functions of one number that never fall."""


def _moved(g: BoundGraph, node: Any) -> list[str]:
    if any(name in g.errors for name in node.input[1:]):
        raise UnboundedError(node.op_type)
    return g.copy(node, [g.some(node.input[0]), *node.input[1:]])


def _of_one(g: BoundGraph, node: Any) -> str:
    return _moved(g, node)[0]


def _largest(g: BoundGraph, node: Any) -> str:
    """|min(x + e) - min(x)| <= max |e|, and log(sum(exp)) does not move further than its largest term."""
    return g.copy(node, [g.some(node.input[0]), *node.input[1:]], "ReduceMax")[0]


def _resized(g: BoundGraph, node: Any) -> str:
    """Weights that are not negative and add up to 1, unless the curve is a cubic."""
    if attributes(node).get("mode", b"nearest") == b"cubic":
        raise UnboundedError("Resize")
    return _of_one(g, node)


def _padded(g: BoundGraph, node: Any) -> str:
    value = node.input[2] if len(node.input) > 2 else ""
    return g.copy(node, [g.some(node.input[0]), node.input[1], g.errors.get(value, ""), *node.input[3:]])[0]


def _cast(g: BoundGraph, node: Any) -> str:
    if g.type(node.output[0]) not in FLOATS:
        raise UnboundedError("Cast")
    return g.some(node.input[0])


def _joined(g: BoundGraph, node: Any) -> str:
    return g.copy(node, [g.some(name) for name in node.input])[0]


def _joined_into(g: BoundGraph, node: Any) -> str:
    data, places, updates = node.input
    if attributes(node).get("reduction", b"none") != b"none" or places in g.errors:
        raise UnboundedError(node.op_type)
    return g.copy(node, [g.some(data), places, g.some(updates)])[0]


def _added(g: BoundGraph, node: Any) -> str | None:
    """|(a + e) + (b + f) - (a + b)| <= |e| + |f|; of the largest, the smallest or the mean it is so as well."""
    return g.whole(g.sum(*(g.errors.get(name) for name in node.input if name)), node.output[0])


def _rising(g: BoundGraph, node: Any) -> str:
    return _by_ends(g, node, g.numbers(node.input[0]), g.some(node.input[0]))


def _rising_from_0(g: BoundGraph, node: Any) -> str:
    """Functions of numbers from 0 on: no error leads below."""
    return _by_ends(g, node, g.op("Relu", g.numbers(node.input[0])), g.some(node.input[0]), least=0.0)


def _by_ends(g: BoundGraph, node: Any, x: str, error: str, *rest: str, least: float | None = None) -> str:
    """A function that only rises, or only falls, is furthest from f(x) at the ends of [x - e, x + e]."""
    low = g.op("Sub", x, error)
    low = low if least is None else g.op("Max", low, g.const(least))
    here, above, below = (g.copy(node, [at, *rest])[0] for at in (x, g.op("Add", x, error), low))
    apart = g.op("Max", *(g.op("Abs", g.op("Sub", end, here)) for end in (above, below)))
    return g.op("Min", apart, g.const(HUGE))


def _powered(g: BoundGraph, node: Any) -> str:
    """|x|^p by its ends, and what an error of p makes of it: x^p |log x| dp."""
    base, exponent = node.input
    size = g.size(base)
    apart = _by_ends(g, node, size, g.some(base), g.numbers(exponent), least=0.0)
    if exponent in g.errors:
        log = g.op("Abs", g.op("Log", g.op("Max", size, g.const(1e-30))))
        apart = g.op("Add", apart, g.op("Mul", g.op("Mul", g.size(node.output[0]), log), g.errors[exponent]))
    return g.op("Expand", apart, g.op("Shape", node.output[0]))


def _steepest(g: BoundGraph, node: Any) -> str:
    slope = max(1.0, abs(attributes(node).get("alpha", 0.01)))
    return g.op("Mul", g.some(node.input[0]), g.const(slope))


def _prelu(g: BoundGraph, node: Any) -> str | None:
    x, slope = node.input
    error = g.op("Mul", g.some(x), g.op("Max", g.size(slope), g.const(1)))
    return g.sum(error, g.op("Mul", g.size(x), g.errors[slope]) if slope in g.errors else None)


def _product(g: BoundGraph, node: Any) -> str | None:
    """|a b - (a + e)(b + f)| <= |e||b| + (|a| + |e|)|f|."""
    a, b = node.input
    parts = [g.op("Mul", g.errors[a], g.size(b)) if a in g.errors else None]
    parts += [g.op("Mul", _reach(g, a), g.errors[b]) if b in g.errors else None]
    return g.whole(g.sum(*parts), node.output[0])


def _reach(g: BoundGraph, tensor: str) -> str:
    """The largest magnitudes that the exact numbers may have."""
    return g.op("Add", g.size(tensor), g.errors[tensor]) if tensor in g.errors else g.size(tensor)


def _quotient(g: BoundGraph, node: Any) -> str:
    """|a/b - (a + e)/(b + f)| <= (|e| + |a/b||f|) / (|b| - |f|)."""
    a, b = node.input if node.op_type == "Div" else ("", node.input[0])
    error = g.errors.get(b)
    over = g.sum(g.errors.get(a), None if error is None else g.op("Mul", g.size(node.output[0]), error))
    under = g.size(b) if error is None else g.op("Sub", g.size(b), error)
    sure = g.op("Greater", under, g.const(0))
    safe = g.op("Where", sure, under, g.const(1))
    bound = g.op("Where", sure, g.op("Min", g.op("Div", over or g.const(0), safe), g.const(HUGE)), g.const(HUGE))
    return g.op("Expand", bound, g.op("Shape", node.output[0]))


def _sum_of_products(g: BoundGraph, node: Any) -> str | None:
    """|(W + F)(x + e) - W x| <= |W||e| + |F|(|x| + |e|); of independent F, LIKELY sqrt(F² (|x| + |e|)²) too."""
    x, w, *rest = node.input
    if any(attributes(node).get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        raise UnboundedError(node.op_type)
    bias = [g.errors[name] for name in rest if name in g.errors]
    parts: list[str | None] = []
    if x in g.errors or w not in g.errors:
        parts.append(g.copy(node, [g.some(x), g.size(w), *bias])[0])
        bias = []
    if w in g.errors:
        reach, error = _reach(g, x), g.errors[w]
        most = g.copy(node, [reach, error])[0]
        if w in g.independent:
            squares = g.copy(node, [g.op("Mul", reach, reach), g.op("Mul", error, error)])[0]
            most = g.op("Min", most, g.op("Mul", g.op("Sqrt", squares), g.const(LIKELY)))
        parts.append(most)
        if bias:
            parts.append(g.copy(node, [g.op("Mul", reach, g.const(0)), g.size(w), *bias])[0])
    return g.sum(*parts)


def _softmax(g: BoundGraph, node: Any) -> str:
    """With all inputs off by at most m, each exponential and their sum are off by a factor of at most exp(m)."""
    error = g.some(node.input[0])
    most = g.reduce("ReduceMax", error, attributes(node).get("axis", -1))
    if node.op_type == "LogSoftmax":
        return g.op("Add", error, most)
    factor = g.op("Sub", g.op("Exp", g.op("Mul", most, g.const(2))), g.const(1))
    return g.op("Min", g.op("Mul", g.size(node.output[0]), factor), g.const(1))


def _chosen(g: BoundGraph, node: Any) -> str | None:
    condition, a, b = node.input
    if condition in g.errors:
        raise UnboundedError("Where")
    if a not in g.errors and b not in g.errors:
        return None
    return g.whole(
        g.op("Where", condition, g.errors.get(a) or g.const(0), g.errors.get(b) or g.const(0)), node.output[0]
    )


RULES: dict[str, Rule] = {
    **dict.fromkeys(MOVING, _moved),
    **dict.fromkeys(_OF_ONE, _of_one),
    **dict.fromkeys(("ReduceMin", "ReduceLogSumExp"), _largest),
    **dict.fromkeys(("Add", "Sub", "Sum", "Max", "Min", "Mean", *_STEADY), _added),
    **dict.fromkeys(_RISING, _rising),
    **dict.fromkeys(("Sqrt", "Log"), _rising_from_0),
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"), _sum_of_products),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(("Div", "Reciprocal"), _quotient),
    "BatchNormalization": batch_normalised,
    "Cast": _cast,
    "Concat": _joined,
    "DequantizeLinear": dequantised,
    "LRN": locally_normalised,
    "LeakyRelu": _steepest,
    "Mul": _product,
    "PRelu": _prelu,
    "Pad": _padded,
    "Pow": _powered,
    "QuantizeLinear": quantised,
    "Resize": _resized,
    "ScatterElements": _joined_into,
    "ScatterND": _joined_into,
    "Where": _chosen,
}
"""{operator: its rule}."""
