"""Layers that move numbers without changing them: Flatten, Reshape, Crop, Tile and their kin."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

from ..formats.schema import schema
from .base import MAX_AXES, InPlace, Operator, Shape, count, layer_type, nn
from .data import BlobShape

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class FlattenParameter:
    axis: int = 1
    end_axis: int = -1


@layer_type("Flatten")
class Flatten(Operator):
    """Axes from ``axis`` to ``end_axis``, both included, become one"""

    in_place = InPlace.REFUSED
    schemas = {"flatten_param": FlattenParameter}

    def span(self, bottom: Shape) -> tuple[int, int]:
        return self.axis(self.p.axis, len(bottom)), self.axis(self.p.end_axis, len(bottom), "end_axis")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,) = bottoms
        start, end = self.span(bottom)
        if end + 1 < start:
            self.fail(f"axis {self.p.axis} is behind end_axis {self.p.end_axis} of a bottom of {len(bottom)} axes")
        return [(*bottom[:start], count(bottom, start, end + 1), *bottom[end + 1 :])]

    def module(self, bottoms: list[Shape]) -> Any:
        start, end = self.span(bottoms[0])
        if end < start:  # no axis at all becomes one of length 1
            return nn.Reshape([1], start, start)
        return nn.Flatten(start, end)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        start, end = self.span(x[0].shape)
        if start == 1 and end == x[0].rank - 1:
            return g.op("Flatten", x[0], axis=1)
        return g.reshape(x[0], g.tops[0])


@schema
class ReshapeParameter:
    shape: BlobShape = field(default_factory=BlobShape)
    axis: int = 0
    num_axes: int = -1
    pixelshuffler: int = 1  # Synopsys' fork: another number makes it PixelShuffle by that factor


@layer_type("Reshape")
class Reshape(Operator):
    """Axes [axis, axis + num_axes) replaced by ``shape``: 0 copies the bottom's axis, -1 is worked out"""

    in_place = InPlace.REFUSED
    schemas = {"reshape_param": ReshapeParameter}

    def setup(self) -> None:
        if self.p.pixelshuffler < 1:
            self.fail(f"expected a pixelshuffler of 1 or more, got {self.p.pixelshuffler}")
        if len(self.p.shape.dim) > MAX_AXES:
            self.fail(f"expected {MAX_AXES} dims at most, got {len(self.p.shape.dim)}")
        if self.p.shape.dim.count(-1) > 1 or min(self.p.shape.dim, default=0) < -1:
            self.fail(f"expected one -1 at most and no other negative dim, got {self.p.shape.dim}")

    def span(self, rank: int) -> tuple[int, int]:
        """Return [start, end) of the axes that are replaced."""
        start = self.p.axis if self.p.axis >= 0 else rank + self.p.axis + 1
        if not 0 <= start <= rank:
            self.fail(f"axis {self.p.axis} is out of range for a bottom of {rank} axes")
        end = rank if self.p.num_axes == -1 else start + self.p.num_axes
        if self.p.num_axes < -1 or end > rank:
            self.fail(f"num_axes {self.p.num_axes} from axis {start} is too much for a bottom of {rank} axes")
        return start, end

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,) = bottoms
        if self.p.pixelshuffler > 1:
            return [self.shuffled(bottom)]
        start, end = self.span(len(bottom))
        top = list(bottom[:start])
        for index, dim in enumerate(self.p.shape.dim):
            if dim == 0 and start + index >= len(bottom):
                self.fail(f"dim {index} copies axis {start + index}, but the bottom has {len(bottom)} axes")
            top.append(bottom[start + index] if dim == 0 else dim)
        top.extend(bottom[end:])
        if -1 in top:
            known = -count(top)
            if known == 0 or count(bottom) % known:
                self.fail(f"{bottom} cannot be reshaped to {top}: {count(bottom)} is not divisible by {known}")
            top[top.index(-1)] = count(bottom) // known
        if count(top) != count(bottom):
            self.fail(f"{bottom} ({count(bottom)} numbers) cannot be reshaped to {tuple(top)} ({count(top)})")
        return [tuple(top)]

    def shuffled(self, bottom: Shape) -> Shape:
        """Return the top of PixelShuffle."""
        factor = self.p.pixelshuffler
        if len(bottom) != 4 or bottom[1] % factor**2:
            self.fail(f"pixelshuffler {factor} expects 4 axes and channels that its square divides, got {bottom}")
        return (bottom[0], bottom[1] // factor**2, bottom[2] * factor, bottom[3] * factor)

    def module(self, bottoms: list[Shape]) -> Any:
        if self.p.pixelshuffler > 1:
            return nn.PixelShuffle(self.p.pixelshuffler)
        start, end = self.span(len(bottoms[0]))
        return nn.Reshape(self.p.shape.dim, start, end)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        if self.p.pixelshuffler > 1:
            return g.op("DepthToSpace", x[0], blocksize=self.p.pixelshuffler, mode="CRD")
        start, end = self.span(x[0].rank)
        dims = []
        for index in range(start):
            dims.append(0 if index in x[0].dynamic else x[0].shape[index])
        dims += [0 if dim == 0 else dim for dim in self.p.shape.dim]
        for index in range(start, start + len(self.p.shape.dim)):
            if dims[index] == 0 and index not in x[0].dynamic:
                dims[index] = x[0].shape[index]
        for index in range(end, x[0].rank):
            if index not in x[0].dynamic:
                dims.append(x[0].shape[index])
            elif len(dims) == index:
                dims.append(0)
            elif -1 not in dims:
                dims.append(-1)
            else:
                dims.append(x[0].static(index))
        return g.op("Reshape", x[0], g.ints(dims))


@schema
class CropParameter:
    axis: int = 2
    offset: list[int] = field(default_factory=list)


@layer_type("Crop")
class Crop(Operator):
    """The first bottom cut to the size of the second, from ``axis`` on; the axes before stay whole"""

    in_place = InPlace.OTHER_GRADIENT
    schemas = {"crop_param": CropParameter}
    bottoms = (2, 2)

    def offsets(self, rank: int) -> dict[int, int]:
        """Return {axis: offset}."""
        axes = range(self.axis(self.p.axis, rank), rank)
        numbers = self.p.offset
        if len(numbers) > 1 and len(numbers) != len(axes):
            self.fail(f"expected 0, 1 or {len(axes)} offsets, got {len(numbers)}")
        values = numbers if len(numbers) > 1 else (numbers or [0]) * len(axes)
        return dict(zip(axes, values, strict=True))

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        bottom, reference = bottoms
        if len(bottom) != len(reference):
            self.fail(f"expected bottoms with as many axes, got {bottom} and {reference}")
        top = list(bottom)
        for axis, offset in self.offsets(len(bottom)).items():
            if offset < 0 or offset + reference[axis] > bottom[axis]:
                self.fail(f"{reference[axis]} from offset {offset} is out of axis {axis}, which has {bottom[axis]}")
            top[axis] = reference[axis]
        return [tuple(top)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Crop(self.offsets(len(bottoms[0])))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        offsets = self.offsets(x[0].rank)
        axes = list(offsets)
        if not any(axis in x[1].dynamic for axis in axes):
            ends = [offset + x[1].shape[axis] for axis, offset in offsets.items()]
            return g.slice(x[0], axes, list(offsets.values()), ends)
        starts = g.ints(list(offsets.values()))
        sizes = g.op("Gather", g.op("Shape", x[1]), g.ints(axes), axis=0)
        return g.op("Slice", x[0], starts, g.op("Add", starts, sizes), g.ints(axes))


@schema
class TileParameter:
    axis: int = 1
    tiles: int = 0


@layer_type("Tile")
class Tile(Operator):
    """The whole repeated ``tiles`` times along ``axis``"""

    schemas = {"tile_param": TileParameter}

    def setup(self) -> None:
        if self.p.tiles < 1:
            self.fail(f"expected tiles of 1 or more, got {self.p.tiles}")

    def repeats(self, rank: int) -> list[int]:
        axis = self.axis(self.p.axis, rank)
        return [self.p.tiles if i == axis else 1 for i in range(rank)]

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        repeats = self.repeats(len(bottoms[0]))
        return [tuple(size * times for size, times in zip(bottoms[0], repeats, strict=True))]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Tile(self.repeats(len(bottoms[0])))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Tile", x[0], g.ints(self.repeats(x[0].rank)))


@schema
class PermuteParameter:
    order: list[int] = field(default_factory=list)


@layer_type("Permute")
class Permute(Operator):
    """Axes in another order; those not listed follow in theirs; of SSD"""

    schemas = {"permute_param": PermuteParameter}

    def order(self, rank: int) -> list[int]:
        order = self.p.order
        if len(set(order)) != len(order) or any(not 0 <= axis < rank for axis in order):
            self.fail(f"expected an order of different axes below {rank}, got {order}")
        return [*order, *(axis for axis in range(rank) if axis not in order)]

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return [tuple(bottoms[0][axis] for axis in self.order(len(bottoms[0])))]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Permute(self.order(len(bottoms[0])))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        order = self.order(x[0].rank)
        return x[0] if order == list(range(x[0].rank)) else g.op("Transpose", x[0], perm=order)


@schema
class ShuffleChannelParameter:
    group: int = 1


@layer_type("ShuffleChannel")
class ShuffleChannel(Operator):
    """Channels (group, C / group) read as (C / group, group); of ShuffleNet"""

    schemas = {"shuffle_channel_param": ShuffleChannelParameter}
    bottom_axes = ((4, 4),)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        if self.p.group < 1 or bottoms[0][1] % self.p.group:
            self.fail(f"group {self.p.group} does not divide the channels of {bottoms[0]}")
        return [bottoms[0]]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.ShuffleChannel(self.p.group)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        channels, group = x[0].shape[1], self.p.group
        height, width = (0 if axis in x[0].dynamic else x[0].shape[axis] for axis in (2, 3))
        if height == 0 or width == 0:
            # The two halves of the channel axis and one free axis for H and W; 0 copies by position only.
            folded = g.op("Reshape", x[0], g.ints([0, group, channels // group, -1]))
            swapped = g.op("Transpose", folded, perm=[0, 2, 1, 3])
            sizes = g.op("Shape", x[0])
            return g.op("Reshape", swapped, sizes)
        folded = g.op("Reshape", x[0], g.ints([0, group, channels // group, height, width]))
        return g.op("Reshape", g.op("Transpose", folded, perm=[0, 2, 1, 3, 4]), g.ints([0, channels, height, width]))
