"""Layers that put pads around a blob, or cut its edges off.

Definitions: foss-for-synopsys-dwc-arc-processors/synopsys-caffe src/caffe/layers (Pad, MirrorPad), and the CropCenter
that lltcggie/waifu2x-caffe is built with (lltcggie/caffe).
"""

from __future__ import annotations

import enum
from dataclasses import field
from typing import TYPE_CHECKING, Any

from ..formats.schema import schema
from .base import Operator, Shape, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class PadParameter:
    paddings: list[int] = field(default_factory=list)
    constant_values: float = 0.0


class PadMode(enum.Enum):
    """The way in which MirrorPad fills the pads; the values are NumPy's names."""

    CONSTANT = "constant"
    REFLECT = "reflect"
    SYMMETRIC = "symmetric"
    EDGE = "edge"


@schema
class MirrorPadParameter(PadParameter):
    mode: str = "CONSTANT"


@layer_type("Pad")
class Pad(Operator):
    """``paddings`` before and behind each axis, of the number ``constant_values``"""

    schemas = {"pad_param": PadParameter}
    mode = PadMode.CONSTANT

    def sides(self, bottom: Shape) -> tuple[list[int], list[int]]:
        """Return the pads before and behind every axis."""
        paddings = self.p.paddings
        if len(paddings) != 2 * len(bottom) or min(paddings, default=0) < 0:
            self.fail(f"expected two paddings of 0 or more for each axis of {bottom}, got {paddings}")
        return paddings[::2], paddings[1::2]

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        before, behind = self.sides(bottoms[0])
        top = tuple(map(sum, zip(bottoms[0], before, behind, strict=True)))
        self.check_padded(top)
        return [top]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Pad(*self.sides(bottoms[0]), self.mode.value, self.p.constant_values)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        before, behind = self.sides(x[0].shape)
        if not any(before) and not any(behind):
            return g.op("Identity", x[0])
        return g.pad(x[0], before, behind, self.p.constant_values)


@layer_type("MirrorPad")
class MirrorPad(Pad):
    """Pads that mirror the numbers at the edge, the last one too (SYMMETRIC) or not (REFLECT), or repeat it (EDGE).

    With the mode CONSTANT it is Pad.
    """

    schemas = {"mirror_pad_param": MirrorPadParameter}

    def setup(self) -> None:
        if self.p.mode not in PadMode.__members__:
            self.fail(f'expected a mode of {", ".join(PadMode.__members__)}, got "{self.p.mode}"')
        self.mode = PadMode[self.p.mode]

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        tops, sides = super().top_shapes(bottoms), zip(*self.sides(bottoms[0]), bottoms[0], strict=True)
        room = {PadMode.REFLECT: 1, PadMode.SYMMETRIC: 0}.get(self.mode)
        if room is not None and any(max(before, behind) > size - room for before, behind, size in sides):
            self.fail(f"paddings {self.p.paddings} mirror more than there is of {bottoms[0]}")
        return tops

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        before, behind = self.sides(x[0].shape)
        if self.mode is PadMode.CONSTANT or not any([*before, *behind]):
            return super().onnx(g, *x)
        if self.mode is not PadMode.SYMMETRIC:
            return g.op("Pad", x[0], g.ints([*before, *behind]), mode=self.mode.value)
        top: Any = x[0]  # ONNX's Pad has no such mode
        for axis, (first, last) in enumerate(zip(before, behind, strict=True)):
            if first or last:
                size = x[0].static(axis)
                places = [*range(first)[::-1], *range(size), *range(size - last, size)[::-1]]
                top = g.op("Gather", top, g.ints(places), axis=axis)
        return top


@schema
class CropCenterParameter:
    crop_size: list[int] = field(default_factory=list)


@layer_type("CropCenter")
class CropCenter(Operator):
    """``crop_size`` numbers cut off at both ends of each axis; of waifu2x-caffe"""

    schemas = {"crop_center_param": CropCenterParameter}

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,), sizes = bottoms, self.p.crop_size
        if len(sizes) != len(bottom) or min(sizes, default=0) < 0:
            self.fail(f"expected a crop_size of 0 or more for each axis of {bottom}, got {sizes}")
        if any(2 * size + 1 > whole for size, whole in zip(sizes, bottom, strict=True)):
            self.fail(f"crop_size {sizes} leaves nothing of {bottom}")
        return [tuple(whole - 2 * size for size, whole in zip(sizes, bottom, strict=True))]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.CropCenter(self.p.crop_size)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        cut = [axis for axis, size in enumerate(self.p.crop_size) if size]
        sizes = [self.p.crop_size[axis] for axis in cut]
        return g.slice(x[0], cut, sizes, [-size for size in sizes]) if cut else g.op("Identity", x[0])
