"""The regions that Cascade R-CNN and MS-CNN train on, and how good the boxes are that come of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import Role, Shape, count, layer_type, nn
from .cascade import BBoxRegParameter, RowBoxes, Spread

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


class TrainingRows(RowBoxes):
    """A layer that chooses rows to train on, which an ONNX file has no use for."""

    onnx_support = "no (training)"
    bottom_axes = ((1, 4),)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        g.refuse("it chooses examples to train on")


@schema
class HardMiningParameter:
    num_roi_per_image: int = 128
    num_image: int = 4


@layer_type("HardMining")
class HardMining(TrainingRows):
    """The rows of bottoms 1 and up (1: regions) with the largest scores (bottom 0), in their order.

    num_roi_per_image of each image at most, then the best of the others until there are num_image times as many.
    zhaoweicai/cascade-rcnn ``hard_mining_layer.cpp``. No gradient passes.
    """

    schemas = {"hard_mining_param": HardMiningParameter}
    bottoms = (2, None)
    tops = (1, None)

    def setup(self) -> None:
        if min(self.p.num_roi_per_image, self.p.num_image) < 1:
            self.fail(f"expected a positive num_roi_per_image and num_image, got {self.p}")
        if self.context.num_bottoms != self.context.num_tops + 1:
            self.fail(f"expected a top for each bottom but the first, got {self.context.num_tops}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        rows = self.rows("scores", bottoms[0], 1)
        self.rows("regions", bottoms[1], 5)
        if any(bottom[0] != rows for bottom in bottoms):
            self.fail("expected bottoms of as many rows, got " + " and ".join(str(shape[0]) for shape in bottoms))
        most = min(rows, self.p.num_image * self.p.num_roi_per_image)
        return [(most, *(*shape[1:], 1, 1, 1)[:3]) for shape in bottoms[1:]]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return self.sample_regions(shape, random) if index == 1 else None

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.HardMining(self.p.num_image, self.p.num_roi_per_image)


@schema
class ProposalTargetParameter:
    cls_num: int = 0
    batch_size: int = 128
    fg_fraction: float = 0.25
    num_img_per_batch: int = 4
    fg_thr: float = 0.5
    bg_thr_hg: float = 0.5
    bg_thr_lw: float = 0.1
    img_width: int = 0
    img_height: int = 0
    iou_weighted: bool = False
    bbox_thr_lw: float = 0.0
    bbox_thr_hg: float = 10.0
    pickup_discard: bool = True
    append_gtbox: bool = True


@layer_type("ProposalTarget")
class ProposalTarget(TrainingRows):
    """Regions to train on, from regions (R, 5) and true boxes (G, 7 or 8) [image, x1, y1, x2, y2, label, ignored ...].

    Tops: batch_size regions (B, 5), labels, box targets, their inside and outside weights (B, 4 cls_num, or 8 with
    cls_aware false), the matched boxes [label, x1, y1, x2, y2, overlap] and, if asked for, sample weights. True boxes
    are candidates too with append_gtbox. fg_fraction of them overlap a true box by fg_thr and more, the others by
    bg_thr_lw to below bg_thr_hg; where those are too few, the others fill up with pickup_discard. Which ones is random
    (torch's seed). Boxes of 7 numbers are MS-CNN's, which fills up to batch_size with random boxes; Cascade R-CNN makes
    one such box where there is no region at all. batch_size -1 takes all. zhaoweicai/cascade-rcnn and zhaoweicai/mscnn
    ``proposal_target_layer.cpp``.
    """

    schemas = {"proposal_target_param": ProposalTargetParameter, "bbox_reg_param": BBoxRegParameter}
    bottoms = (2, 2)
    tops = (6, 7)
    varying_axis = 0
    random = True

    def setup(self) -> None:
        p = self.p
        self.spread = Spread.of(self)
        self.class_aware = self.message("bbox_reg_param").cls_aware
        if p.batch_size < 1 and p.batch_size != -1:
            self.fail(f"expected a batch_size of 1 or more, or -1, got {p.batch_size}")
        if not p.bg_thr_hg <= p.fg_thr:
            self.fail(f"expected a bg_thr_hg of fg_thr at most, got {p.bg_thr_hg} and {p.fg_thr}")
        if self.class_aware and p.cls_num < 2:
            self.fail(f"expected a cls_num of 2 or more, got {p.cls_num}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        rows, truths = self.rows("regions", bottoms[0], 5), self.rows("true boxes", bottoms[1], 7, 8)
        count = self.p.batch_size if self.p.batch_size > 0 else rows + truths * self.p.append_gtbox
        columns = 4 * self.p.cls_num if self.class_aware else 8
        tops: list[Shape] = [(count, each, 1, 1) for each in (5, 1, columns, columns, columns, 6, 1)]
        return tops[: self.context.num_tops]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        rows = self.sample_regions(shape, random).reshape(shape[0], -1)
        if index == 1:
            rows[:, 5], rows[:, 6:] = 1, 0
        return rows.reshape(shape)

    def module(self, bottoms: list[Shape]) -> Any:
        fill = count(bottoms[1], 1) == 7
        return nn.ProposalTarget(self.p, self.spread, self.class_aware, fill, self.context.num_tops)


@layer_type("BboxAccuracy")
class BboxAccuracy(RowBoxes):
    """The mean overlap of decoded boxes with their true boxes, and of the regions before; -1 where there are none.

    Bottoms: deltas (R, 4 C, or 8 with cls_aware false), regions (R, 5), matched boxes (R, 6) [label, x1, y1, x2, y2,
    overlap], the overlap being the last number; rows with label 0 or an overlap above 0.975 do not count.
    zhaoweicai/cascade-rcnn ``bbox_accuracy_layer.cpp``.
    """

    schemas = {"bbox_reg_param": BBoxRegParameter}
    role = Role.METRIC
    onnx_support = "no (training)"
    bottoms = (3, 3)
    tops = (1, 2)
    bottom_axes = ((2, 4),)

    def setup(self) -> None:
        self.spread = Spread.of(self)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        if count(bottoms[2], 1) < 5:
            self.fail(f"expected matched boxes of 5 numbers a row or more, got {bottoms[2]}")
        rows = {self.rows("regions", bottoms[1], 5), bottoms[2][0], bottoms[0][0]}
        if len(rows) > 1 or count(bottoms[0], 1) % 4 or (not self.p.cls_aware and count(bottoms[0], 1) != 8):
            self.fail(f"expected deltas, regions and matched boxes of as many rows, got {bottoms}")
        return [(1, 1, 1, 1)] * self.context.num_tops

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        if index == 0:
            return None
        rows = self.sample_regions(shape, random).reshape(shape[0], -1)
        if index == 2:
            columns = count(shape, 1)
            rest = random.random((shape[0], columns - 5))
            rows = np.concatenate([np.ones((shape[0], 1)), rows[:, 1:5], rest], 1)
        return rows.reshape(shape)

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.BboxAccuracy(self.spread, self.p.cls_aware, self.context.num_tops)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        g.refuse("it is a metric layer")
