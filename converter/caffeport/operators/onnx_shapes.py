"""The rules of ONNX's operators: the shape and dtype of the result of each kind of node that we emit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .onnx_tensor import (
    BOOL,
    FLOAT,
    INT64,
    DType,
    Inference,
    Node,
    Shape,
    dtype_of,
    fixed_dtype,
    rule,
)

ONNX_DTYPES: dict[int, DType] = {
    1: FLOAT,
    6: np.dtype(np.int32),
    7: INT64,
    9: BOOL,
    10: np.dtype(np.float16),
    11: np.dtype(np.float64),
}
"""{ONNX's number of a dtype: NumPy's}"""


# One input's shape kept, or several broadcast


@rule(
    "Abs", "BatchNormalization", "Ceil", "Celu", "Clip", "Cos", "CumSum", "Elu", "Erf", "Exp", "Floor", "HardSigmoid",
    "HardSwish", "Identity", "InstanceNormalization", "LRN", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization",
    "Mish", "Neg", "Not", "PRelu", "Reciprocal", "Relu", "Round", "ScatterElements", "ScatterND", "Selu", "Sigmoid",
    "Sign", "Sin", "Softmax", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip
def same_shape(n: Inference) -> list[Shape]:
    return [n.shape()]


@rule("Cast", dtypes=lambda node: [ONNX_DTYPES[node.attributes["to"]]])
def cast(n: Inference) -> list[Shape]:
    return [n.shape()]


@rule("Add", "Div", "Max", "Mean", "Min", "Mod", "Mul", "Pow", "Sub", "Sum")
def broadcast(n: Inference) -> list[Shape]:
    return [broadcast_shapes(n.shapes)]


@rule(
    "And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Or", "Xor", dtypes=fixed_dtype(BOOL),
)  # fmt: skip
def compare(n: Inference) -> list[Shape]:
    return [broadcast_shapes(n.shapes)]


@rule("Where", dtypes=dtype_of(1))
def where(n: Inference) -> list[Shape]:
    return [broadcast_shapes(n.shapes)]


def broadcast_shapes(shapes: Sequence[Shape]) -> Shape:
    return tuple(np.broadcast_shapes(*shapes))


# Other shapes of the same numbers


@rule("Reshape")
def reshape(n: Inference) -> list[Shape]:
    shape, target = n.shape(), n.ints(1)
    sizes = [shape[axis] if size == 0 else size for axis, size in enumerate(target)]
    if -1 in sizes:
        sizes[sizes.index(-1)] = math.prod(shape) // -math.prod(sizes)
    return [tuple(sizes)]


@rule("Flatten")
def flatten(n: Inference) -> list[Shape]:
    shape = n.shape()
    axis = n.attribute("axis", 1)
    return [(math.prod(shape[:axis]), math.prod(shape[axis:]))]


@rule("Unsqueeze")
def unsqueeze(n: Inference) -> list[Shape]:
    shape, axes = n.shape(), n.ints(1)
    rank = len(shape) + len(axes)
    sizes, ones = iter(shape), {axis % rank for axis in axes}
    return [tuple(1 if axis in ones else next(sizes) for axis in range(rank))]


@rule("Squeeze")
def squeeze(n: Inference) -> list[Shape]:
    shape = n.shape()
    gone = {axis % len(shape) for axis in n.ints(1)} if n.has(1) else {i for i, size in enumerate(shape) if size == 1}
    return [tuple(size for axis, size in enumerate(shape) if axis not in gone)]


@rule("Transpose")
def transpose(n: Inference) -> list[Shape]:
    shape = n.shape()
    return [tuple(shape[axis] for axis in n.attribute("perm", range(len(shape))[::-1]))]


@rule("DepthToSpace")
def depth_to_space(n: Inference) -> list[Shape]:
    (batch, channels, height, width), block = n.shape(), n.attribute("blocksize")
    return [(batch, channels // block**2, height * block, width * block)]


@rule("SpaceToDepth")
def space_to_depth(n: Inference) -> list[Shape]:
    (batch, channels, height, width), block = n.shape(), n.attribute("blocksize")
    return [(batch, channels * block**2, height // block, width // block)]


# Parts and repetitions


@rule("Concat")
def concat(n: Inference) -> list[Shape]:
    shapes = n.shapes
    axis = n.attribute("axis") % len(shapes[0])
    return [replaced(shapes[0], axis, sum(shape[axis] for shape in shapes))]


@rule("Split")
def split(n: Inference) -> list[Shape]:
    shape = n.shape()
    axis = n.attribute("axis", 0) % len(shape)
    if n.has(1):
        return [replaced(shape, axis, size) for size in n.ints(1)]
    each = -(-shape[axis] // n.count)
    return [*[replaced(shape, axis, each)] * (n.count - 1), replaced(shape, axis, shape[axis] - each * (n.count - 1))]


@rule("Slice")
def slice_(n: Inference) -> list[Shape]:
    sizes, starts, ends = list(n.shape()), n.ints(1), n.ints(2)
    axes = n.ints(3) if n.has(3) else range(len(starts))
    steps = n.ints(4) if n.has(4) else [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        sizes[axis] = len(onnx_range(sizes[axis], start, end, step))
    return [tuple(sizes)]


def onnx_range(size: int, start: int, end: int, step: int) -> range:
    """Return the indices that a Slice takes, which are Python's."""
    return range(size)[slice(start, end, step)]


@rule("Pad")
def pad(n: Inference) -> list[Shape]:
    shape, pads = n.shape(), n.ints(1)
    axes = n.ints(3) if n.has(3) else range(len(shape))
    sizes = list(shape)
    for axis, begin, end in zip(axes, pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True):
        sizes[axis] += begin + end
    return [tuple(sizes)]


@rule("Expand")
def expand(n: Inference) -> list[Shape]:
    return [broadcast_shapes([n.shape(), tuple(n.ints(1))])]


@rule("Tile")
def tile(n: Inference) -> list[Shape]:
    return [tuple(size * times for size, times in zip(n.shape(), n.ints(1), strict=True))]


@rule("Gather")
def gather(n: Inference) -> list[Shape]:
    shape, indices = n.shape(), n.shape(1)
    axis = n.attribute("axis", 0) % len(shape)
    return [(*shape[:axis], *indices, *shape[axis + 1 :])]


@rule("GatherElements")
def gather_elements(n: Inference) -> list[Shape]:
    return [n.shape(1)]


@rule("GatherND")
def gather_nd(n: Inference) -> list[Shape]:
    shape, indices = n.shape(), n.shape(1)
    return [(*indices[:-1], *shape[n.attribute("batch_dims", 0) + indices[-1] :])]


@rule("TopK", dtypes=lambda node: [first_dtype(node), INT64])
def top_k(n: Inference) -> list[Shape]:
    shape = n.shape()
    return [replaced(shape, n.attribute("axis", -1) % len(shape), n.ints(1)[0])] * n.count


def first_dtype(node: Node) -> DType:
    """Return the dtype of the first input."""
    return dtype_of(0)(node)[0]


def replaced(shape: Shape, axis: int, size: int) -> Shape:
    """Return the shape with another size along one axis."""
    return (*shape[:axis], size, *shape[axis + 1 :])


# Shapes that numbers decide


@rule("NonZero", "NonMaxSuppression", dtypes=fixed_dtype(INT64))
def indices_by_numbers(n: Inference) -> list[Shape]:
    n.depends_on_data()


@rule("Compress")
def compress(n: Inference) -> list[Shape]:
    n.depends_on_data()


# Sums and products


@rule("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
      "ReduceSumSquare")  # fmt: skip
def reduce(n: Inference) -> list[Shape]:
    shape = n.shape()
    axes = n.ints(1) if n.has(1) else n.attribute("axes", range(len(shape)))
    return [reduced(shape, axes, n.attribute("keepdims", 1))]


@rule("ArgMax", "ArgMin", dtypes=fixed_dtype(INT64))
def arg_max(n: Inference) -> list[Shape]:
    return [reduced(n.shape(), [n.attribute("axis", 0)], n.attribute("keepdims", 1))]


def reduced(shape: Shape, axes: Sequence[int], keepdims: int) -> Shape:
    gone = {axis % len(shape) for axis in axes}
    if keepdims:
        return tuple(1 if axis in gone else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in gone)


@rule("Gemm")
def gemm(n: Inference) -> list[Shape]:
    left, right = n.shape(0), n.shape(1)
    return [(left[1 if n.attribute("transA", 0) else 0], right[0 if n.attribute("transB", 0) else 1])]


@rule("MatMul")
def matmul(n: Inference) -> list[Shape]:
    left, right = n.shape(0), n.shape(1)
    if min(len(left), len(right)) < 2:
        raise ValueError(f"MatMul of {left} and {right}: the rule is for matrices")
    return [(*broadcast_shapes([left[:-2], right[:-2]]), left[-2], right[-1])]


@rule("Einsum")
def einsum(n: Inference) -> list[Shape]:
    terms, result = n.attribute("equation").replace(" ", "").split("->")
    sizes: dict[str, int] = {}
    for letters, shape in zip(terms.split(","), n.shapes, strict=True):
        sizes.update(zip(letters, shape, strict=True))
    return [tuple(sizes[letter] for letter in result)]


# Loops


@rule("Scan", dtypes=lambda node: [output.dtype for output in node.attributes["body"].outputs])
def scan(n: Inference) -> list[Shape]:
    body, slices = n.attribute("body"), n.attribute("num_scan_inputs")
    states = len(n.node.inputs) - slices
    steps = n.shape(states)[0]
    shapes = [output.shape_at(n.doubled) for output in body.outputs]
    return [*shapes[:states], *((steps, *shape) for shape in shapes[states:])]


# Sizes as numbers; onnx_numbers.py computes with them


@rule("Shape", dtypes=fixed_dtype(INT64))
def shape_of(n: Inference) -> list[Shape]:
    return [(len(n.shape()),)]
