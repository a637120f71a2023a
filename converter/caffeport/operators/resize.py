"""Layers of Synopsys' fork that resize: to the nearest pixel or linearly, and darknet's upsample.

They follow TensorFlow's operators of these names; the definitions are in
foss-for-synopsys-dwc-arc-processors/synopsys-caffe, src/caffe/layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import Operator, Shape, layer_type, nn
from .quantization import FixedPoint, refuse_fixed_point

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


EXACT_FACTORS = 40
"""Up to this factor k, i times the float32 nearest to 1 / k, rounded down, is i // k; with 41 it is not."""


def nearest_places(rule: str, size: int, top: int) -> np.ndarray:
    """Return the pixel along one axis that each of ``top`` pixels copies, in float32 as the fork computes it."""
    i = np.arange(top, dtype=np.float32)
    if rule == "align_corners" and top > 1:
        places = np.floor(i * (np.float32(size - 1) / np.float32(top - 1)) + np.float32(0.5))
    else:
        step = np.float32(size) / np.float32(top)
        if rule == "align_corners":
            places = np.zeros(top)
        elif rule == "half_pixel_centers":
            places = np.floor((i + np.float32(0.5)) * step)
        elif rule == "half_pixel_onnx":
            places = np.floor((i + np.float32(0.5)) * step - 0.5)
        else:
            places = np.floor(i * step)
    return np.clip(places, 0, size - 1).astype(np.int64)


@dataclass(frozen=True)
class ResizeSize:
    """A fixed size or a scale for every spatial axis; a size that is given wins."""

    fixed: tuple[int | None, ...]
    scales: tuple[float, ...]

    def of(self, size: Shape) -> Shape:
        return tuple(
            fixed if fixed is not None else int(np.floor(np.float32(old) * np.float32(scale)))
            for fixed, scale, old in zip(self.fixed, self.scales, size, strict=True)
        )

    @property
    def factors(self) -> tuple[int, ...] | None:
        """The scales, if all are whole and no size is given."""
        whole = all(fixed is None for fixed in self.fixed) and all(scale == int(scale) for scale in self.scales)
        return tuple(map(int, self.scales)) if whole else None


@schema
class ResizeNearestNeighborParameter:
    align_corners: bool = False
    output_height: int | None = None
    output_width: int | None = None
    data_format: str = "NHWC"
    scale_height: float = 1.0
    scale_width: float = 1.0
    half_pixel_centers: bool = False
    half_pixel_onnx: bool = False


@schema
class ResizeBilinearParameter(FixedPoint):
    align_corners: bool = False
    output_height: int | None = None
    output_width: int | None = None
    output_depth: int | None = None
    data_format: str = "NHWC"
    scale_height: float = 1.0
    scale_width: float = 1.0
    scale_depth: float = 1.0
    half_pixel_centers: bool = False
    pytorch_half_pixel: bool = False


class Resize(Operator):
    """The base of the two resizes: the rule for where a pixel reads, the spatial axes, and the size of the top."""

    rules: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("NHWC", "NCHW")
    bottom_axes = ((4, 5),)

    def setup(self) -> None:
        p = self.p
        flags = [rule for rule in self.rules if getattr(p, rule)]
        if len(flags) > 1:
            self.fail(f"expected one of {' and '.join(flags)}, got both")
        self.rule = flags[0] if flags else "asymmetric"
        if p.data_format not in self.formats:
            self.fail(f'expected a data_format of {" or ".join(self.formats)}, got "{p.data_format}"')
        self.first = 1 if p.data_format == "NHWC" else 2  # of the spatial axes
        names = ("height", "width", "depth")[: 3 if p.data_format == "NCHWD" else 2]
        self.size = ResizeSize(
            tuple(getattr(p, f"output_{name}") for name in names), tuple(getattr(p, f"scale_{name}") for name in names)
        )

    @property
    def spatial(self) -> range:
        return range(self.first, self.first + len(self.size.fixed))

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,) = bottoms
        if len(bottom) != len(self.size.fixed) + 2:
            self.fail(f"expected a bottom of {len(self.size.fixed) + 2} axes ({self.p.data_format}), got {bottom}")
        if not all(math.isfinite(scale) and 0 < scale < 2**20 for scale in self.size.scales):
            self.fail(f"expected scales above 0, got {self.size.scales}")
        size = self.size.of(tuple(bottom[axis] for axis in self.spatial))
        if min(size) < 1:
            self.fail(f"a top of {size} is empty")
        top = (*bottom[: self.first], *size, *bottom[self.first + len(size) :])
        self.check_padded(top)
        return [top]

    def onnx_sizes(self, g: Emitter, x: Tensor) -> Tensor:
        """Return the whole top shape as an ONNX value."""
        top = g.tops[0]
        if not top.dynamic:
            return g.ints(top.shape)
        parts = []
        for axis in range(top.rank):
            if axis not in top.dynamic:
                parts.append(g.ints([top.shape[axis]]))
                continue
            length = g.op("Slice", g.op("Shape", x), g.ints([axis]), g.ints([axis + 1]))
            scale = self.size.scales[axis - self.first] if axis in self.spatial else 1.0
            if scale == int(scale):
                parts.append(length if scale == 1 else g.op("Mul", length, g.ints([int(scale)])))
            else:
                parts.append(g.cast(g.op("Floor", g.mul(g.cast(length, "float"), scale)), "int64"))
        return g.op("Concat", *parts, axis=0)


@layer_type("ResizeNearestNeighbor")
class ResizeNearestNeighbor(Resize):
    """Pixel i of the top copies floor(i H / H') of the bottom.

    Other rules: align_corners reads round(i (H - 1) / (H' - 1)), half_pixel_centers floor((i + 0.5) H / H'),
    half_pixel_onnx floor((i + 0.5) H / H' - 0.5). H' is output_height, else H scale_height rounded down.
    """

    schemas = {"resize_nearest_neighbor_param": ResizeNearestNeighborParameter}
    rules = ("align_corners", "half_pixel_centers", "half_pixel_onnx")

    def repeats(self) -> tuple[int, ...] | None:
        """Return how often each pixel is repeated along each axis, if the top is no more than that."""
        factors = self.size.factors
        plain = self.rule in ("asymmetric", "half_pixel_centers")  # both give a pixel a whole block
        return factors if plain and factors and max(factors) <= EXACT_FACTORS else None

    def module(self, bottoms: list[Shape]) -> Any:
        repeats = self.repeats()
        if repeats and self.first == 2:
            return nn.Upsample(scale_factor=tuple(map(float, repeats)), mode="nearest")
        return nn.ResizeNearest(self.rule, self.size, self.first)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        repeats = self.repeats()
        if repeats:
            scales = [1.0] * x[0].rank
            for axis, factor in zip(self.spatial, repeats, strict=True):
                scales[axis] = factor
            modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            return g.op("Resize", x[0], None, g.const(scales), mode="nearest", **modes)
        # Gather has the fork's rounding in its indices, where ONNX Runtime's Resize divides in another way.
        top: Any = x[0]
        for axis in self.spatial:
            places = nearest_places(self.rule, x[0].static(axis), g.tops[0].shape[axis])
            top = g.op("Gather", top, g.ints(places.tolist()), axis=axis)
        return top


@layer_type("ResizeBilinear")
class ResizeBilinear(Resize):
    """Bilinear (three axes with data_format NCHWD: trilinear): pixel i reads at i H / H' of the bottom.

    Other rules: align_corners reads at i (H - 1) / (H' - 1), half_pixel_centers at (i + 0.5) H / H' - 0.5,
    pytorch_half_pixel the same but at the first pixel for a top of one. H' as in ResizeNearestNeighbor.
    """

    schemas = {"resize_bilinear_param": ResizeBilinearParameter}
    rules = ("align_corners", "half_pixel_centers", "pytorch_half_pixel")
    formats = ("NHWC", "NCHW", "NCHWD")

    def setup(self) -> None:
        super().setup()
        refuse_fixed_point(self, self.p)

    def module(self, bottoms: list[Shape]) -> Any:
        if self.first == 2 and self.rule in ("align_corners", "half_pixel_centers"):
            mode = {2: "bilinear", 3: "trilinear"}[len(self.size.fixed)]
            corners = self.rule == "align_corners"
            if None not in self.size.fixed:
                return nn.Upsample(size=self.size.fixed, mode=mode, align_corners=corners)
            if self.size.factors:
                return nn.Upsample(scale_factor=tuple(map(float, self.size.factors)), mode=mode, align_corners=corners)
        return nn.ResizeLinear(self.rule, self.size, self.first)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        rule = {"half_pixel_centers": "half_pixel", "pytorch_half_pixel": "pytorch_half_pixel"}
        modes = {"mode": "linear", "coordinate_transformation_mode": rule.get(self.rule, self.rule)}
        sizes = self.onnx_sizes(g, x[0])
        if self.first == 2:
            return g.op("Resize", x[0], None, None, sizes, **modes)
        # ONNX Runtime interpolates over the last two axes.
        sizes = g.op("Gather", sizes, g.ints([0, 3, 1, 2]), axis=0)
        top = g.op("Resize", g.op("Transpose", x[0], perm=[0, 3, 1, 2]), None, None, sizes, **modes)
        return g.op("Transpose", top, perm=[0, 2, 3, 1])


@schema
class UpsampleDarknetParameter:
    stride: int = 1


@layer_type("UpsampleDarknet")
class UpsampleDarknet(Operator):
    """Every pixel repeated ``stride`` times each way, as darknet's upsample"""

    schemas = {"upsample_darknet_param": UpsampleDarknetParameter}
    bottom_axes = ((4, 4),)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        if self.p.stride < 1:
            self.fail(f"expected a stride of 1 or more, got {self.p.stride}")
        batch, channels, height, width = bottoms[0]
        top = (batch, channels, height * self.p.stride, width * self.p.stride)
        self.check_padded(top)
        return [top]

    def module(self, bottoms: list[Shape]) -> Any:
        if self.p.stride > EXACT_FACTORS:
            return nn.NearestUpsample(self.p.stride)
        return nn.Upsample(scale_factor=float(self.p.stride), mode="nearest")

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        scales = g.const([1, 1, self.p.stride, self.p.stride])
        modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return g.op("Resize", x[0], None, scales, mode="nearest", **modes)
