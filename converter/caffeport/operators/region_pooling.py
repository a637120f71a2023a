"""Pooling over regions of the input: Fast R-CNN's, and R-FCN's, where each bin has channels of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import Operator, Shape, count, layer_type, nn
from .detection import onnx_range

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


class RegionPooling(Operator):
    """The base of both poolings: bottom 1 holds regions (R, 5) [image, x1, y1, x2, y2] in pixels of the input."""

    bottoms = (2, 2)
    bottom_axes = ((4, 4), (2, None))
    row_bottoms = (1,)

    def check(self, bottoms: list[Shape]) -> None:
        if count(bottoms[1], 1) != 5:
            self.fail(f"expected features (N, C, H, W) and regions (R, 5), got {bottoms[0]} and {bottoms[1]}")

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        if index == 0:
            return None
        low, size = random.random((2, shape[0], 2)) * 6 / self.p.spatial_scale
        return np.concatenate([np.zeros((shape[0], 1)), low, low + size], 1).reshape(shape)

    def onnx_regions(self, g: Emitter, x: Tensor) -> Tensor:
        return x if x.rank == 2 else g.op("Reshape", x, g.ints([-1, 5]))


class RegionBins(RegionPooling):
    """The base of what makes pooled_h x pooled_w bins of every region."""

    def setup(self) -> None:
        if min(self.p.pooled_h, self.p.pooled_w) < 1 or not 0 < self.p.spatial_scale < math.inf:
            self.fail(f"expected a positive pooled_h, pooled_w and spatial_scale, got {self.p}")


@schema
class ROIPoolingParameter:
    pooled_h: int = 0
    pooled_w: int = 0
    spatial_scale: float = 1.0
    pad_ratio: float = 0.0


@layer_type("ROIPooling")
class ROIPooling(RegionBins):
    """The maximum of each of pooled_h x pooled_w bins of every region; (R, C, pooled_h, pooled_w); of Fast R-CNN.

    Corners are scaled and rounded (halves away from 0), both ends belong to the region, and bin i of n
    covers floor(i size / n) to ceil((i + 1) size / n) - 1 within the map; an empty bin gives 0. With pad_ratio (of
    zhaoweicai/mscnn) a region is first grown by that share of its width and height on each side.
    """

    schemas = {"roi_pooling_param": ROIPoolingParameter}

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.check(bottoms)
        return [(bottoms[1][0], bottoms[0][1], self.p.pooled_h, self.p.pooled_w)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.ROIPooling((self.p.pooled_h, self.p.pooled_w), self.p.spatial_scale, self.p.pad_ratio)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        shape = [self.p.pooled_h, self.p.pooled_w]
        regions = self.onnx_regions(g, x[1])
        if self.p.pad_ratio:
            image, low, high = g.split(regions, 1, [1, 2, 2], 3)
            pad = g.mul(g.add(g.op("Sub", high, low), 1.0), self.p.pad_ratio)
            regions = g.op("Concat", image, g.op("Sub", low, pad), g.op("Add", high, pad), axis=1)
        return g.op("MaxRoiPool", x[0], regions, pooled_shape=shape, spatial_scale=self.p.spatial_scale)


@schema
class PSROIPoolingParameter:
    spatial_scale: float | None = None
    output_dim: int | None = None
    group_size: int | None = None


@layer_type("PSROIPooling")
class PSROIPooling(RegionPooling):
    """The mean of each of G x G bins of every region, bin (i, j) of output d over channel (d G + i) G + j; of R-FCN.

    A region reaches from round(x1) s to (round(x2) + 1) s, s the spatial_scale, and is at least 0.1 wide;
    bin i covers floor(start + i size / G) to ceil(start + (i + 1) size / G) - 1; an empty bin gives 0.
    """

    schemas = {"psroi_pooling_param": PSROIPoolingParameter}

    def setup(self) -> None:
        p = self.p
        if any(value is None or value <= 0 for value in (p.spatial_scale, p.output_dim, p.group_size)):
            self.fail(f"expected a positive spatial_scale, output_dim and group_size, got {p}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.check(bottoms)
        outputs, group = self.p.output_dim, self.p.group_size
        if bottoms[0][1] != outputs * group * group:
            self.fail(f"expected {outputs} x {group} x {group} channels, got {bottoms[0][1]}")
        return [(bottoms[1][0], outputs, group, group)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.PSROIPooling(self.p.output_dim, self.p.group_size, self.p.spatial_scale)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        outputs, group = self.p.output_dim, self.p.group_size
        image, first, last = g.split(self.onnx_regions(g, x[1]), 1, [1, 2, 2], 3)
        start = g.mul(onnx_rounded(g, first), self.p.spatial_scale)
        end = g.mul(g.add(onnx_rounded(g, last), 1.0), self.p.spatial_scale)
        size = g.op("Max", g.op("Sub", end, start), g.const(0.1))
        step = g.unsqueeze(g.op("Div", size, g.const(group)), [2])
        start = g.unsqueeze(start, [2])
        bins = np.arange(group + 1)
        low = g.op("Floor", g.op("Add", g.op("Mul", step, g.const(bins[:-1])), start))  # (R, 2, G): x, y
        edges = low, g.op("Ceil", g.op("Add", g.op("Mul", step, g.const(bins[1:])), start))
        sizes = g.op("Shape", x[0])
        images, width, height = (g.op("Gather", sizes, g.ints([axis]), axis=0) for axis in (0, 3, 2))
        inside = []  # (R, G, W) and (R, G, H): 1 where the bin covers the column or row
        for axis, length in enumerate((width, height)):
            ends = [g.op("Transpose", g.op("Gather", edge, g.ints([axis]), axis=1), perm=[0, 2, 1]) for edge in edges]
            places = g.cast(onnx_range(g, length), "float")
            within = g.op("And", g.op("LessOrEqual", ends[0], places), g.op("Less", places, ends[1]))
            inside.append(g.cast(within, "float"))
        columns, rows = inside
        numbers = g.cast(onnx_range(g, images), "float")
        own = g.cast(g.op("Equal", g.op("Floor", image), numbers), "float")  # (R, N)
        shape = g.op("Concat", g.op("Slice", sizes, g.ints([0]), g.ints([1])), g.ints([outputs, group, group]),
                     g.op("Slice", sizes, g.ints([2]), g.ints([4])), axis=0)  # fmt: skip
        maps = g.op("Reshape", x[0], shape)
        own_rows = g.op("Mul", g.unsqueeze(own, [1, 3]), g.unsqueeze(rows, [2]))
        total = g.op("Einsum", maps, own_rows, equation="ndijhw,rinh->rdijw")
        total = g.op("Einsum", total, columns, equation="rdijw,rjw->rdij")
        areas = [g.reduce("ReduceSum", side, [2], keepdims=False) for side in (rows, columns)]
        area = g.op("Mul", g.unsqueeze(areas[0], [2]), g.unsqueeze(areas[1], [1]))
        return g.op("Div", total, g.unsqueeze(g.op("Max", area, g.const(1.0)), [1]))


def onnx_rounded(g: Emitter, x: Tensor) -> Tensor:
    """Round halves away from 0, as C's round; ONNX's Round takes them to the even number."""
    return g.op("Mul", g.op("Sign", x), g.op("Floor", g.add(g.op("Abs", x), 0.5)))
