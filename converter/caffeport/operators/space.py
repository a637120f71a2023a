"""Layers of Synopsys' fork that resize, or move numbers between space and channels or batch.

They follow TensorFlow's operators of these names; the definitions are in
foss-for-synopsys-dwc-arc-processors/synopsys-caffe, src/caffe/layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

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


@dataclass
class ResizeNearestNeighborParameter:
    align_corners: bool = False
    output_height: int | None = None
    output_width: int | None = None
    data_format: str = "NHWC"
    scale_height: float = 1.0
    scale_width: float = 1.0
    half_pixel_centers: bool = False
    half_pixel_onnx: bool = False


@dataclass
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


@dataclass
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


@dataclass
class BlockParameter:
    block_size: int = 0
    data_format: str = "NHWC"


class Blocks(Operator):
    """The base of DepthToSpace and SpaceToDepth."""

    bottom_axes = ((4, 4),)
    formats: tuple[str, ...] = ("NHWC", "NCHW")

    def setup(self) -> None:
        if self.p.block_size < 1:
            self.fail(f"expected a block_size of 1 or more, got {self.p.block_size}")
        if self.p.data_format not in self.formats:
            self.fail(f'expected a data_format of {" or ".join(self.formats)}, got "{self.p.data_format}"')
        self.last = self.p.data_format == "NHWC"  # channels are the last axis

    def channels_first(self, shape: Shape) -> Shape:
        return (shape[0], shape[3], shape[1], shape[2]) if self.last else shape

    def onnx_first(self, g: Emitter, x: Tensor) -> Tensor:
        return g.op("Transpose", x, perm=[0, 3, 1, 2]) if self.last else x

    def onnx_back(self, g: Emitter, x: Tensor) -> Tensor:
        return g.op("Transpose", x, perm=[0, 2, 3, 1]) if self.last else x

    def as_given(self, batch: int, channels: int, height: int, width: int) -> list[Shape]:
        return [(batch, height, width, channels) if self.last else (batch, channels, height, width)]


@layer_type("DepthToSpace")
class DepthToSpace(Blocks):
    """Channel (i b + j) C' + c fills row i, column j of every b x b block of channel c.

    With data_format "CRD" (channels on axis 1), it is channel (c b + i) b + j, as PixelShuffle's.
    """

    schemas = {"depth_to_space_param": BlockParameter}
    formats = ("NHWC", "NCHW", "CRD")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        batch, channels, height, width = self.channels_first(bottoms[0])
        block = self.p.block_size
        if channels % block**2:
            self.fail(f"block_size {block} squared does not divide {channels} channels")
        return self.as_given(batch, channels // block**2, height * block, width * block)

    def module(self, bottoms: list[Shape]) -> Any:
        if self.p.data_format == "CRD":
            return nn.PixelShuffle(self.p.block_size)
        return nn.DepthToSpace(self.p.block_size, self.last)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        mode = "CRD" if self.p.data_format == "CRD" else "DCR"
        return self.onnx_back(g, g.op("DepthToSpace", self.onnx_first(g, x[0]), blocksize=self.p.block_size, mode=mode))


@layer_type("SpaceToDepth")
class SpaceToDepth(Blocks):
    """Row i, column j of every b x b block of channel c becomes channel (i b + j) C + c; undoes DepthToSpace"""

    schemas = {"space_to_depth_param": BlockParameter}

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        batch, channels, height, width = self.channels_first(bottoms[0])
        block = self.p.block_size
        if height % block or width % block:
            self.fail(f"block_size {block} does not divide a bottom of {height}x{width}")
        return self.as_given(batch, channels * block**2, height // block, width // block)

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.SpaceToDepth(self.p.block_size, self.last)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return self.onnx_back(g, g.op("SpaceToDepth", self.onnx_first(g, x[0]), blocksize=self.p.block_size))


@dataclass
class SpaceToBatchNDParameter:
    block_shape: list[int] = field(default_factory=list)
    paddings: list[int] = field(default_factory=list)


@dataclass
class BatchToSpaceNDParameter:
    block_shape: list[int] = field(default_factory=list)
    crops: list[int] = field(default_factory=list)


class BatchBlocks(Operator):
    """The base of SpaceToBatchND and BatchToSpaceND: a block length and two edges for each axis from axis 1 on."""

    bottom_axes = ((2, None),)
    edges_name = ""

    def setup(self) -> None:
        self.blocks = self.p.block_shape
        edges = getattr(self.p, self.edges_name)
        if not self.blocks or min(self.blocks) < 1:
            self.fail(f"expected a block_shape of 1 or more for each axis, got {self.blocks}")
        if len(edges) != 2 * len(self.blocks) or min(edges) < 0:
            self.fail(f"expected two {self.edges_name} of 0 or more for each of {len(self.blocks)} axes, got {edges}")
        self.before, self.after = edges[::2], edges[1::2]

    def check_rank(self, bottom: Shape) -> int:
        if len(bottom) <= len(self.blocks):
            self.fail(f"{len(self.blocks)} blocks are too many for a bottom of {bottom}")
        return math.prod(self.blocks)


@layer_type("SpaceToBatchND")
class SpaceToBatchND(BatchBlocks):
    """Axes from 1 on padded with zeros and cut into blocks; every place in a block becomes a batch of its own"""

    schemas = {"space_to_batch_nd_param": SpaceToBatchNDParameter}
    edges_name = "paddings"

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,), parts = bottoms, self.check_rank(bottoms[0])
        padded = [
            size + before + after for size, before, after in zip(bottom[1:], self.before, self.after, strict=False)
        ]
        if any(size % block for size, block in zip(padded, self.blocks, strict=True)):
            self.fail(f"block_shape {self.blocks} does not divide {bottom} with paddings {self.p.paddings}")
        rest = bottom[1 + len(padded) :]
        self.check_padded((bottom[0], *padded, *rest))
        return [(bottom[0] * parts, *(size // b for size, b in zip(padded, self.blocks, strict=True)), *rest)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.SpaceToBatch(self.blocks, self.before, self.after)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        rest = [0] * (x[0].rank - 1 - len(self.blocks))
        sizes = [x[0].static(axis) for axis in range(1, x[0].rank)]
        name = g.pad(x[0], [0, *self.before, *rest], [0, *self.after, *rest])
        cut = [-1]
        for size, block, before, after in zip(sizes, self.blocks, self.before, self.after, strict=False):
            cut += [(size + before + after) // block, block]
        axes = len(self.blocks)
        order = [*range(2, 2 * axes + 1, 2), 0, *range(1, 2 * axes, 2), *range(2 * axes + 1, 2 * axes + 1 + len(rest))]
        parts = g.op("Reshape", name, g.ints([*cut, *sizes[axes:]]))
        return g.op("Reshape", g.op("Transpose", parts, perm=order), g.ints([-1, *g.tops[0].shape[1:]]))


@layer_type("BatchToSpaceND")
class BatchToSpaceND(BatchBlocks):
    """Undoes SpaceToBatchND: the batch spread over blocks of the axes from 1 on, whose edges are then cropped"""

    schemas = {"batch_to_space_nd_param": BatchToSpaceNDParameter}
    edges_name = "crops"

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,), parts = bottoms, self.check_rank(bottoms[0])
        if bottom[0] % parts:
            self.fail(f"block_shape {self.blocks} does not divide a batch of {bottom[0]}")
        sizes = [
            size * block - before - after
            for size, block, before, after in zip(bottom[1:], self.blocks, self.before, self.after, strict=False)
        ]
        if min(sizes) < 1:
            self.fail(f"crops {self.p.crops} leave nothing of {bottom}")
        return [(bottom[0] // parts, *sizes, *bottom[1 + len(sizes) :])]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.BatchToSpace(self.blocks, self.before, self.after)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        axes, sizes = len(self.blocks), [x[0].static(axis) for axis in range(1, x[0].rank)]
        parts = g.op("Reshape", x[0], g.ints([*self.blocks, -1, *sizes]))
        order = [axes]
        for axis in range(axes):
            order += [axes + 1 + axis, axis]
        parts = g.op("Transpose", parts, perm=[*order, *range(2 * axes + 1, axes + 1 + len(sizes))])
        whole = [size * block for size, block in zip(sizes, self.blocks, strict=False)]
        top = g.op("Reshape", parts, g.ints([-1, *whole, *sizes[axes:]]))
        if not any(self.before) and not any(self.after):
            return top
        ends = [size - after for size, after in zip(whole, self.after, strict=True)]
        return g.slice(top, range(1, axes + 1), self.before, ends)
