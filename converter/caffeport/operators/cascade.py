"""Cascade R-CNN's and MS-CNN's boxes: decoding, and the choice of proposals and of detections."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CaffeportWarning
from ..formats.schema import schema
from .base import Operator, Phase, Shape, count, layer_type, nn
from .detection import SaveOutputParameter, onnx_range

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor

NMS_TYPES = ("IOU", "IOMU", "IOFU")
"""The divisors of an intersection: the union, the smaller area, the first area."""
LOWEST = float(np.finfo(np.float32).min)


@schema
class BBoxRegParameter:
    bbox_mean: list[float] = field(default_factory=list)
    bbox_std: list[float] = field(default_factory=list)
    cls_aware: bool = True


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation by which box deltas were normalised: a delta means delta * std + mean."""

    mean: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)

    @classmethod
    def of(cls, layer: Operator) -> Spread:
        """Return the spread of a layer's bbox_reg_param, or the identity where it gives none."""
        p = layer.message("bbox_reg_param")
        if not p.bbox_mean or not p.bbox_std:
            return cls()
        if len(p.bbox_mean) != 4 or len(p.bbox_std) != 4 or not all(0 < std < math.inf for std in p.bbox_std):
            layer.fail(f"expected 4 bbox_mean and 4 positive bbox_std, got {p.bbox_mean} and {p.bbox_std}")
        return cls(tuple(p.bbox_mean), tuple(p.bbox_std))


class RowBoxes(Operator):
    """The base of layers that take rows of regions or boxes, with or without axes of 1 behind."""

    full_precision = True

    def rows(self, title: str, shape: Shape, *columns: int) -> int:
        """Return the number of rows; refuse others than ``columns`` numbers in each."""
        if count(shape, 1) not in columns:
            self.fail(f"expected {title} of {' or '.join(map(str, columns))} numbers a row, got {shape}")
        return shape[0]

    def sample_regions(self, shape: Shape, random: np.random.Generator) -> np.ndarray:
        """Return rows [0, x1, y1, x2, y2, ...] with corners in order."""
        low, size = random.random((2, shape[0], 2)) * 100
        rest = np.ones((shape[0], count(shape, 1) - 5))
        return np.concatenate([np.zeros((shape[0], 1)), low, low + size, rest], 1).reshape(shape)


@schema
class DecodeBBoxParameter:
    gt_iou_thr: float = 0.95


@layer_type("DecodeBBox")
class DecodeBBox(RowBoxes):
    """Regions (R, 5) moved by the second four of deltas (R, 8); (R, 5, 1, 1). Widths are x2 - x1 + 1.

    In the TRAIN phase boxes whose corners are the wrong way round are left out and, with a third bottom whose last
    column is their overlap with the truth, those of gt_iou_thr and more; in the TEST phase, where the fork refuses a
    third bottom, it is passed over with a note. No gradient passes.
    zhaoweicai/cascade-rcnn ``decode_bbox_layer.cpp``.
    """

    schemas = {"decode_bbox_param": DecodeBBoxParameter, "bbox_reg_param": BBoxRegParameter}
    bottoms = (2, 3)
    bottom_axes = ((2, 4),)
    onnx_support = "yes (TEST phase)"

    def setup(self) -> None:
        self.spread = Spread.of(self)
        if self.phase is Phase.TRAIN:
            self.varying_axis = 0  # type: ignore[misc]
        elif self.context.num_bottoms == 3:
            warnings.warn(
                f'layer "{self.name}" ({self.type}): its third bottom is for the TRAIN phase, and is passed over',
                CaffeportWarning,
                stacklevel=2,
            )

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        rows = {self.rows("deltas", bottoms[0], 8), self.rows("regions", bottoms[1], 5), *(b[0] for b in bottoms[2:])}
        if len(rows) > 1:
            self.fail("expected bottoms of as many rows, got " + " and ".join(str(shape[0]) for shape in bottoms))
        return [(bottoms[1][0], 5, 1, 1)]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return self.sample_regions(shape, random) if index == 1 else None

    def has_onnx(self) -> bool:
        return self.phase is Phase.TEST

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.DecodeBBox(self.spread, self.p.gt_iou_thr if self.phase is Phase.TRAIN else None)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        if self.phase is Phase.TRAIN:
            g.refuse("in the TRAIN phase it chooses examples to train on")
        deltas = g.slice(g.op("Reshape", x[0], g.ints([-1, 8])), [1], [4], [8])
        regions = g.op("Reshape", x[1], g.ints([-1, 5]))
        image, low, high = g.split(regions, 1, [1, 2, 2], 3)
        corners = onnx_decoded(g, deltas, low, high, self.spread)
        return g.unsqueeze(g.op("Concat", image, *corners, axis=1), [2, 3])


def onnx_decoded(g: Emitter, deltas: Tensor, low: Tensor, high: Tensor, spread: Spread) -> tuple[Tensor, Tensor]:
    """Return corners (..., 2) of boxes (..., 4 deltas) of the regions that reach from ``low`` to ``high``."""
    deltas = g.op("Add", g.op("Mul", deltas, g.const(spread.std)), g.const(spread.mean))
    move, grow = g.ops("Split", 2, deltas, g.ints([2, 2]), axis=-1)
    size = g.add(g.op("Sub", high, low), 1.0)
    center = g.op("Add", g.op("Mul", move, size), g.mul(g.op("Add", low, high), 0.5))
    grown = g.add(g.op("Mul", size, g.op("Exp", grow)), -1.0)
    first = g.op("Sub", center, g.mul(grown, 0.5))
    return first, g.op("Add", first, grown)


@schema
class ScaleRouteParameter:
    low_scale: float | None = None
    high_scale: float | None = None


@layer_type("ScaleRoute")
class ScaleRoute(RowBoxes):
    """The rows whose region (bottom 0: [image, x1, y1, x2, y2]) is from low_scale to below high_scale, of every bottom.

    A region's scale is the root of its area. Where there is none, the row nearest to the middle (the limits' geometric
    mean, or the one that is given) by its logarithm. No gradient passes. The declared shape has one row, as Caffe's
    has: several of these share their regions among them, and the most of each would add up beyond all bounds.
    zhaoweicai/cascade-rcnn ``scale_route_layer.cpp``.
    """

    schemas = {"scale_route_param": ScaleRouteParameter}
    bottoms = (1, None)
    tops = (1, None)
    bottom_axes = ((2, 4), (1, 4))
    varying_axis = 0

    def setup(self) -> None:
        low, high = self.p.low_scale, self.p.high_scale
        if (low is not None and not 0 < low < math.inf) or (high is not None and not (low or 0) <= high < math.inf):
            self.fail(f"expected 0 < low_scale <= high_scale, got {low} and {high}")
        if self.context.num_bottoms != self.context.num_tops:
            self.fail(f"expected a top for each of {self.context.num_bottoms} bottoms, got {self.context.num_tops}")

    @property
    def limits(self) -> tuple[float, float, float]:
        """Return (least, first that is too large, middle)."""
        low, high = self.p.low_scale, self.p.high_scale
        middle = math.sqrt(low * high) if low and high else low or high or 256.0
        return low or 0.0, high or -LOWEST, middle

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.rows("regions", bottoms[0], 5)
        if any(bottom[0] != bottoms[0][0] for bottom in bottoms):
            self.fail("expected bottoms of as many rows, got " + " and ".join(str(shape[0]) for shape in bottoms))
        return [(1, *(*shape[1:], 1, 1, 1)[:3]) for shape in bottoms]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return self.sample_regions(shape, random) if index == 0 else None

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.ScaleRoute(*self.limits)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor | list[Tensor]:
        least, most, middle = self.limits
        _, low, high = g.split(g.op("Reshape", x[0], g.ints([-1, 5])), 1, [1, 2, 2], 3)
        width, height = g.split(g.op("Sub", high, low), 1, [1, 1], 2)
        area = g.op("Mul", g.add(width, 1.0), g.add(height, 1.0))
        right = g.op("GreaterOrEqual", g.op("Min", width, height), g.const(0.0))
        scale = g.op("Reshape", g.op("Sqrt", g.op("Where", right, area, g.const(0.0))), g.ints([-1]))
        inside = g.op("And", g.op("GreaterOrEqual", scale, g.const(least)), g.op("Less", scale, g.const(most)))
        chosen = g.op("Reshape", g.op("NonZero", inside), g.ints([-1]))
        distance = g.op("Abs", g.op("Log", g.mul(scale, 1 / middle)))
        nearest = g.op("ArgMin", distance, axis=0, keepdims=1)
        needed = g.cast(g.op("Equal", g.op("Shape", chosen), g.ints([0])), "int64")
        chosen = g.op("Concat", chosen, g.op("Slice", nearest, g.ints([0]), needed, g.ints([0])), axis=0)
        tops = []
        for bottom in x:
            rows = g.op("Gather", bottom, chosen, axis=0)
            tops.append(g.unsqueeze(rows, list(range(bottom.rank, 4))))
        return tops


@schema
class FrcnnOutputParameter:
    conf_thr: float = 0.0
    iou_thr: float = 0.5
    nms_type: str = "IOU"
    max_det_num: int = 0
    save_output_param: SaveOutputParameter = field(default_factory=SaveOutputParameter)


@layer_type("FrcnnOutput")
class FrcnnOutput(RowBoxes):
    """Rows [image, x1, y1, x2, y2, label, score] (D + 1, 7, 1, 1) from scores (R, C), deltas, regions and the image's
    size (height, width); the first row, [0, -1 ...], stands for the image.

    deltas are (R, 4 C), or (R, 8) with cls_aware false. For every class but the first: boxes of conf_thr and more, by
    falling score, without those that overlap a better one by more than iou_thr; then the max_det_num best of all
    classes, 0 meaning all, ordered by class and score. zhaoweicai/cascade-rcnn ``frcnn_output_layer.cpp``. Boxes that
    share less than a pixel's width overlap nothing in Caffe; the ONNX file counts what little they share.
    """

    schemas = {"frcnn_output_param": FrcnnOutputParameter, "bbox_reg_param": BBoxRegParameter}
    bottoms = (4, 4)
    bottom_axes = ((2, 4),)
    varying_axis = 0

    def setup(self) -> None:
        self.spread = Spread.of(self)
        self.class_aware = self.message("bbox_reg_param").cls_aware
        check_suppression(self, self.p.iou_thr, self.p.nms_type)
        if self.p.max_det_num < 0:
            self.fail(f"expected a max_det_num of 0 or more, got {self.p.max_det_num}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        classes, rows = count(bottoms[0], 1), bottoms[0][0]
        if classes < 2:
            self.fail(f"expected scores of 2 classes or more, got {bottoms[0]}")
        self.rows("deltas", bottoms[1], 4 * classes if self.class_aware else 8)
        self.rows("regions", bottoms[2], 5, 6)
        if bottoms[1][0] != rows or bottoms[2][0] != rows or count(bottoms[3]) != 2:
            self.fail(f"expected {rows} rows of deltas and regions and a size of 2 numbers, got {bottoms[1:]}")
        total = rows * (classes - 1)
        return [(1 + (min(total, self.p.max_det_num) if self.p.max_det_num else total), 7, 1, 1)]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        if index == 0:
            return random.random(shape)
        if index == 3:
            return np.full(shape, 224.0)
        return self.sample_regions(shape, random) if index == 2 else None

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        suppression = (p.conf_thr, p.iou_thr, p.nms_type, p.max_det_num)
        return nn.FrcnnOutput(self.spread, self.class_aware, suppression)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        p, classes = self.p, count(x[0].shape, 1)
        refuse_other_overlaps(g, p.nms_type)
        scores = g.op("Reshape", x[0], g.ints([-1, classes]))
        scores = g.op("Transpose", g.slice(scores, [1], [1], [classes]), perm=[1, 0])  # (C - 1, R)
        deltas = g.op("Reshape", x[1], g.ints([-1, count(x[1].shape, 1) // 4, 4]))
        deltas = g.slice(deltas, [1], [1], [classes if self.class_aware else 2])
        regions = g.slice(g.op("Reshape", x[2], g.ints([-1, count(x[2].shape, 1)])), [1], [1], [5])
        low, high = g.split(g.unsqueeze(regions, [1]), 2, [2, 2], 2)
        low, high = onnx_decoded(g, deltas, low, high, self.spread)
        size = g.op("Gather", g.op("Reshape", x[3], g.ints([-1])), g.ints([1, 0]), axis=0)
        boxes = g.op("Concat", g.op("Max", low, g.const(0.0)), g.op("Min", high, size), axis=2)
        boxes = g.op("Transpose", boxes, perm=[1, 0, 2])  # (C - 1 or 1, R, 4)
        if not self.class_aware:
            rows = g.slice(g.op("Shape", scores), [0], [1], [2])
            boxes = g.op("Expand", boxes, g.op("Concat", g.ints([classes - 1]), rows, g.ints([4]), axis=0))
        valid = g.op("GreaterOrEqual", scores, g.const(p.conf_thr))
        place, boxes, scores = onnx_chosen(g, boxes, scores, valid, (0, 0), p.iou_thr, whole_pixels=True)
        label = g.add(g.cast(place, "float"), 1.0)
        rows = g.op("Concat", boxes, label, scores, axis=1)  # (D, 6), by class and falling score
        if p.max_det_num:
            flat = g.op("Reshape", scores, g.ints([-1]))
            most = g.op("Min", g.op("Shape", flat), g.ints([p.max_det_num]))
            _, best = g.ops("TopK", 2, flat, most)
            best, _ = g.ops("TopK", 2, best, most, largest=0)
            rows = g.op("Gather", rows, best, axis=0)
        rows = g.pad(rows, [0, 1], [0, 0])
        rows = g.op("Concat", g.const([[0.0, *[-1.0] * 6]]), rows, axis=0)
        return g.unsqueeze(rows, [2, 3])


def check_suppression(layer: Operator, threshold: float, nms_type: str) -> None:
    if not threshold >= 0:
        layer.fail(f"expected an iou_thr of 0 or more, got {threshold}")
    if nms_type not in NMS_TYPES:
        layer.fail(f'expected an nms_type of {", ".join(NMS_TYPES)}, got "{nms_type}"')


def refuse_other_overlaps(g: Emitter, nms_type: str) -> None:
    if nms_type != "IOU":
        g.refuse(f"NonMaxSuppression knows intersection over union alone, not nms_type {nms_type}")


def onnx_chosen(
    g: Emitter, boxes: Tensor, scores: Tensor, valid: Tensor, most: Sequence[int], threshold: float, whole_pixels: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (batch [M, 1], boxes (M, 4), scores (M, 1)) that are kept of boxes (B, K, 4) with scores (B, K).

    most: how many a batch before and after suppression, 0 meaning all. whole_pixels: both end pixels are of a box. The
    result is by batch and falling score; of equal scores the first comes first.
    """
    ranked = g.op("Where", valid, scores, g.const(LOWEST))
    total = g.slice(g.op("Shape", ranked), [0], [1], [2])
    if most[0] > 0:
        total = g.op("Min", total, g.ints([most[0]]))
    ranked, order = g.ops("TopK", 2, ranked, total, axis=1)
    boxes = g.op("GatherND", boxes, g.unsqueeze(order, [2]), batch_dims=1)
    low, high = g.split(boxes, 2, [2, 2], 2)
    if whole_pixels:  # a box whose corners are the wrong way round has no area
        sides = g.cast(g.op("GreaterOrEqual", high, low), "float")
        right = g.cast(g.reduce("ReduceMin", sides, [2]), "bool")
        high = g.op("Where", right, g.add(high, 1.0), low)
    places = g.op("Sub", g.cast(total, "float"), g.cast(onnx_range(g, total), "float"))
    places = g.op("Where", g.op("Greater", ranked, g.const(LOWEST)), places, g.const(-1.0))
    limit = g.ints([most[1]]) if most[1] > 0 else total
    chosen = g.op(
        "NonMaxSuppression", g.op("Concat", low, high, axis=2), g.unsqueeze(places, [1]), limit,
        g.const([min(threshold, 1.0)]), g.const([0.0]),
    )  # fmt: skip
    where = g.op("Gather", chosen, g.ints([0, 2]), axis=1)
    scores = g.unsqueeze(g.op("GatherND", ranked, where), [1])
    return g.slice(chosen, [1], [0], [1]), g.op("GatherND", boxes, where), scores
