"""Layers of FlowNet: an image warped by a flow, and the norm over channels.

Definitions: lmb-freiburg/flownet2 src/caffe/layers/flow_warp_layer.cpp and channel_norm_layer.cpp.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import Operator, Shape, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


class FlowFill(enum.Enum):
    ZERO = 1
    NOT_A_NUMBER = 2


@schema
class FlowWarpParameter:
    fill_value: FlowFill = FlowFill.ZERO


@layer_type("FlowWarp")
class FlowWarp(Operator):
    """The pixel at (x, y) is the image (N, C, H, W) at (x + u, y + v), bilinearly, (u, v) the flow (N, 2, H, W) there.

    A place outside the image gives fill_value. Between the last pixel and the border the last pixel stands for both.
    """

    schemas = {"flow_warp_param": FlowWarpParameter}
    bottoms = (2, 2)
    bottom_axes = ((4, 4),)
    full_precision = True  # places in float16 are whole pixels from 2048 on

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        image, flow = bottoms
        if flow != (image[0], 2, *image[2:]):
            self.fail(f"expected a flow of {(image[0], 2, *image[2:])}, got {flow}")
        return [image]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.FlowWarp(0.0 if self.p.fill_value is FlowFill.ZERO else float("nan"))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        image, flow = x
        fill = 0.0 if self.p.fill_value is FlowFill.ZERO else float("nan")
        shape = g.op("Shape", image)

        def extent(axis: int) -> Tensor:
            """Return the size of an axis, as a scalar."""
            return g.op("Gather", shape, g.ints(axis), axis=0)

        one, rows, columns = g.ints(1), extent(2), extent(3)
        across, down = g.split(flow, 1, [1, 1], 2)
        line = g.op("Range", g.ints(0), columns, one)
        column = g.op("Range", g.ints(0), rows, one)
        right = g.op("Add", across, g.cast(line, "float"))
        below = g.op("Add", down, g.unsqueeze(g.cast(column, "float"), [1]))
        flat = g.op("Reshape", image, g.ints([0, 0, -1]))
        limits = [(right, columns), (below, rows)]
        inside: Tensor | None = None
        near, far, share = [], [], []
        for place, size in limits:
            limit = g.cast(size, "float")
            within = g.op("And", g.op("GreaterOrEqual", place, g.const(0.0)), g.op("Less", place, limit))
            inside = within if inside is None else g.op("And", inside, within)
            last = g.op("Sub", size, one)
            safe = g.op("Where", within, place, g.const(0.0))
            first = g.cast(safe, "int64")  # towards zero, and it is not below it
            near.append(first)
            far.append(g.op("Min", g.op("Add", first, one), last))
            share.append(g.op("Sub", safe, g.cast(first, "float")))
        planes = g.op("Concat", g.op("Slice", shape, g.ints([0]), g.ints([2])), g.ints([1]), axis=0)

        def pixels(column: Tensor, row: Tensor) -> Tensor:
            """Return the image's numbers at these places (N, 1, H, W)."""
            place = g.op("Reshape", g.op("Add", g.op("Mul", row, columns), column), g.ints([0, 0, -1]))
            numbers = g.op("GatherElements", flat, g.op("Expand", place, planes), axis=2)
            return g.op("Reshape", numbers, shape)

        left_above, right_above = pixels(near[0], near[1]), pixels(far[0], near[1])
        left_below, right_below = pixels(near[0], far[1]), pixels(far[0], far[1])

        def blend(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
            return g.op("Add", first, g.op("Mul", g.op("Sub", second, first), weight))

        above, under = blend(left_above, right_above, share[0]), blend(left_below, right_below, share[0])
        return g.op("Where", inside, blend(above, under, share[1]), g.const(np.float32(fill)))


@layer_type("ChannelNorm")
class ChannelNorm(Operator):
    """sqrt(sum over channels of x^2), (N, 1, H, W)"""

    bottom_axes = ((4, 4),)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return [(bottoms[0][0], 1, *bottoms[0][2:])]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.ChannelNorm()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.reduce("ReduceL2", x[0], [1])
