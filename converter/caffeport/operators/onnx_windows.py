"""The rules of ONNX's operators that slide windows over feature maps, pool regions or resample."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .onnx_shapes import first_dtype
from .onnx_tensor import INT64, Inference, Shape, rule


@rule("Conv")
def conv(n: Inference) -> list[Shape]:
    shape, weight = n.shape(0), n.shape(1)
    return [(shape[0], weight[0], *positions(n, shape[2:], weight[2:]))]


@rule("ConvTranspose")
def conv_transpose(n: Inference) -> list[Shape]:
    shape, weight = n.shape(0), n.shape(1)
    axes = len(shape) - 2
    stride, dilation = n.attribute("strides", [1] * axes), n.attribute("dilations", [1] * axes)
    pads, more = n.attribute("pads", [0] * 2 * axes), n.attribute("output_padding", [0] * axes)
    size = [
        stride[i] * (shape[i + 2] - 1) + more[i] + dilation[i] * (weight[i + 2] - 1) + 1 - pads[i] - pads[i + axes]
        for i in range(axes)
    ]
    return [(shape[0], weight[1] * n.attribute("group", 1), *size)]


@rule("AveragePool", "MaxPool", dtypes=lambda node: [first_dtype(node), INT64][: len(node.outputs)])
def pool(n: Inference) -> list[Shape]:
    shape = n.shape()
    return [(*shape[:2], *positions(n, shape[2:], n.attribute("kernel_shape")))] * n.count


def positions(n: Inference, size: Shape, kernel: Sequence[int]) -> list[int]:
    """Return how many times the window fits along each spatial axis."""
    axes = len(size)
    stride, dilation = n.attribute("strides", [1] * axes), n.attribute("dilations", [1] * axes)
    pads = n.attribute("pads", [0] * 2 * axes)
    room = [size[i] + pads[i] + pads[i + axes] - dilation[i] * (kernel[i] - 1) - 1 for i in range(axes)]
    return [room[i] // stride[i] + 1 for i in range(axes)]


@rule("GlobalAveragePool", "GlobalMaxPool")
def global_pool(n: Inference) -> list[Shape]:
    shape = n.shape()
    return [(*shape[:2], *[1] * (len(shape) - 2))]


@rule("MaxRoiPool")
def max_roi_pool(n: Inference) -> list[Shape]:
    return [(n.shape(1)[0], n.shape()[1], *n.attribute("pooled_shape"))]


@rule("RoiAlign")
def roi_align(n: Inference) -> list[Shape]:
    height, width = n.attribute("output_height", 1), n.attribute("output_width", 1)
    return [(n.shape(1)[0], n.shape()[1], height, width)]


@rule("GridSample")
def grid_sample(n: Inference) -> list[Shape]:
    shape, grid = n.shape(), n.shape(1)
    return [(*shape[:2], *grid[1:-1])]


@rule("Resize")
def resize(n: Inference) -> list[Shape]:
    if n.has(3):
        return [tuple(n.ints(3))]
    return [tuple(math.floor(size * scale) for size, scale in zip(n.shape(), n.numbers(2).tolist(), strict=True))]
