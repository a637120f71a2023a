"""The rule for each kind of ONNX node: what shape and dtype it gives; whole nets are in test_onnx_shapes.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from caffeport.operators.onnx_builder import Emitter
from caffeport.operators.onnx_tensor import FLOAT, INT64, RULES, StaticShapeError, Tensor, UnknownShapeError
from caffeport.to_onnx.export import Graph, Port, write
from support.onnx_tensors import Exported, check, follows_numbers

UNARY = [
    "Abs", "Ceil", "Celu", "Clip", "Cos", "Elu", "Erf", "Exp", "Flatten", "Floor", "GlobalAveragePool",
    "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization",
    "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Shape", "Sigmoid", "Sign", "Sin", "Softmax", "Softplus",
    "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu", "Transpose",
]  # fmt: skip
BINARY = [
    "Add", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mul", "PRelu",
    "Pow", "Sub", "Sum",
]  # fmt: skip
REDUCE = ["L1", "L2", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
INPUT = (2, 12, 6, 4)


def zeros(g: Emitter, *shape: int) -> Tensor:
    return g.const(np.zeros(shape))


def truth(g: Emitter, x: Tensor) -> Tensor:
    return g.cast(x, "bool")


NODES: dict[str, Callable[[Emitter, Tensor], Any]] = {
    **{kind: lambda g, x, kind=kind: g.op(kind, x) for kind in UNARY},
    **{kind: lambda g, x, kind=kind: g.op(kind, x, zeros(g, 12, 1, 4)) for kind in BINARY},
    **{f"Reduce{kind}": lambda g, x, kind=kind: g.reduce(f"Reduce{kind}", x, [1, -1], False) for kind in REDUCE},
    **{kind: lambda g, x, kind=kind: g.op(kind, x, axis=1, keepdims=0) for kind in ("ArgMax", "ArgMin")},
    **{
        kind: lambda g, x, kind=kind: g.op(kind, truth(g, x), truth(g, zeros(g, 6, 1))) for kind in ("And", "Or", "Xor")
    },
    "Not": lambda g, x: g.op("Not", truth(g, x)),
    "Cast": lambda g, x: g.cast(x, "int64"),
    "Mod": lambda g, x: g.op("Mod", g.cast(x, "int64"), g.ints([3])),
    "Where": lambda g, x: g.op("Where", truth(g, zeros(g, 3, 1, 1, 1, 1)), x, zeros(g, 6, 1)),
    "CumSum": lambda g, x: g.op("CumSum", x, g.ints(1)),
    "LRN": lambda g, x: g.op("LRN", x, size=3),
    "InstanceNormalization": lambda g, x: g.op("InstanceNormalization", x, zeros(g, 12), zeros(g, 12)),
    "BatchNormalization": lambda g, x: g.op("BatchNormalization", x, *[zeros(g, 12) for _ in range(4)]),
    "ScatterElements": lambda g, x: g.op("ScatterElements", x, g.ints([[[[1]]]]), zeros(g, 1, 1, 1, 1), axis=2),
    "ScatterND": lambda g, x: g.op("ScatterND", x, g.ints([[1], [0], [1]]), zeros(g, 3, 12, 6, 4)),
    "Reshape": lambda g, x: g.op("Reshape", x, g.ints([0, 3, -1, 2])),
    "Unsqueeze": lambda g, x: g.unsqueeze(x, [0, -1, 2]),
    "Squeeze": lambda g, x: g.op("Squeeze", g.unsqueeze(x, [1, 3]), g.ints([-3])),
    "DepthToSpace": lambda g, x: g.op("DepthToSpace", x, blocksize=2),
    "SpaceToDepth": lambda g, x: g.op("SpaceToDepth", x, blocksize=2),
    "Concat": lambda g, x: g.op("Concat", x, zeros(g, 2, 12, 6, 9), axis=-1),
    "Split": lambda g, x: [*g.split(x, 1, [3, 2, 7], 3), *g.split(x, 2, None, 2)],
    "Slice": lambda g, x: [
        g.slice(x, [1, -1], [-5, 1], [2**62, -1]), g.reverse(x, [2]), g.slice(x, [1], [9], [-9], -3)
    ],
    "Pad": lambda g, x: g.pad(x, [0, 1, 2, 0], [0, 0, 3, 4]),
    "Expand": lambda g, x: g.op("Expand", zeros(g, 6, 1), g.op("Shape", x)),
    "Tile": lambda g, x: g.op("Tile", x, g.ints([1, 3, 1, 2])),
    "Gather": lambda g, x: [g.op("Gather", x, g.ints([[0, 2, 1]]), axis=-2), g.op("Gather", x, g.ints(1), axis=1)],
    "GatherElements": lambda g, x: g.op("GatherElements", x, g.ints([[[[0, 1, 2]]]]), axis=3),
    "GatherND": lambda g, x: g.op("GatherND", x, g.ints([[[0, 1]], [[2, 3]]]), batch_dims=1),
    "TopK": lambda g, x: g.ops("TopK", 2, x, g.ints([3]), axis=2),
    "Gemm": lambda g, x: [
        g.op("Gemm", g.op("Flatten", x, axis=2), zeros(g, 7, 24), transB=1),
        g.op("Gemm", g.op("Flatten", x, axis=1), zeros(g, 2, 5), transA=1),
    ],
    "MatMul": lambda g, x: g.op("MatMul", x, zeros(g, 1, 4, 9)),
    "Einsum": lambda g, x: g.op("Einsum", x, zeros(g, 6, 3), equation="nchw, hk -> kwn"),
    "Conv": lambda g, x: g.op(
        "Conv", x, zeros(g, 8, 3, 2, 3), group=4, kernel_shape=[2, 3], strides=[2, 1], pads=[1, 0, 2, 3],
        dilations=[3, 1],
    ),
    "ConvTranspose": lambda g, x: g.op(
        "ConvTranspose", x, zeros(g, 12, 2, 2, 3), group=3, kernel_shape=[2, 3], strides=[3, 2], pads=[1, 0, 2, 1],
        dilations=[2, 1],
    ),
    "AveragePool": lambda g, x: g.op("AveragePool", x, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 0, 1]),
    "MaxPool": lambda g, x: g.ops("MaxPool", 2, x, kernel_shape=[3, 2], strides=[2, 3], pads=[1, 1, 2, 0]),
    "MaxRoiPool": lambda g, x: g.op("MaxRoiPool", x, zeros(g, 3, 5), pooled_shape=[2, 5]),
    "RoiAlign": lambda g, x: g.op("RoiAlign", x, zeros(g, 3, 4), g.ints([0, 1, 0]), output_height=2, output_width=5),
    "GridSample": lambda g, x: g.op("GridSample", x, zeros(g, 2, 7, 3, 2)),
    "Resize": lambda g, x: [
        g.op("Resize", x, None, None, g.ints([2, 12, 7, 9]), mode="linear"),
        g.op("Resize", x, None, g.const([1, 1, 1.5, 0.4])),
    ],
    "Scan": lambda g, x: g.scan(
        lambda states, slices: [g.op("Add", states[0], slices[0]), g.op("Concat", *slices, states[0], axis=0)],
        {"sum": zeros(g, 12, 6, 4)}, {"slice": x},
    ),
    "NonZero": lambda g, x: g.op("NonZero", x),
    "Compress": lambda g, x: g.op("Compress", x, truth(g, zeros(g, 2)), axis=0),
    "NonMaxSuppression": lambda g, x: g.op("NonMaxSuppression", zeros(g, 2, 5, 4), zeros(g, 2, 1, 5)),
}  # fmt: skip


def single(kind: str, folder: Path) -> Exported:
    """Write a file with the nodes of one row of NODES; its output is the input itself, beside them."""
    g = Emitter(21)
    g.reserve(["x"])
    NODES[kind](g, Tensor("x", INPUT))
    graph = Graph("one", g, [Port("x", "x", list(INPUT))], [])
    output = g.op("Identity", Tensor("x", INPUT))
    graph.outputs.append(Port(output.name, "y", list(INPUT)))
    write(graph, folder / "n.onnx")
    return Exported(graph, onnx.load(folder / "n.onnx"), {"x": np.full(INPUT, 0.5, np.float32)})


@pytest.mark.parametrize("kind", sorted(RULES))
def test_every_rule(kind, tmp_path):
    exported = single(kind, tmp_path)
    nodes = exported.graph.emitter.nodes
    assert kind in {node.op for node in nodes}
    by_numbers = follows_numbers(nodes)
    assert check(exported) == sum(output.name not in by_numbers for node in nodes for output in node.outputs)


def test_sizes_that_are_computed(tmp_path):
    """Arithmetic on the sizes of a tensor with dynamic axes, down to shapes that are computed."""
    g = Emitter(17)
    g.reserve(["x"])
    sizes = g.op("Shape", Tensor("x", INPUT, {0, 2}))
    batch = g.op("Reshape", g.op("Squeeze", g.op("Slice", sizes, g.ints([0]), g.ints([1]))), g.ints([-1]))
    height = g.unsqueeze(g.op("Gather", sizes, g.ints(2), axis=0), [0])
    rows = g.op("Div", g.op("Sub", g.op("Mul", height, g.ints([2])), g.ints([4])), g.ints([4]))
    target = g.op("Concat", batch, rows, g.op("Add", rows, g.ints([1])), axis=0)
    result = g.op("Expand", g.const(0.0), target)
    area = g.op("Expand", g.const(0.0), g.op("ReduceProd", target, keepdims=1))
    assert (target.shape, target.dtype, target.dynamic) == ((3,), INT64, frozenset())
    # 6 rows: (2 * 6 - 4) / 4 = 2; 12 rows: (2 * 12 - 4) / 4 = 5
    assert (result.shape, result.dtype, result.dynamic) == ((2, 2, 3), FLOAT, {0, 1, 2})
    assert (area.shape, area.shape_at(doubled=True)) == ((12,), (4 * 5 * 6,))


def test_what_no_rule_tells():
    g = Emitter(17)
    x = Tensor("x", (2, 3))
    unknown = g.op("Det", x)
    with pytest.raises(UnknownShapeError, match=r"no rule tells the shape of what ONNX's Det gives .*onnx_shapes\.py"):
        _ = unknown.shape
    with pytest.raises(UnknownShapeError, match="Det"):
        _ = g.op("Relu", unknown).dtype
    with pytest.raises(UnknownShapeError, match=r"NonZero gives .* depends on numbers"):
        _ = g.op("Unsqueeze", g.op("NonZero", x), g.ints([0])).shape
    with pytest.raises(UnknownShapeError, match=r"Reshape gives .* depends on numbers"):
        _ = g.op("Reshape", x, g.cast(x, "int64")).shape


def test_a_dynamic_axis_has_no_static_size():
    x = Tensor("x", (2, 3), {0})
    assert x.static(1) == 3
    with pytest.raises(StaticShapeError):
        x.static(-2)
