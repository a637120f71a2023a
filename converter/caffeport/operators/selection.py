"""Layers that pick: the largest entries (ArgMax), or images by index or flag (BatchReindex, Filter)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import NoParameters, Operator, Shape, count, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class ArgMaxParameter:
    out_max_val: bool = False
    top_k: int = 1
    axis: int | None = None


@layer_type("ArgMax")
class ArgMax(Operator):
    """Indices (as floats) of the top_k largest, along ``axis`` or over all axes but the first.

    With ``axis`` the top holds indices, or with out_max_val the values. Without, it is (N, 1, k), or with
    out_max_val (N, 2, k): indices, then values. Of equal numbers the one with the larger index comes first.
    """

    schemas = {"argmax_param": ArgMaxParameter}
    bottom_axes = ((1, None),)

    def setup(self) -> None:
        if self.p.top_k < 1:
            self.fail(f"expected a top_k of 1 or more, got {self.p.top_k}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,) = bottoms
        if self.p.axis is not None:
            axis = self.axis(self.p.axis, len(bottom))
            size, top = bottom[axis], (*bottom[:axis], self.p.top_k, *bottom[axis + 1 :])
        else:
            size, rank = count(bottom, 1), max(len(bottom), 3)
            # Caffe keeps the bottom's number of axes: (N, rows, k) for three, ones in between beyond.
            top = (bottom[0], 2 if self.p.out_max_val else 1, self.p.top_k, *[1] * (rank - 3))
        if self.p.top_k > size:
            self.fail(f"expected a top_k of {size} at most, got {self.p.top_k}")
        return [top]

    def module(self, bottoms: list[Shape]) -> Any:
        axis = None if self.p.axis is None else self.axis(self.p.axis, len(bottoms[0]))
        return nn.ArgMax(axis, self.p.top_k, self.p.out_max_val, len(self.top_shapes(bottoms)[0]))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        if self.p.axis is not None:
            axis = self.axis(self.p.axis, x[0].rank)
            values, indices = self._onnx_largest(g, x[0], axis)
            return values if self.p.out_max_val else indices
        flat = g.flatten_to_2d(x[0], 1)  # (N, 1) for a bottom of one axis
        values, indices = self._onnx_largest(g, flat, 1)
        rows = [g.unsqueeze(indices, [1])]
        if self.p.out_max_val:
            rows.append(g.unsqueeze(values, [1]))
        joined = g.op("Concat", *rows, axis=1) if len(rows) > 1 else rows[0]
        return g.unsqueeze(joined, range(3, g.tops[0].rank))

    def _onnx_largest(self, g: Emitter, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        # TopK prefers the smaller index of equal numbers; reversed, that is Caffe's larger one.
        reversed_ = g.reverse(x, [axis])
        values, indices = g.ops("TopK", 2, reversed_, g.ints([self.p.top_k]), axis=axis)
        return values, g.cast(g.op("Sub", g.ints(x.static(axis) - 1), indices), "float")


@layer_type("BatchReindex")
class BatchReindex(Operator):
    """Images in the order of the second bottom, which holds their indices"""

    schemas = {"batch_reindex_param": NoParameters}
    bottoms = (2, 2)
    bottom_axes = ((1, None), (1, 1))

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return [(bottoms[1][0], *bottoms[0][1:])]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return np.zeros(shape) if index == 1 else None

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.BatchReindex()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Gather", x[0], g.cast(x[1], "int64"), axis=0)


@layer_type("Filter")
class Filter(Operator):
    """The images whose entry in the last bottom, the selector, is not 0; as many tops as other bottoms.

    Shapes count every image as kept, as Caffe's do before the first forward pass.
    """

    schemas = {"filter_param": NoParameters}
    bottoms = (2, None)
    bottom_axes = ((1, None),)
    tops = (1, None)

    def setup(self) -> None:
        if self.context.num_tops != self.context.num_bottoms - 1:
            self.fail(f"expected {self.context.num_bottoms - 1} tops, one for each bottom but the selector")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        for bottom in bottoms[:-1]:
            if bottom[:1] != bottoms[-1][:1] or count(bottoms[-1], 1) != 1:
                self.fail(f"expected a selector of {bottom[0]} numbers, got {bottoms[-1]}")
        return bottoms[:-1]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        # All are kept, so that a sample has the declared shapes, on which later layers may depend.
        return np.ones(shape) if index == self.context.num_bottoms - 1 else None

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Filter()

    def onnx(self, g: Emitter, *x: Tensor) -> list[Tensor]:
        selected = g.cast(g.op("Reshape", x[-1], g.ints([-1])), "bool")
        return [g.op("Compress", bottom, selected, axis=0) for bottom in x[:-1]]
