"""Layers of Synopsys' fork that pick some places of an axis: Gather, Piece and StridedSlice.

They follow TensorFlow's operators gather, slice and strided_slice; the definitions are in
foss-for-synopsys-dwc-arc-processors/synopsys-caffe, src/caffe/layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..formats.schema import schema
from .base import MAX_AXES, Operator, Shape, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class GatherParameter:
    indices: list[int] = field(default_factory=list)
    shape: list[int] = field(default_factory=list)
    axis: int = 0


@layer_type("Gather")
class Gather(Operator):
    """The places ``indices`` of ``axis``, laid out as ``shape`` says; a shape of 0 means one index and no axis"""

    schemas = {"gather_param": GatherParameter}
    bottom_axes = ((1, None),)

    def setup(self) -> None:
        self.layout = () if self.p.shape == [0] else tuple(self.p.shape)
        if len(self.p.indices) != math.prod(self.layout) or min(self.p.indices, default=-1) < 0:
            self.fail(f"expected indices of 0 or more for a shape of {list(self.layout)}, got {self.p.indices}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,), axis = bottoms, self.axis(self.p.axis, len(bottoms[0]))
        if max(self.p.indices) >= bottom[axis]:
            self.fail(f"index {max(self.p.indices)} is out of axis {axis}, which has {bottom[axis]}")
        top = (*bottom[:axis], *self.layout, *bottom[axis + 1 :])
        if len(top) > MAX_AXES:
            self.fail(f"expected {MAX_AXES} axes at most, got {len(top)}")
        return [top]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Gather(self.p.indices, self.layout, self.axis(self.p.axis, len(bottoms[0])))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        axis = self.axis(self.p.axis, x[0].rank)
        indices = g.ints(self.p.indices)
        if len(self.layout) != 1:
            indices = g.op("Reshape", indices, g.ints(list(self.layout)))
        return g.op("Gather", x[0], indices, axis=axis)


@dataclass(frozen=True)
class Span:
    """The places that are taken of an axis of any size: as in TensorFlow, clipped to the axis; None is the end."""

    begin: int | None
    end: int | None
    step: int = 1
    single: bool = False  # one place, and the axis goes away

    def of(self, size: int) -> tuple[int, int, int]:
        """Return (first place, how many, step)."""
        forward = self.step > 0
        begin = self.begin
        if begin is None:
            begin = 0 if forward else size - 1
        elif begin >= 0:
            begin = min(begin, size - 1)
        else:
            begin = max(begin + size, 0)
        if self.single:
            return begin, 1, 1
        end = self.end
        if end is None:
            end = size if forward else -1
        elif end >= 0:
            end = min(end, size)
        else:
            end = max(end + size, -1)
        return begin, max(-((begin - end) // self.step), 0), self.step

    @property
    def whole(self) -> bool:
        return self == Span(None, None)


class Spans(Operator):
    """The common base of Piece and StridedSlice: a span of every axis."""

    def spans(self, bottom: Shape) -> list[Span]:
        raise NotImplementedError

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        top = []
        for axis, (span, size) in enumerate(zip(self.spans(bottoms[0]), bottoms[0], strict=True)):
            count = span.of(size)[1]
            if count < 1:
                self.fail(f"takes nothing of axis {axis}, which has {size}")
            if not span.single:
                top.append(count)
        return [tuple(top)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Spans(self.spans(bottoms[0]))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        axes, starts, ends, steps, single = [], [], [], [], []
        for axis, span in enumerate(self.spans(x[0].shape)):
            if span.whole:
                continue
            first, count, step = span.of(x[0].static(axis))
            end = first + count * step
            axes.append(axis)
            starts.append(first)
            steps.append(step)
            ends.append(end if end >= 0 else -(2**31))  # -1 would be the last place
            single += [axis] if span.single else []
        if not axes:
            return g.op("Identity", x[0])
        top = g.op("Slice", x[0], g.ints(starts), g.ints(ends), g.ints(axes), g.ints(steps))
        return g.op("Squeeze", top, g.ints(single)) if single else top


@schema
class PieceParameter:
    begin: list[int] = field(default_factory=list)
    size: list[int] = field(default_factory=list)


@layer_type("Piece")
class Piece(Spans):
    """``size`` numbers from ``begin`` on along each axis; a size of -1 means all the rest"""

    schemas = {"piece_param": PieceParameter}

    def spans(self, bottom: Shape) -> list[Span]:
        begin, sizes = self.p.begin, self.p.size
        if len(begin) != len(bottom) or len(sizes) != len(bottom):
            self.fail(f"expected a begin and a size for each axis of {bottom}, got {begin} and {sizes}")
        for start, size, whole in zip(begin, sizes, bottom, strict=True):
            if not 0 <= start < whole or size < -1 or size == 0 or start + size > whole:
                self.fail(f"{size} from {start} is out of an axis that has {whole}")
        ends = [None if size == -1 else start + size for start, size in zip(begin, sizes, strict=True)]
        return [Span(start or None, end) for start, end in zip(begin, ends, strict=True)]


@schema
class StridedSliceParameter:
    begin: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    strides: list[int] = field(default_factory=list)
    axes: list[int] = field(default_factory=list)
    begin_mask: int = 0
    end_mask: int = 0
    ellipsis_mask: int = 0
    new_axis_mask: int = 0
    shrink_axis_mask: int = 0


@layer_type("StridedSlice")
class StridedSlice(Spans):
    """Every ``strides``-th number from ``begin`` to before ``end``, along ``axes`` or the first axes.

    Bit i of begin_mask or end_mask says that begin or end i is that of the axis; of shrink_axis_mask, that only
    the place begin is taken and the axis goes away.
    """

    schemas = {"strided_slice_param": StridedSliceParameter}
    bottom_axes = ((1, None),)

    def setup(self) -> None:
        p = self.p
        self.steps = p.strides or [1] * len(p.begin)
        lengths = {len(p.begin), len(p.end), len(self.steps), *([len(p.axes)] if p.axes else [])}
        if len(lengths) != 1:
            self.fail(f"expected as many begin, end, strides and axes, got {sorted(lengths)}")
        if 0 in self.steps:
            self.fail("expected strides other than 0")
        if p.ellipsis_mask or p.new_axis_mask:
            self.fail("ellipsis_mask and new_axis_mask are not supported; expected 0")

    def spans(self, bottom: Shape) -> list[Span]:
        p, spans = self.p, [Span(None, None)] * len(bottom)
        if len(p.begin) > len(bottom):
            self.fail(f"{len(p.begin)} begins are too many for a bottom of {bottom}")
        for index, (begin, end, step) in enumerate(zip(p.begin, p.end, self.steps, strict=True)):
            if p.axes:  # ONNX's form, which has no masks
                spans[self.axis(p.axes[index], len(bottom))] = Span(begin, end, step)
                continue
            bit = 1 << index
            single = bool(p.shrink_axis_mask & bit)
            first = None if p.begin_mask & bit and not single else begin
            spans[index] = Span(first, None if p.end_mask & bit else end, step, single)
        return spans
