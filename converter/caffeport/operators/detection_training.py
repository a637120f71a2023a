"""Losses and accuracies of boxes on a map, as Cascade R-CNN and MS-CNN train them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar

import numpy as np

from ..formats.schema import schema
from .base import Role, Shape, layer_type, nn
from .cascade import BBoxRegParameter, Spread
from .loss import Loss
from .map_boxes import Fields

MINING = ("random", "bootstrap", "mixture")


class MapTraining(Loss):
    """The common base of the losses and accuracies on maps.

    Truth is (M, 6, H, W): a label, the middle, width and height of its box, and the overlap with it, for every place
    and field; M is the batch times the fields of a place.
    """

    bottom_axes: ClassVar[tuple[tuple[int, int | None], ...]] = ((4, 4),)
    fields: Fields
    classes_on_map: int

    def read_fields(self, widths: Sequence[int], heights: Sequence[int], stride: int | None) -> None:
        if not widths or len(widths) != len(heights) or min([*widths, *heights, stride or 0]) < 1:
            self.fail(
                f"expected as many field_w as field_h and a stride, all positive, got {widths}, {heights}, {stride}"
            )
        self.fields = Fields(tuple(zip(widths, heights, strict=True)), stride or 0)
        self.spread = Spread.of(self)
        self.classes_on_map = self.p.cls_num
        if self.classes_on_map < 2 or (self.p.objectness and self.classes_on_map != 2):
            self.fail(f"expected a cls_num of 2 or more, and of 2 with objectness, got {self.classes_on_map}")

    def check_reach(self, xyr: float | None, whr: float | None) -> None:
        if (xyr is not None and not 0 < xyr < math.inf) or (whr is not None and not 1 <= whr < math.inf):
            self.fail(f"expected a positive field_xyr and a field_whr of 1 or more, got {xyr} and {whr}")

    def check_maps(self, scores: Shape, deltas: Shape, truth: Shape) -> None:
        places = (scores[0], scores[2], scores[3])
        for title, shape, channels in (
            ("scores", scores, self.classes_on_map),
            ("deltas", deltas, 4),
            ("truth", truth, 6),
        ):
            if shape != (places[0], channels, *places[1:]):
                self.fail(f"expected {title} of {(places[0], channels, *places[1:])}, got {shape}")
        if places[0] % len(self.fields.sizes):
            self.fail(f"expected a batch of a multiple of {len(self.fields.sizes)} fields, got {places[0]}")

    def sample_truth(self, shape: Shape, random: np.random.Generator) -> np.ndarray:
        truth = random.random(shape)
        truth[:, 0] = random.integers(0, 2, truth[:, 0].shape)
        truth[:, 1:5] *= 8 * self.fields.stride
        return truth


@schema
class DetectionGroupLossParameter:
    cls_num: int = 0
    lambda_: float = 1.0
    field_h: list[int] = field(default_factory=list)
    field_w: list[int] = field(default_factory=list)
    stride: int | None = None
    field_whr: float | None = None
    field_xyr: float | None = None
    bg_threshold: float = 0.5
    bg_multiple: int = 4
    neg_mining_type: str = "random"
    neg_ranking_type: str = "conf_loss"
    min_num_neg: int = 5
    objectness: bool = False
    batch_size: int = -1
    pos_neg_weighted: bool = False
    bbox_loss_type: str = "Smooth_L1"


@layer_type("DetectionGroupLoss")
class DetectionGroupLoss(MapTraining):
    """(class loss + lambda box loss, lambda box loss), (1, 1, 1, 2), of scores (M, C, H, W), deltas (M, 4, H, W) and
    truth; the gradient is that of the first number.

    Of each image the positives (label > 0) and negatives (label 0, overlap below bg_threshold) are sampled: with
    batch_size -1 all positives and bg_multiple as many negatives, min_num_neg at least; else batch_size, 1 in
    1 + bg_multiple of them positive at most. neg_mining_type: random, bootstrap (the hardest) or mixture (half each).
    The class loss is the mean of -w log softmax; pos_neg_weighted makes positives weigh 1 / (1 + bg_multiple) together.
    The box loss is the mean of SmoothL1 or squares / 2 over the deltas of positives, which field_xyr and field_whr
    bound if both are given, while the gradient passes. zhaoweicai/cascade-rcnn ``detection_group_loss_layer.cpp``.
    """

    schemas = {"detection_group_loss_param": DetectionGroupLossParameter, "bbox_reg_param": BBoxRegParameter}
    bottoms = (3, 3)
    random = True

    def setup(self) -> None:
        p = self.p
        self.read_fields(p.field_w, p.field_h, p.stride)
        self.check_reach(p.field_xyr, p.field_whr)
        for title, value, known in (
            ("neg_mining_type", p.neg_mining_type, MINING),
            ("neg_ranking_type", p.neg_ranking_type, ("conf_loss", "conf_prob")),
            ("bbox_loss_type", p.bbox_loss_type, ("Smooth_L1", "Euclidean_L2")),
        ):
            if value not in known:
                self.fail(f'expected a {title} of {", ".join(known)}, got "{value}"')
        if p.batch_size < 1 and p.batch_size != -1:
            self.fail(f"expected a batch_size of 1 or more, or -1, got {p.batch_size}")
        if min(p.bg_multiple, p.min_num_neg) < 0:
            self.fail(f"expected a bg_multiple and min_num_neg of 0 or more, got {p.bg_multiple} and {p.min_num_neg}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.check_maps(*bottoms)
        return [(1, 1, 1, 2)]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return self.sample_truth(shape, random) if index == 2 else None

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.DetectionGroupLoss(self.p, self.fields, self.spread, self.context.loss.ignore_label)


@schema
class DetectionLossParameter:
    cls_num: int = 0
    coord_num: int = 4
    lambda_: float = 1.0
    field_h: int = 0
    field_w: int = 0
    downsample_rate: int | None = None
    bb_smooth: bool = True
    field_whr: float = 2.0
    field_xyr: float = 2.0
    bg_threshold: float = 0.5
    bg_multiple: int = 4
    sample_mode: str = "random"
    objectness: bool = False
    iou_weighted: bool = False
    pos_neg_weighted: bool = False


@layer_type("DetectionLoss")
class DetectionLoss(MapTraining):
    """The same for MS-CNN's maps (N, C + 4, H, W), scores before deltas; zhaoweicai/mscnn ``detection_loss_layer.cpp``.

    All positives count. Negatives (label 0, overlap below bg_threshold) are places drawn with repetition (random), the
    ones with the largest score of each other class (bootstrap), half of each (mixture), or, with any other sample_mode,
    all. iou_weighted weighs positives with their overlap. Deltas are always bounded.
    """

    schemas = {"detection_loss_param": DetectionLossParameter, "bbox_reg_param": BBoxRegParameter}
    bottoms = (2, 2)
    random = True

    def setup(self) -> None:
        p = self.p
        self.read_fields([p.field_w], [p.field_h], p.downsample_rate)
        self.check_reach(p.field_xyr, p.field_whr)
        if p.coord_num != 4 or p.bg_multiple < 0:
            self.fail(f"expected a coord_num of 4 and no negative bg_multiple, got {p.coord_num} and {p.bg_multiple}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        maps, truth = bottoms
        if maps[1] != self.p.cls_num + 4:
            self.fail(f"expected {self.p.cls_num} scores and 4 deltas, got {maps[1]} channels")
        self.check_maps((maps[0], self.p.cls_num, *maps[2:]), (maps[0], 4, *maps[2:]), truth)
        return [(1, 1, 1, 2)]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return self.sample_truth(shape, random) if index == 1 else None

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.DetectionLoss(self.p, self.fields, self.spread, self.context.loss.ignore_label)


@schema
class DetectionGroupAccuracyParameter:
    cls_num: int = 0
    field_h: list[int] = field(default_factory=list)
    field_w: list[int] = field(default_factory=list)
    stride: int | None = None
    field_whr: float = 2.0
    field_xyr: float = 4.0
    bg_threshold: float = 0.5
    objectness: bool = False


@layer_type("DetectionGroupAccuracy")
class DetectionGroupAccuracy(MapTraining):
    """(share of places with the right class, the same of positives), (1, 1, 1, 2), and the mean overlap of the boxes of
    positives with the truth, (1, 1, 1, 1); -1 where there are none.

    Places with label 0 and an overlap of bg_threshold and more do not count. zhaoweicai/cascade-rcnn
    ``detection_group_accuracy_layer.cpp``.
    """

    schemas = {"detection_group_accuracy_param": DetectionGroupAccuracyParameter, "bbox_reg_param": BBoxRegParameter}
    role = Role.METRIC
    bottoms = (3, 3)
    tops = (1, 2)

    def setup(self) -> None:
        self.read_fields(self.p.field_w, self.p.field_h, self.p.stride)
        self.check_reach(self.p.field_xyr, self.p.field_whr)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.check_maps(*bottoms)
        tops: list[Shape] = [(1, 1, 1, 2), (1, 1, 1, 1)]
        return tops[: self.context.num_tops]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return self.sample_truth(shape, random) if index == 2 else None

    def module(self, bottoms: list[Shape]) -> Any:
        ignore = self.context.loss.ignore_label
        return nn.DetectionAccuracy(self.p, self.fields, self.spread, ignore, self.context.num_tops, 1, True)


@schema
class DetectionAccuracyParameter:
    cls_num: int = 0
    coord_num: int = 4
    field_h: int = 0
    field_w: int = 0
    downsample_rate: int | None = None
    top_k: int = 1
    field_whr: float = 2.0
    field_xyr: float = 4.0
    bg_threshold: float = 0.5
    objectness: bool = False


@layer_type("DetectionAccuracy")
class DetectionAccuracy(MapTraining):
    """The same for MS-CNN's maps, with the right class among the top_k best; zhaoweicai/mscnn
    ``detection_accuracy_layer.cpp``."""

    schemas = {"detection_accuracy_param": DetectionAccuracyParameter, "bbox_reg_param": BBoxRegParameter}
    role = Role.METRIC
    bottoms = (2, 2)
    tops = (1, 2)

    def setup(self) -> None:
        p = self.p
        self.read_fields([p.field_w], [p.field_h], p.downsample_rate)
        self.check_reach(p.field_xyr, p.field_whr)
        if p.coord_num != 4 or not 1 <= p.top_k <= p.cls_num:
            self.fail(f"expected a coord_num of 4 and a top_k of 1 to {p.cls_num}, got {p.coord_num} and {p.top_k}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        maps, truth = bottoms
        if maps[1] != self.p.cls_num + 4:
            self.fail(f"expected {self.p.cls_num} scores and 4 deltas, got {maps[1]} channels")
        self.check_maps((maps[0], self.p.cls_num, *maps[2:]), (maps[0], 4, *maps[2:]), truth)
        tops: list[Shape] = [(1, 1, 1, 2), (1, 1, 1, 1)]
        return tops[: self.context.num_tops]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return self.sample_truth(shape, random) if index == 1 else None

    def module(self, bottoms: list[Shape]) -> Any:
        ignore, tops = self.context.loss.ignore_label, self.context.num_tops
        return nn.DetectionAccuracy(self.p, self.fields, self.spread, ignore, tops, self.p.top_k, False)
