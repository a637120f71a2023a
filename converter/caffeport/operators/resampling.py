"""Layers that change height and width: Interp of DeepLab and PSPNet, Upsample of SegNet and YOLO, PixelShuffle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import Operator, Shape, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor

END = 2**62  # slices up to it reach the end of an axis of any size


class Resampling(Operator):
    """The common base of these layers: bottoms of four axes, and ONNX sizes that may depend on those of a bottom."""

    bottom_axes = ((4, 4),)

    @staticmethod
    def onnx_axes(g: Emitter, x: Tensor, start: int, end: int) -> Tensor:
        """Return the sizes of axes [start, end) as an ONNX value."""
        return g.op("Slice", g.op("Shape", x), g.ints([start]), g.ints([end]))


@schema
class InterpParameter:
    height: int | None = None
    width: int | None = None
    zoom_factor: int | None = None
    shrink_factor: int | None = None
    pad_beg: int = 0
    pad_end: int = 0
    interp_type: str = "bilinear"


@dataclass(frozen=True)
class InterpSize:
    """Pairs (height, width). ``fixed``, or (cropped size - 1) / shrink * zoom + 1."""

    fixed: tuple[int, int] | None
    shrink: int
    zoom: int
    crop: tuple[int, int]  # pad_beg, pad_end

    def of(self, size: tuple[int, int]) -> tuple[int, int]:
        height, width = ((side + sum(self.crop) - 1) // self.shrink * self.zoom + 1 for side in size)
        return self.fixed or (height, width)


@layer_type("Interp")
class Interp(Resampling):
    """Bilinear, corners aligned: top pixel i reads (H - 1) / (H' - 1) i; of DeepLab and PSPNet.

    First pad_beg and pad_end, zero or negative, crop both axes. Then H' is (H - 1) / shrink_factor * zoom_factor
    + 1, rounding down, where just one factor is given; else height x width where both are given; else what
    both factors make. With a second bottom, H' x W' is its size, and no other size may be given.
    """

    schemas = {"interp_param": InterpParameter}
    bottoms = (1, 2)

    def setup(self) -> None:
        p = self.p
        if p.interp_type != "bilinear":
            self.fail(f'interp_type "{p.interp_type}" is not supported')
        if max(p.pad_beg, p.pad_end) > 0:
            self.fail(f"expected pad_beg and pad_end of 0 or less (they crop), got {p.pad_beg} and {p.pad_end}")
        values = [p.height, p.width, p.zoom_factor, p.shrink_factor]
        if min([size for size in values if size is not None], default=1) < 1:
            self.fail(f"expected a positive height, width, zoom_factor and shrink_factor, got {values}")
        if self.context.num_bottoms == 2 and values != [None] * 4:
            self.fail("takes its size from bottom 1; expected no height, width, zoom_factor or shrink_factor")
        one_factor = (p.zoom_factor is None) != (p.shrink_factor is None)
        fixed = None if one_factor or p.height is None or p.width is None else (p.height, p.width)
        if self.context.num_bottoms == 1 and not fixed and p.zoom_factor is None and p.shrink_factor is None:
            self.fail("expected height and width, a zoom_factor, a shrink_factor, or a second bottom")
        self.size = InterpSize(fixed, p.shrink_factor or 1, p.zoom_factor or 1, (p.pad_beg, p.pad_end))

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        if min(bottoms[0][2:]) + self.p.pad_beg + self.p.pad_end < 1:
            self.fail(f"pad_beg {self.p.pad_beg} and pad_end {self.p.pad_end} leave nothing of {bottoms[0]}")
        size = bottoms[1][2:] if len(bottoms) == 2 else self.size.of((bottoms[0][2], bottoms[0][3]))
        return [(*bottoms[0][:2], *size)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Interp(self.size)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        cropped = x[0]
        if self.p.pad_beg or self.p.pad_end:
            cropped = g.slice(cropped, [2, 3], [-self.p.pad_beg] * 2, [self.p.pad_end or END] * 2)
        if not g.tops[0].dynamic:
            sizes = g.ints(g.tops[0].shape)
        else:
            sizes = g.op("Concat", self.onnx_axes(g, cropped, 0, 2), self._onnx_size(g, cropped, x), axis=0)
        modes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
        return g.op("Resize", cropped, None, None, sizes, **modes)

    def _onnx_size(self, g: Emitter, cropped: Tensor, x: tuple[Tensor, ...]) -> Tensor:
        """Return height and width of the top."""
        if not g.tops[0].dynamic & {2, 3}:
            return g.ints(g.tops[0].shape[2:])
        if len(x) == 2:
            return self.onnx_axes(g, x[1], 2, 4)
        steps = g.op("Sub", self.onnx_axes(g, cropped, 2, 4), g.ints([1]))
        steps = g.op("Div", steps, g.ints([self.size.shrink]))
        return g.op("Add", g.op("Mul", steps, g.ints([self.size.zoom])), g.ints([1]))


@schema
class UpsampleParameter:
    scale: int | None = None
    scale_h: int | None = None
    scale_w: int | None = None
    pad_out_h: bool = False
    pad_out_w: bool = False
    upsample_h: int | None = None
    upsample_w: int | None = None


@dataclass(frozen=True)
class UpsampleSize:
    """Pairs (height, width). ``fixed``, or size * scale - less."""

    fixed: tuple[int, int] | None
    scale: tuple[int, int]
    less: tuple[int, int] = (0, 0)  # pad_out_h, pad_out_w

    def of(self, size: tuple[int, int]) -> tuple[int, int]:
        height, width = (size[i] * self.scale[i] - self.less[i] for i in (0, 1))
        return self.fixed or (height, width)


@layer_type("Upsample")
class Upsample(Resampling):
    """Two bottoms: numbers put where a mask of MAX pooling says (SegNet); one: every pixel repeated (YOLO).

    SegNet: the numbers of bottom 0 at the places that bottom 1, the mask, names (h * W' + w), zeros elsewhere.
    H' x W' is upsample_h x upsample_w, else H scale x W scale (scale_h and scale_w; 2 by default), less one
    where pad_out_h or pad_out_w is set.

    YOLO: every pixel repeated ``scale`` times (1 by default) each way.
    """

    schemas = {"upsample_param": UpsampleParameter}
    bottoms = (1, 2)

    def setup(self) -> None:
        p = self.p
        self.is_segnet = self.context.num_bottoms == 2
        if not self.is_segnet:
            scale = 1 if p.scale is None else p.scale
            if p != UpsampleParameter(scale=p.scale) or scale < 1:
                self.fail(f"with one bottom (YOLO's form) only a scale of 1 or more is supported, got {p}")
            self.size = UpsampleSize(None, (scale, scale))
            return
        each, fixed = (p.scale_h, p.scale_w), (p.upsample_h, p.upsample_w)
        for first, second, pair in (("scale_h", "scale_w", each), ("upsample_h", "upsample_w", fixed)):
            if (pair[0] is None) != (pair[1] is None):
                self.fail(f"expected both {first} and {second}, or neither")
        if p.scale is not None and each != (None, None):
            self.fail("expected scale, or scale_h and scale_w, not both")
        scales = (2 if p.scale is None else p.scale,) * 2 if each == (None, None) else each
        self.size = UpsampleSize(None if fixed == (None, None) else fixed, scales, (p.pad_out_h, p.pad_out_w))
        if min(self.size.fixed or scales) < 2:
            self.fail(f"expected sizes and scales of 2 or more, got {self.size.fixed or scales}")
        if not self.size.fixed and any(less and scale != 2 for less, scale in zip(self.size.less, scales, strict=True)):
            self.fail(f"pad_out_h and pad_out_w are for a scale of 2, got {scales}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.same_shape(bottoms)
        return [(*bottoms[0][:2], *self.size.of((bottoms[0][2], bottoms[0][3])))]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        if index == 0:
            return None
        height, width = self.size.of((shape[2], shape[3]))
        rows, columns = np.arange(shape[2]) * height // shape[2], np.arange(shape[3]) * width // shape[3]
        return np.broadcast_to(rows[:, None] * width + columns, shape)

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.MaskUpsample(self.size) if self.is_segnet else nn.NearestUpsample(self.size.scale[0])

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        if not self.is_segnet:
            scales = g.const([1, 1, *self.size.scale])
            modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            return g.op("Resize", x[0], None, scales, mode="nearest", **modes)
        if not g.tops[0].dynamic & {2, 3}:
            size = g.ints(g.tops[0].shape[2:])
        else:
            size = g.op("Mul", self.onnx_axes(g, x[0], 2, 4), g.ints(self.size.scale))
            size = g.op("Sub", size, g.ints(self.size.less))
        front = self.onnx_axes(g, x[0], 0, 2)
        area = g.op("ReduceProd", size, keepdims=1)
        zeros = g.op("Expand", g.const(0.0), g.op("Concat", front, area, axis=0))
        flat, mask = (g.op("Reshape", bottom, g.ints([0, 0, -1])) for bottom in x)
        placed = g.op("ScatterElements", zeros, g.cast(mask, "int64"), flat, axis=2)
        return g.op("Reshape", placed, g.op("Concat", front, size, axis=0))


@schema
class PixelShuffleParameter:
    upscale_factor: int = 0


@layer_type("PixelShuffle")
class PixelShuffle(Resampling):
    """(N, C r^2, H, W) to (N, C, H r, W r), of forks for super-resolution: channel (c r + i) r + j fills row i,
    column j of every r x r block of channel c"""

    schemas = {"pixel_shuffle_param": PixelShuffleParameter}

    def setup(self) -> None:
        if self.p.upscale_factor < 1:
            self.fail(f"expected an upscale_factor of 1 or more, got {self.p.upscale_factor}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (batch, channels, height, width), factor = bottoms[0], self.p.upscale_factor
        if channels % factor**2:
            self.fail(f"upscale_factor {factor} squared does not divide {channels} channels")
        return [(batch, channels // factor**2, height * factor, width * factor)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.PixelShuffle(self.p.upscale_factor)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("DepthToSpace", x[0], blocksize=self.p.upscale_factor, mode="CRD")
