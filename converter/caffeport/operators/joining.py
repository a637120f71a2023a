"""Concat and Slice: blobs joined along an axis, or cut apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

from ..formats.schema import schema
from .base import Operator, Shape, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class ConcatParameter:
    axis: int | None = None
    concat_dim: int | None = None  # deprecated; wins over axis


@layer_type("Concat")
class Concat(Operator):
    """Bottoms one after another along an axis"""

    schemas = {"concat_param": ConcatParameter}
    bottoms = (1, None)

    def joined_axis(self, bottom: Shape) -> int:
        number = self.p.concat_dim if self.p.concat_dim is not None else self.p.axis
        return self.axis(1 if number is None else number, len(bottom))

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        axis = self.joined_axis(bottoms[0])
        for bottom in bottoms[1:]:
            if len(bottom) != len(bottoms[0]) or any(
                bottom[i] != bottoms[0][i] for i in range(len(bottom)) if i != axis
            ):
                self.fail(f"bottoms {bottoms[0]} and {bottom} differ on another axis than {axis}")
        joined = sum(bottom[axis] for bottom in bottoms)
        return [(*bottoms[0][:axis], joined, *bottoms[0][axis + 1 :])]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Concat(self.joined_axis(bottoms[0]))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Concat", *x, axis=self.joined_axis(x[0].shape))


@schema
class SliceParameter:
    axis: int | None = None
    slice_point: list[int] = field(default_factory=list)
    slice_dim: int | None = None  # deprecated; wins over axis


@layer_type("Slice")
class Slice(Operator):
    """Cut along an axis, at slice_point or into equal parts"""

    schemas = {"slice_param": SliceParameter}
    tops = (1, None)

    def cut_axis(self, bottom: Shape) -> int:
        number = self.p.slice_dim if self.p.slice_dim is not None else self.p.axis
        return self.axis(1 if number is None else number, len(bottom))

    def sizes(self, bottom: Shape) -> list[int]:
        size, parts = bottom[self.cut_axis(bottom)], self.context.num_tops
        if not self.p.slice_point:
            if size % parts:
                self.fail(f"{size} along axis {self.cut_axis(bottom)} cannot be cut into {parts} equal parts")
            return [size // parts] * parts
        edges = [0, *self.p.slice_point, size]
        sizes = [after - before for before, after in itertools.pairwise(edges)]
        if len(sizes) != parts or min(sizes) < 1:
            self.fail(f"slice points {self.p.slice_point} do not cut {size} into {parts} parts")
        return sizes

    def joined(self, tops: Sequence[Shape | None]) -> Shape | None:
        """Return the bottom's shape from those of the tops, where slice points stand for what is not known of them.

        A top that lacks the axis to cut along, as labels do, has one number there.
        """
        first = next((top for top in tops if top), None)
        number = self.p.slice_dim if self.p.slice_dim is not None else self.p.axis
        axis = 1 if number is None else number
        if first is None or not 0 <= axis <= len(first):
            return None
        first = first if axis < len(first) else (*first, 1)
        edges = [0, *self.p.slice_point]
        between = [after - before for before, after in itertools.pairwise(edges)] + [None]
        between = between if self.p.slice_point and len(between) == len(tops) else [None] * len(tops)
        sizes = [size if top is None else (*top, 1)[axis] for top, size in zip(tops, between, strict=True)]
        whole = sum(size for size in sizes if size is not None)
        return None if None in sizes else (*first[:axis], whole, *first[axis + 1 :])

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,) = bottoms
        axis = self.cut_axis(bottom)
        return [(*bottom[:axis], size, *bottom[axis + 1 :]) for size in self.sizes(bottom)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Slice(self.cut_axis(bottoms[0]), self.p.slice_point, self.context.num_tops)

    def onnx(self, g: Emitter, *x: Tensor) -> list[Tensor]:
        axis = self.cut_axis(x[0].shape)
        if axis not in x[0].dynamic:
            return g.split(x[0], axis, self.sizes(x[0].shape), self.context.num_tops)
        if not self.p.slice_point:
            return g.split(x[0], axis, None, self.context.num_tops)
        edges = [0, *self.p.slice_point, 2**62]
        return [g.slice(x[0], [axis], [a], [b]) for a, b in itertools.pairwise(edges)]
