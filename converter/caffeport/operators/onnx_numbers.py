"""The arithmetic of sizes in an ONNX graph: the numbers that nodes on shapes and constants give."""

from __future__ import annotations

import numpy as np

from .onnx_shapes import onnx_range
from .onnx_tensor import Inference, numbers_rule


@numbers_rule("Shape")
def shape_numbers(n: Inference) -> np.ndarray:
    return np.array(n.shape(), np.int64)


@numbers_rule("Identity")
def same_numbers(n: Inference) -> np.ndarray | None:
    return n.input(0).numbers_at(n.doubled)


@numbers_rule("Gather")
def gather_numbers(n: Inference) -> np.ndarray:
    return np.take(n.numbers(0), n.numbers(1), axis=n.attribute("axis", 0))


@numbers_rule("Slice")
def slice_numbers(n: Inference) -> np.ndarray:
    numbers, starts, ends = n.numbers(0), n.ints(1), n.ints(2)
    axes = n.ints(3) if n.has(3) else range(len(starts))
    steps = n.ints(4) if n.has(4) else [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        numbers = np.take(numbers, list(onnx_range(numbers.shape[axis], start, end, step)), axis=axis)
    return numbers


@numbers_rule("Concat")
def concat_numbers(n: Inference) -> np.ndarray:
    return np.concatenate([n.numbers(index) for index in range(len(n.node.inputs))], axis=n.attribute("axis"))


@numbers_rule("Add")
def add_numbers(n: Inference) -> np.ndarray:
    return n.numbers(0) + n.numbers(1)


@numbers_rule("Sub")
def sub_numbers(n: Inference) -> np.ndarray:
    return n.numbers(0) - n.numbers(1)


@numbers_rule("Mul")
def mul_numbers(n: Inference) -> np.ndarray:
    return n.numbers(0) * n.numbers(1)


@numbers_rule("Div")
def div_numbers(n: Inference) -> np.ndarray:
    """Divide integers, rounded towards 0, as ONNX divides them."""
    left, right = n.numbers(0), n.numbers(1)
    return np.trunc(left / right).astype(np.int64)


@numbers_rule("ReduceProd")
def product_numbers(n: Inference) -> np.ndarray:
    return np.prod(n.numbers(0), keepdims=bool(n.attribute("keepdims", 1)))


@numbers_rule("Squeeze", "Unsqueeze", "Reshape")
def reshaped_numbers(n: Inference) -> np.ndarray:
    return n.numbers(0).reshape(n.node.outputs[0].shape_at(n.doubled))
