"""Sums, products and maxima: of several blobs (Eltwise, Axpy, ChannelScale) or over axes (Reduction)."""

from __future__ import annotations

import enum
from dataclasses import field
from typing import TYPE_CHECKING, Any

from ..formats.schema import schema
from .base import InPlace, Operator, Shape, count, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


class EltwiseOp(enum.Enum):
    PROD = 0
    SUM = 1
    MAX = 2


@schema
class EltwiseParameter:
    operation: EltwiseOp = EltwiseOp.SUM
    coeff: list[float] = field(default_factory=list)
    stable_prod_grad: bool = True


@layer_type("Eltwise")
class Eltwise(Operator):
    """Product, sum (with a coefficient for each bottom) or maximum of blobs of one shape"""

    schemas = {"eltwise_param": EltwiseParameter}
    bottoms = (2, None)

    def setup(self) -> None:
        if self.p.coeff and len(self.p.coeff) != self.context.num_bottoms:
            self.fail(f"expected no coeff or {self.context.num_bottoms}, got {len(self.p.coeff)}")
        if self.p.coeff and self.p.operation is not EltwiseOp.SUM:
            self.fail(f"coeff is for SUM only, not for {self.p.operation.name}")
        # Caffe sets the top to its first value before it reads the bottoms, but for a product.
        self.in_place = InPlace.OTHER_GRADIENT if self.p.operation is EltwiseOp.PROD else InPlace.OVERWRITTEN

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.same_shape(bottoms)
        return [bottoms[0]]

    def demanded_bottom(self, index: int, known: Shape) -> Shape | None:
        return known

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Eltwise(self.p.operation.name, self.p.coeff)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        if self.p.operation is EltwiseOp.SUM:
            scaled = [g.mul(bottom, c) for bottom, c in zip(x, self.p.coeff or [1.0] * len(x), strict=True)]
            return g.op("Add" if len(scaled) == 2 else "Sum", *scaled)
        if self.p.operation is EltwiseOp.MAX:
            return g.op("Max", *x)
        product = x[0]
        for factor in x[1:]:
            product = g.op("Mul", product, factor)
        return product


class ReductionOp(enum.Enum):
    SUM = 1
    ASUM = 2
    SUMSQ = 3
    MEAN = 4


@schema
class ReductionParameter:
    operation: ReductionOp = ReductionOp.SUM
    axis: int = 0
    coeff: float = 1.0


@layer_type("Reduction")
class Reduction(Operator):
    """coeff * (sum, sum of absolutes, sum of squares or mean) over all axes from ``axis`` on"""

    schemas = {"reduction_param": ReductionParameter}

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return [bottoms[0][: self.axis(self.p.axis, len(bottoms[0]))]]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Reduction(self.p.operation.name, self.axis(self.p.axis, len(bottoms[0])), self.p.coeff)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        kinds = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}
        axes = range(self.axis(self.p.axis, x[0].rank), x[0].rank)
        return g.mul(g.reduce(kinds[self.p.operation.name], x[0], axes, keepdims=False), self.p.coeff)


@layer_type("Axpy")
class Axpy(Operator):
    """a_nc * x + y for a (N, C, 1, 1) and x, y (N, C, H, W); of SENet"""

    bottoms = (3, 3)
    bottom_axes = ((2, None),)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        scale, x, y = bottoms
        if x != y or scale[:2] != x[:2] or count(scale) != count(x, 0, 2):
            self.fail(f"expected a scale per channel and two blobs of one shape, got {scale}, {x} and {y}")
        return [x]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Axpy()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        scale = x[0]
        if x[0].rank == 2:
            scale = g.unsqueeze(scale, range(2, x[1].rank))
        return g.op("Add", g.op("Mul", scale, x[1]), x[2])


@schema
class ChannelScaleParameter:
    do_forward: bool = True
    do_backward_feature: bool = True
    do_backward_scale: bool = True
    global_scale: bool = False
    max_global_scale: float = 1000.0
    min_global_scale: float = 0.0
    init_global_scale: float = 1.0


@layer_type("ChannelScale")
class ChannelScale(Operator):
    """x (N, C, ...) times a number for every image and pixel (N, ...); of the NormFace fork (GNAP)"""

    schemas = {"channel_scale_param": ChannelScaleParameter}
    bottoms = (2, 2)
    bottom_axes = ((2, None), (1, None))

    def setup(self) -> None:
        if self.p.global_scale:
            self.fail("global_scale is not supported")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        x, scale = bottoms
        if x[0] != scale[0] or count(x) != count(scale) * x[1]:
            self.fail(f"expected a scale for every image and pixel of {x}, got {scale}")
        return [x]

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        return nn.ChannelScale(p.do_forward, p.do_backward_feature, p.do_backward_scale)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        if not self.p.do_forward:
            return x[0]
        for axis in range(1, x[0].rank):
            x[0].static(axis)
        return g.op("Mul", x[0], g.op("Reshape", x[1], g.ints([-1, 1, *x[0].shape[2:]])))
