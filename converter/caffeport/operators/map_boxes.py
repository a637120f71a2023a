"""Proposals that are read off maps, several boxes a place: BoxGroupOutput of Cascade R-CNN, BoxOutput of MS-CNN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import Operator, Shape, count, layer_type, nn
from .cascade import BBoxRegParameter, Spread, check_suppression, onnx_chosen, refuse_other_overlaps
from .detection import onnx_or_else, onnx_range

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@dataclass(frozen=True)
class Fields:
    """The boxes (width, height) of each place of one map, and the pixels from one place to the next."""

    sizes: Sequence[tuple[int, int]]
    stride: int


@dataclass(frozen=True)
class MapSelection:
    """The way in which the boxes of maps are decoded and chosen; see MapBoxes."""

    spread: Spread
    bounds: tuple[float, float]  # the largest move and the largest logarithm of growth
    least_score: float
    min_size: float
    most: tuple[int, int]
    threshold: float
    nms_type: str
    whole_pixels: bool


class MapBoxes(Operator):
    """The common base of both layers.

    A delta (x, y, log w, log h), denormalised and kept within -1 / field_xyr to 1 / field_xyr and -log field_whr to
    log field_whr, moves the box of its field from the middle of its place; boxes are clipped to the map times its
    stride. Of those that score fg_thr and more and whose sides are min_size and more, the max_nms_num best stay, then
    those that no better one overlaps by more than iou_thr, then the max_post_nms_num best; 0 means all.

    Tops: [image, x1, y1, x2, y2] (R, 5, 1, 1) and, if asked for, the same with the score (R, 6, 1, 1). Where nothing is
    left they are [0, 1, 1, 10, 10] and zeros. No gradient passes.
    """

    tops = (1, 2)
    bottom_axes = ((4, 4),)
    varying_axis = 0
    full_precision = True
    whole_pixels: bool
    fields: Sequence[Fields]

    def setup(self) -> None:
        p = self.p
        check_suppression(self, p.iou_thr, p.nms_type)
        if not 0 < p.field_xyr < math.inf or not 1 <= p.field_whr < math.inf:
            self.fail(
                f"expected a positive field_xyr and a field_whr of 1 or more, got {p.field_xyr} and {p.field_whr}"
            )
        if min(p.max_nms_num, p.max_post_nms_num) < 0:
            self.fail("expected a max_nms_num and max_post_nms_num of 0 or more")
        self.fields = self.read_fields()
        if any(min(size) < 1 for one in self.fields for size in one.sizes) or any(f.stride < 1 for f in self.fields):
            self.fail(f"expected positive field sizes and strides, got {self.fields}")
        self.selection = MapSelection(
            Spread.of(self), (1 / p.field_xyr, math.log(p.field_whr)), p.fg_thr, p.min_size,
            (p.max_nms_num, p.max_post_nms_num), p.iou_thr, p.nms_type, self.whole_pixels,
        )  # fmt: skip

    def read_fields(self) -> Sequence[Fields]:
        raise NotImplementedError

    def row_tops(self, images: int, candidates: int) -> list[Shape]:
        """Return the shapes of the tops: as many rows as there can be."""
        for most in self.selection.most:
            candidates = min(candidates, most) if most else candidates
        rows = images * candidates
        tops: list[Shape] = [(rows, 5, 1, 1), (rows, 6, 1, 1)]
        return tops[: self.context.num_tops]

    def onnx_corners(self, g: Emitter, deltas: Tensor, fields: Fields) -> Tensor:
        """Clipped boxes (N, G H W, 4) of deltas (N, G, 4, H, W)."""
        chosen = self.selection
        mean, std = (np.reshape(values, (1, 1, 4, 1, 1)) for values in (chosen.spread.mean, chosen.spread.std))
        deltas = g.op("Add", g.op("Mul", deltas, g.const(std)), g.const(mean))
        move, grow = (
            g.op("Min", g.op("Max", part, g.const(-bound)), g.const(bound))
            for part, bound in zip(g.split(deltas, 2, [2, 2], 2), chosen.bounds, strict=True)
        )
        sizes = g.op("Shape", deltas)
        size = g.const(np.reshape(fields.sizes, (1, -1, 2, 1, 1)))
        columns, rows = (g.op("Gather", sizes, g.ints([axis]), axis=0) for axis in (4, 3))
        middles = []
        for length, shape, unit in ((columns, [1, 1, 1, 1, -1], [1.0, 0.0]), (rows, [1, 1, 1, -1, 1], [0.0, 1.0])):
            places = g.mul(g.add(g.cast(onnx_range(g, length), "float"), 0.5), fields.stride)
            places = g.op("Reshape", places, g.ints(shape))
            middles.append(g.op("Mul", places, g.const(np.reshape(unit, (1, 1, 2, 1, 1)))))
        center = g.op("Add", g.op("Mul", move, size), g.op("Add", *middles))
        grown = g.op("Mul", size, g.op("Exp", grow))
        low = g.op("Sub", center, g.mul(grown, 0.5))
        limit = g.mul(g.cast(g.op("Concat", columns, rows, axis=0), "float"), fields.stride)
        limit = g.op("Reshape", limit, g.ints([1, 1, 2, 1, 1]))
        if chosen.whole_pixels:
            high = g.op("Min", g.add(g.op("Add", low, grown), -1.0), limit)
            low = g.op("Max", low, g.const(0.0))
        else:
            low = g.op("Max", low, g.const(0.0))
            high = g.op("Add", low, g.op("Min", grown, g.op("Sub", limit, low)))
        boxes = g.op("Transpose", g.op("Concat", low, high, axis=2), perm=[0, 1, 3, 4, 2])
        images = g.slice(sizes, [0], [0], [1])
        return g.op("Reshape", boxes, g.op("Concat", images, g.ints([-1, 4]), axis=0))

    def onnx_rows(self, g: Emitter, boxes: Tensor, scores: Tensor) -> list[Tensor]:
        """Return the tops, from boxes (N, K, 4) and scores (N, K) of all maps."""
        p = self.selection
        refuse_other_overlaps(g, p.nms_type)
        if p.whole_pixels and p.threshold * p.min_size < 1:
            g.refuse(
                "boxes that share less than a pixel would be measured otherwise with so low an iou_thr and min_size"
            )
        low, high = g.split(boxes, 2, [2, 2], 2)
        sides = g.add(g.op("Sub", high, low), 1.0 if p.whole_pixels else 0.0)
        large = g.op("GreaterOrEqual", g.reduce("ReduceMin", sides, [2], keepdims=False), g.const(p.min_size))
        valid = g.op("And", large, g.op("GreaterOrEqual", scores, g.const(p.least_score)))
        image, boxes, row_scores = onnx_chosen(g, boxes, scores, valid, p.most, p.threshold, p.whole_pixels)
        rows = g.op("Concat", g.cast(image, "float"), boxes, axis=1)
        tops = [(rows, [0.0, 1, 1, 10, 10]), (g.op("Concat", rows, row_scores, axis=1), [0.0] * 6)]
        tops = tops[: self.context.num_tops]
        return [g.unsqueeze(onnx_or_else(g, top, g.const([nothing]), g.ints([1])), [2, 3]) for top, nothing in tops]


@schema
class BoxGroupParameter:
    field_h: list[int] = field(default_factory=list)
    field_w: list[int] = field(default_factory=list)
    stride: int = 0


@schema
class BoxGroupOutputParameter:
    fg_thr: float = 0.0
    iou_thr: float = 0.5
    nms_type: str = "IOU"
    box_group_param: list[BoxGroupParameter] = field(default_factory=list)
    field_whr: float = 2.0
    field_xyr: float = 2.0
    max_nms_num: int = 0
    max_post_nms_num: int = 0
    min_size: float = 15.0


@layer_type("BoxGroupOutput")
class BoxGroupOutput(MapBoxes):
    """Proposals from pairs of bottoms, probabilities (N G, C, H, W) and deltas (N G, 4, H, W), of G fields each.

    The score is 1 less the probability of class 0; widths are x2 - x1 + 1. zhaoweicai/cascade-rcnn
    ``box_group_output_layer.cpp``; see MapBoxes.
    """

    schemas = {"box_group_output_param": BoxGroupOutputParameter, "bbox_reg_param": BBoxRegParameter}
    bottoms = (2, None)
    whole_pixels = True

    def read_fields(self) -> Sequence[Fields]:
        groups = self.p.box_group_param
        if 2 * len(groups) != self.context.num_bottoms:
            self.fail(f"expected a box_group_param for each pair of bottoms, got {len(groups)}")
        if any(not group.field_w or len(group.field_w) != len(group.field_h) for group in groups):
            self.fail("expected as many field_w as field_h in every box_group_param, and one at least")
        return [Fields(tuple(zip(one.field_w, one.field_h, strict=True)), one.stride) for one in groups]

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        images, candidates = set(), 0
        for fields, scores, deltas in zip(self.fields, bottoms[::2], bottoms[1::2], strict=True):
            group = len(fields.sizes)
            if scores[0] % group or deltas != (scores[0], 4, *scores[2:]) or scores[1] != bottoms[0][1]:
                self.fail(f"expected probabilities and deltas of {group} boxes a place, got {scores} and {deltas}")
            images.add(scores[0] // group)
            candidates += group * count(scores, 2)
        if len(images) > 1:
            self.fail(f"expected as many images in every pair of bottoms, got {sorted(images)}")
        return self.row_tops(images.pop(), candidates)

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return None if index % 2 else random.random(shape)

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.BoxGroupOutput(self.fields, self.selection, self.context.num_tops)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor | list[Tensor]:
        boxes, scores = [], []
        for fields, prob, deltas in zip(self.fields, x[::2], x[1::2], strict=True):
            group = len(fields.sizes)
            sizes = g.op("Shape", deltas)
            space = g.slice(sizes, [0], [2], [4])
            grouped = g.op("Reshape", deltas, g.op("Concat", g.ints([-1, group, 4]), space, axis=0))
            boxes.append(self.onnx_corners(g, grouped, fields))
            images = g.op("Div", g.slice(sizes, [0], [0], [1]), g.ints([group]))
            background = g.op("Reshape", g.slice(prob, [1], [0], [1]), g.op("Concat", images, g.ints([-1]), axis=0))
            scores.append(g.op("Sub", g.const(1.0), background))
        return self.onnx_rows(g, *(p[0] if len(p) == 1 else g.op("Concat", *p, axis=1) for p in (boxes, scores)))


@schema
class BoxOutputParameter:
    fg_thr: float = 0.0
    iou_thr: float = 0.5
    nms_type: str = "IOU"
    field_h: list[int] = field(default_factory=list)
    field_w: list[int] = field(default_factory=list)
    downsample_rate: list[int] = field(default_factory=list)
    field_whr: float = 2.0
    field_xyr: float = 2.0
    max_nms_num: int = 0
    max_post_nms_num: int = 0
    min_size: float = 15.0


@layer_type("BoxOutput")
class BoxOutput(MapBoxes):
    """Proposals from maps (N, C + 4, H, W), C scores before the deltas of one field each.

    The score is the best of classes 1 and up less that of class 0; widths are x2 - x1, and of equal scores the later
    comes first. zhaoweicai/mscnn ``box_output_layer.cpp``; see MapBoxes.
    """

    schemas = {"box_output_param": BoxOutputParameter, "bbox_reg_param": BBoxRegParameter}
    bottoms = (1, None)
    whole_pixels = False

    def read_fields(self) -> Sequence[Fields]:
        p, bottoms = self.p, self.context.num_bottoms
        if not len(p.field_w) == len(p.field_h) == len(p.downsample_rate) == bottoms:
            self.fail(f"expected {bottoms} each of field_w, field_h and downsample_rate, one for every bottom")
        fields = zip(p.field_w, p.field_h, p.downsample_rate, strict=True)
        return [Fields(((width, height),), stride) for width, height, stride in fields]

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        if any(shape[:2] != bottoms[0][:2] for shape in bottoms) or bottoms[0][1] < 6:
            self.fail(f"expected maps of one batch with 2 classes or more and 4 deltas, got {bottoms}")
        return self.row_tops(bottoms[0][0], sum(count(shape, 2) for shape in bottoms))

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.BoxOutput(self.fields, self.selection, self.context.num_tops)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor | list[Tensor]:
        classes = x[0].shape[1] - 4
        boxes, scores = [], []
        for fields, bottom in zip(self.fields, x, strict=True):
            boxes.append(self.onnx_corners(g, g.unsqueeze(g.slice(bottom, [1], [classes], [classes + 4]), [1]), fields))
            best = g.reduce("ReduceMax", g.slice(bottom, [1], [1], [classes]), [1])
            best = g.op("Sub", best, g.slice(bottom, [1], [0], [1]))
            scores.append(g.op("Reshape", best, g.ints([0, -1])))
        # Backwards, so that of equal scores the last comes first.
        parts = (p[0] if len(p) == 1 else g.op("Concat", *p, axis=1) for p in (boxes, scores))
        return self.onnx_rows(g, *(g.reverse(part, [1]) for part in parts))
