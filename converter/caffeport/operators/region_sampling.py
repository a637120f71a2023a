"""Features read between the places of a map, bilinearly: ROIAlign, MaskResize, and MaskPooling beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import Operator, Shape, layer_type, nn
from .region_pooling import RegionBins, ROIPoolingParameter

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@layer_type("ROIAlign")
class ROIAlign(RegionBins):
    """The map at the corners of every region's pooled_h x pooled_w bins; (R, C, pooled_h + 1, pooled_w + 1).

    A region is grown by pad_ratio of its size on each side, scaled, and moved by half a place; points more than half a
    place outside the map are 0, and so is a region without area. zhaoweicai/cascade-rcnn ``roi_align_layer.cpp``.
    """

    schemas = {"roi_pooling_param": ROIPoolingParameter}

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.check(bottoms)
        return [(bottoms[1][0], bottoms[0][1], self.p.pooled_h + 1, self.p.pooled_w + 1)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.ROIAlign((self.p.pooled_h, self.p.pooled_w), self.p.spatial_scale, self.p.pad_ratio)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        p = self.p
        image, low, high = g.split(self.onnx_regions(g, x[1]), 1, [1, 2, 2], 3)
        pad = g.mul(g.add(g.op("Sub", high, low), 1.0), p.pad_ratio)
        start = g.add(g.mul(g.op("Sub", low, pad), p.spatial_scale), -0.5)
        end = g.add(g.mul(g.op("Add", high, pad), p.spatial_scale), -0.5)
        extent = g.op("Sub", end, start)
        step = g.op("Div", extent, g.const([p.pooled_w, p.pooled_h]))
        points = []  # (R, pooled_w + 1), then (R, pooled_h + 1)
        for axis, bins in enumerate((p.pooled_w, p.pooled_h)):
            first, each = (g.slice(array, [1], [axis], [axis + 1]) for array in (start, step))
            points.append(g.op("Add", first, g.op("Mul", each, g.const(np.arange(bins + 1)))))
        sampled = onnx_sampled(g, x[0], image, points[1], points[0])
        wide = g.cast(g.op("Greater", extent, g.const(0.0)), "float")
        return g.op("Mul", sampled, g.unsqueeze(g.reduce("ReduceMin", wide, [1]), [2, 3]))


def onnx_sampled(g: Emitter, features: Tensor, image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return (R, C, I, J): the map of image (R, 1) at rows (R, I) and columns (R, J), 0 beyond half a place outside."""
    sizes = g.op("Shape", features)
    height, width = (g.op("Gather", sizes, g.ints([axis]), axis=0) for axis in (2, 3))
    area = g.op("Mul", height, width)
    flat = g.op("Transpose", features, perm=[0, 2, 3, 1])
    channels = g.op("Gather", sizes, g.ints([1]), axis=0)
    flat = g.op("Reshape", flat, g.op("Concat", g.ints([-1]), channels, axis=0))
    start = g.unsqueeze(g.op("Mul", g.cast(image, "int64"), area), [2])
    places, shares, inside = [], [], []
    for points, length, axis in ((rows, height, 2), (columns, width, 1)):
        limit = g.cast(length, "float")
        last = g.add(limit, -1.0)
        positions = g.op("Max", g.op("Min", points, last), g.const(0.0))
        low = g.op("Floor", positions)
        high = g.op("Min", g.add(low, 1.0), last)
        upper = g.op("Sub", positions, low)
        within = g.op(
            "And", g.op("GreaterOrEqual", points, g.const(-0.5)), g.op("LessOrEqual", points, g.add(limit, -0.5))
        )
        places.append([g.unsqueeze(g.cast(place, "int64"), [axis]) for place in (low, high)])
        shares.append([g.unsqueeze(share, [axis]) for share in (g.op("Sub", g.const(1.0), upper), upper)])
        inside.append(g.unsqueeze(g.cast(within, "float"), [axis]))
    total: Tensor | None = None
    covered = g.op("Mul", *inside)  # (R, I, J)
    for row, down in zip(places[0], shares[0], strict=True):
        first = g.op("Add", start, g.op("Mul", row, width))
        for column, across in zip(places[1], shares[1], strict=True):
            values = g.op("Gather", flat, g.op("Add", first, column), axis=0)  # (R, I, J, C)
            share = g.op("Mul", g.op("Mul", down, across), covered)
            part = g.op("Mul", values, g.unsqueeze(share, [3]))
            total = part if total is None else g.op("Add", total, part)
    return g.op("Transpose", total, perm=[0, 3, 1, 2])


@schema
class MaskResizeParameter:
    output_height: int = 0
    output_width: int = 0


@layer_type("MaskResize")
class MaskResize(Operator):
    """(N, C, H, W) to output_height x output_width, place i read at i H / output_height, bilinearly.

    Places more than half a place beyond the last are 0. daijifeng001/caffe-mnc ``mask_resize_layer.cu``; where the mask
    shrinks or keeps its size its gradient is the derivative, as it is here always.
    """

    schemas = {"mask_resize_param": MaskResizeParameter}
    bottom_axes = ((4, 4),)

    def setup(self) -> None:
        if min(self.p.output_height, self.p.output_width) < 1:
            self.fail(f"expected a positive output_height and output_width, got {self.p}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return [(*bottoms[0][:2], self.p.output_height, self.p.output_width)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.MaskResize(self.p.output_height, self.p.output_width)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        height, width = x[0].static(2), x[0].static(3)
        rows, columns = (
            resize_matrix(old, new) for old, new in ((height, self.p.output_height), (width, self.p.output_width))
        )
        return g.op("MatMul", g.op("MatMul", g.const(rows), x[0]), g.const(columns.T))


def resize_matrix(old: int, new: int) -> np.ndarray:
    """Return (new, old): the share of each old place that a new one takes."""
    places = np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))
    low = np.minimum(places.astype(np.int64), old - 1)
    share = np.where(low < old - 1, places - low, 0)
    matrix = np.zeros((new, old))
    matrix[np.arange(new), low] = 1 - share
    matrix[np.arange(new), np.minimum(low + 1, old - 1)] += share
    return matrix * (places <= np.float32(old - 0.5))[:, None]


@layer_type("MaskPooling")
class MaskPooling(Operator):
    """Features (N, C, H, W) times a mask (N, 1, H, W); daijifeng001/caffe-mnc ``mask_pooling_layer.cu``."""

    bottoms = (2, 2)
    bottom_axes = ((4, 4),)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        features, mask = bottoms
        if mask != (features[0], 1, *features[2:]):
            self.fail(f"expected a mask of {(features[0], 1, *features[2:])}, got {mask}")
        return [features]

    def demanded_bottom(self, index: int, known: Shape) -> Shape | None:
        return (known[0], 1, *known[2:]) if index == 1 else None

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.MaskPooling()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Mul", x[0], x[1])
