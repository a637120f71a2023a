"""Layers that turn, add, drop and repeat axes, of forks for text lines and of Synopsys' fork.

Definitions: tianzhi0549/CTPN caffe/src/caffe/layers (Reverse, Transpose) and
foss-for-synopsys-dwc-arc-processors/synopsys-caffe src/caffe/layers (the others, and Reverse of several axes).
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

from ..formats.schema import schema
from .base import MAX_AXES, Operator, Shape, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class ReverseParameter:
    axis: list[int] = field(default_factory=list)


@layer_type("Reverse")
class Reverse(Operator):
    """Numbers in the opposite order along each ``axis`` (0 by default)"""

    schemas = {"reverse_param": ReverseParameter}
    bottom_axes = ((1, None),)

    def axes(self, rank: int) -> list[int]:
        return sorted({self.axis(axis, rank) for axis in self.p.axis or [0]})

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.axes(len(bottoms[0]))
        return [bottoms[0]]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Reverse(self.axes(len(bottoms[0])))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.reverse(x[0], self.axes(x[0].rank))


@schema
class TransposeParameter:
    dim: list[int] = field(default_factory=list)


@layer_type("Transpose")
class Transpose(Operator):
    """Axes in the order ``dim``, which names each once: axis i of the top is axis dim[i] of the bottom"""

    schemas = {"transpose_param": TransposeParameter}
    bottom_axes = ((1, None),)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        if sorted(self.p.dim) != list(range(len(bottoms[0]))):
            self.fail(f"expected each of the axes 0 to {len(bottoms[0]) - 1} once in dim, got {self.p.dim}")
        return [tuple(bottoms[0][axis] for axis in self.p.dim)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Permute(self.p.dim)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Transpose", x[0], perm=self.p.dim)


@schema
class AxesParameter:
    axis: list[int] = field(default_factory=list)


@layer_type("Squeeze")
class Squeeze(Operator):
    """Axes of length 1 left out: those of ``axis``, or all"""

    schemas = {"squeeze_param": AxesParameter}

    def axes(self, bottom: Shape) -> list[int]:
        if not self.p.axis:
            return [axis for axis, size in enumerate(bottom) if size == 1]
        axes = sorted({self.axis(axis, len(bottom)) for axis in self.p.axis})
        if any(bottom[axis] != 1 for axis in axes):
            self.fail(f"expected axes of length 1, got {axes} of {bottom}")
        return axes

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        axes = self.axes(bottoms[0])
        return [tuple(size for axis, size in enumerate(bottoms[0]) if axis not in axes)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Squeeze(self.axes(bottoms[0]))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        axes = self.axes(x[0].shape)
        return g.op("Squeeze", x[0], g.ints(axes)) if axes else g.op("Identity", x[0])


@layer_type("ExpandDimsND")
class ExpandDimsND(Operator):
    """Axes of length 1 put in before each ``axis`` of the bottom, or for -1 behind its last axis"""

    schemas = {"expand_dims_nd_param": AxesParameter}

    def places(self, rank: int) -> list[int]:
        """Return the places of the new axes in the top."""
        axes: list[bool] = [False] * rank
        if rank + len(self.p.axis) > MAX_AXES:
            self.fail(f"expected {MAX_AXES} axes at most, got {rank} and {len(self.p.axis)} more")
        for index, axis in enumerate(self.p.axis):
            place = axis + index if axis >= 0 else self.axis(axis, rank) + 1 + index
            if axis > rank or place > len(axes):
                self.fail(f"axis {axis} is out of range for a bottom of {rank} axes")
            axes.insert(place, True)
        return [place for place, new in enumerate(axes) if new]

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        top = list(bottoms[0])
        for place in self.places(len(bottoms[0])):
            top.insert(place, 1)
        return [tuple(top)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.ExpandDims(self.places(len(bottoms[0])))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        places = self.places(x[0].rank)
        return g.unsqueeze(x[0], places) if places else g.op("Identity", x[0])


@schema
class StackParameter:
    axis: int = 0


@layer_type("Stack")
class Stack(Operator):
    """Bottoms of one shape one after another along a new ``axis``"""

    schemas = {"stack_param": StackParameter}
    bottoms = (1, None)

    def place(self, rank: int) -> int:
        if rank == MAX_AXES:
            self.fail(f"expected bottoms of fewer than {MAX_AXES} axes")
        return self.axis(self.p.axis, rank + 1)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.same_shape(bottoms)
        place = self.place(len(bottoms[0]))
        return [(*bottoms[0][:place], len(bottoms), *bottoms[0][place:])]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Stack(self.place(len(bottoms[0])))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        place = self.place(x[0].rank)
        return g.op("Concat", *(g.unsqueeze(bottom, [place]) for bottom in x), axis=place)


@schema
class UnstackParameter:
    num: int = 0
    axis: int = 0


@layer_type("Unstack")
class Unstack(Operator):
    """Top i is place i along ``axis``, which goes away"""

    schemas = {"unstack_param": UnstackParameter}
    tops = (1, None)
    bottom_axes = ((1, None),)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,), axis = bottoms, self.axis(self.p.axis, len(bottoms[0]))
        if self.p.num not in (0, bottom[axis]) or self.context.num_tops != bottom[axis]:
            number = f", num {self.p.num}" if self.p.num else ""
            self.fail(
                f"expected a top for each of {bottom[axis]} along axis {axis}, got {self.context.num_tops}{number}"
            )
        return [(*bottom[:axis], *bottom[axis + 1 :])] * self.context.num_tops

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Unstack(self.axis(self.p.axis, len(bottoms[0])))

    def onnx(self, g: Emitter, *x: Tensor) -> list[Tensor]:
        axis = self.axis(self.p.axis, x[0].rank)
        return [g.op("Gather", x[0], g.ints(i), axis=axis) for i in range(x[0].static(axis))]


@schema
class TileNDParameter:
    multiples: list[int] = field(default_factory=list)


@layer_type("TileND")
class TileND(Operator):
    """The whole repeated ``multiples`` times along each axis"""

    schemas = {"tile_nd_param": TileNDParameter}

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        multiples = self.p.multiples
        if len(multiples) != len(bottoms[0]) or min(multiples, default=1) < 1:
            self.fail(f"expected multiples of 1 or more, one for each axis of {bottoms[0]}, got {multiples}")
        top = tuple(size * times for size, times in zip(bottoms[0], multiples, strict=True))
        self.check_padded(top)
        return [top]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Tile(self.p.multiples)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Tile", x[0], g.ints(self.p.multiples))


@schema
class BroadcastToParameter:
    shape: list[int] = field(default_factory=list)


@layer_type("BroadcastTo")
class BroadcastTo(Operator):
    """Axes of length 1, and missing ones before the first, repeated up to ``shape``"""

    schemas = {"broadcast_to_param": BroadcastToParameter}

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,), shape = bottoms, tuple(self.p.shape)
        own = shape[len(shape) - len(bottom) :]
        fits = len(bottom) <= len(shape) <= MAX_AXES and min(shape, default=1) > 0
        if not fits or any(new != old and old != 1 for new, old in zip(own, bottom, strict=True)):
            self.fail(f"{bottom} cannot be repeated up to {shape}")
        self.check_padded(shape)
        return [shape]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.BroadcastTo(self.p.shape)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Expand", x[0], g.ints(self.p.shape))
