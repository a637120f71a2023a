"""The choice that Faster R-CNN's and R-FCN's Python layers train on: anchors for the RPN, regions for its head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .anchors import Anchors
from .base import Operator, Shape, count, layer_type, nn
from .param_str import settings
from .proposals import PythonProposals
from .python_layer import PythonParameter

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@dataclass(frozen=True)
class AnchorChoice:
    """The Python configuration's RPN_* of training; ``border``: how far anchors may reach over the image's edge."""

    positive_overlap: float
    negative_overlap: float
    clobber_positives: bool
    fg_fraction: float
    batch_size: int
    positive_weight: float
    normalize: bool
    border: float


def sample_truth(shape: Shape, random: np.random.Generator) -> np.ndarray:
    """Return boxes [x1, y1, x2, y2, label] within 200 pixels."""
    corners = np.sort(random.uniform(0, 200, (shape[0], 2, 2)), 1).reshape(shape[0], 4)
    return np.concatenate([corners, np.ones((shape[0], 1))], 1).reshape(shape)


@layer_type("Python:rpn.anchor_target_layer.AnchorTargetLayer")
class AnchorTargetLayer(PythonProposals):
    """Labels (1, 1, A H, W) of a map's anchors (1 object, 0 background, -1 neither), box targets (1, 4 A, H, W), and
    their inside and outside weights.

    Bottoms: the map, true boxes (G, 5) [x1, y1, x2, y2, label], im_info. Anchors within the image that overlap a true
    box most, or by rpn_positive_overlap (0.7) and more, are objects; those below rpn_negative_overlap (0.3) are
    background, and win with rpn_clobber_positives. Of both rpn_batchsize (256) are drawn, rpn_fg_fraction (0.5) of them
    objects at most (torch's seed). Outside weights are one over the number drawn, or rpn_positive_weight over the
    objects and the rest over the others. rpn_normalize_targets divides targets by 0.1, 0.1, 0.2, 0.2. All are layer
    options with the configuration's names. A batch of several images is refused when the layer runs.
    rbgirshick/py-faster-rcnn ``lib/rpn/anchor_target_layer.py``.
    """

    known_settings = (*PythonProposals.known_settings, "allowed_border")
    option_names = (
        "rpn_positive_overlap", "rpn_negative_overlap", "rpn_clobber_positives", "rpn_fg_fraction", "rpn_batchsize",
        "rpn_positive_weight", "rpn_normalize_targets",
    )  # fmt: skip
    bottoms = (3, 4)
    tops = (4, 4)
    bottom_axes = ((4, 4), (2, 4), (1, None), (0, None))
    varying_axis = None
    random = True
    onnx_support = "no (training)"
    anchors: Anchors

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        scores, truth, info = bottoms[:3]
        if count(truth, 1) != 5 or count(info) < 2:
            self.fail(f"expected true boxes of 5 numbers a row and im_info, got {truth} and {info}")
        batch, _, height, width = scores
        anchors = len(self.anchors)
        return [(batch, 1, anchors * height, width), *[(batch, 4 * anchors, height, width)] * 3]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        if index == 1:
            return sample_truth(shape, random)
        return np.resize([224.0, 224.0, 1.0], count(shape)).reshape(shape) if index == 2 else None

    def module(self, bottoms: list[Shape]) -> Any:
        choice = AnchorChoice(
            positive_overlap=self.option("rpn_positive_overlap", 0.7),
            negative_overlap=self.option("rpn_negative_overlap", 0.3),
            clobber_positives=bool(self.option("rpn_clobber_positives", 0)),
            fg_fraction=self.option("rpn_fg_fraction", 0.5),
            batch_size=self.option("rpn_batchsize", 256),
            positive_weight=self.option("rpn_positive_weight", -1.0),
            normalize=bool(self.option("rpn_normalize_targets", 0)),
            border=float(self.settings.get("allowed_border", 0)),
        )
        return nn.AnchorTarget(self.anchors, choice)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        g.refuse("it chooses examples to train on")


@dataclass(frozen=True)
class RegionChoice:
    """The Python configuration's settings of the regions that a head is trained on."""

    classes: int
    batch_size: int
    fg_fraction: float
    fg_thresh: float
    bg_thresh_hi: float
    bg_thresh_lo: float
    agnostic: bool
    normalize: bool


@layer_type("Python:rpn.proposal_target_layer.ProposalTargetLayer")
class ProposalTargetLayer(Operator):
    """Regions (B, 5, 1, 1), labels, box targets (B, 4 classes, 1, 1), inside and outside weights, from regions (R, 5)
    and true boxes (G, 5) [x1, y1, x2, y2, label], which are candidates too.

    batch_size (128; -1: all) are drawn, fg_fraction (0.25) of them at most from those that overlap a true box by
    fg_thresh (0.5) and more, the others from bg_thresh_lo (0.1) to below bg_thresh_hi (0.5). agnostic puts targets at
    class 1; bbox_normalize_targets_precomputed divides them by 0.1, 0.1, 0.2, 0.2. All are layer options with the names
    and defaults of the configuration; faster_rcnn_end2end.yml has bg_thresh_lo 0 and precomputed targets. Which are
    drawn is random (torch's seed). YuwenXiong/py-R-FCN ``lib/rpn/proposal_target_layer.py``.
    """

    schemas = {"python_param": PythonParameter}
    option_names = ("batch_size", "fg_fraction", "fg_thresh", "bg_thresh_hi", "bg_thresh_lo", "agnostic",
                    "bbox_normalize_targets_precomputed")  # fmt: skip
    bottoms = (2, 2)
    tops = (5, 5)
    bottom_axes: ClassVar[tuple[tuple[int, int | None], ...]] = ((2, 4),)
    varying_axis = 0
    full_precision = True
    random = True
    onnx_support = "no (training)"

    def setup(self) -> None:
        values = settings(self.p.param_str)
        if values is None or list(values) != ["num_classes"]:
            self.fail(f"expected num_classes in param_str and no other setting, got {self.p.param_str!r}")
        classes = values["num_classes"]
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
            self.fail(f"expected num_classes of 2 or more, got {classes!r}")
        self.choice = RegionChoice(
            classes,
            batch_size=self.option("batch_size", 128),
            fg_fraction=self.option("fg_fraction", 0.25),
            fg_thresh=self.option("fg_thresh", 0.5),
            bg_thresh_hi=self.option("bg_thresh_hi", 0.5),
            bg_thresh_lo=self.option("bg_thresh_lo", 0.1),
            agnostic=bool(self.option("agnostic", 0)),
            normalize=bool(self.option("bbox_normalize_targets_precomputed", 0)),
        )
        if self.choice.batch_size < 1 and self.choice.batch_size != -1:
            self.fail(f"expected a batch_size of 1 or more, or -1, got {self.choice.batch_size}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        regions, truth = bottoms
        if count(regions, 1) != 5 or count(truth, 1) != 5:
            self.fail(f"expected regions and true boxes of 5 numbers a row, got {regions} and {truth}")
        rows = regions[0] + truth[0]
        rows = min(rows, self.choice.batch_size) if self.choice.batch_size > 0 else rows
        return [(rows, columns, 1, 1) for columns in (5, 1, *[4 * self.choice.classes] * 3)]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        rows = sample_truth(shape, random).reshape(shape[0], 5)
        return (rows if index else np.roll(rows * [1, 1, 1, 1, 0], 1, 1)).reshape(shape)

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.RegionTarget(self.choice)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        g.refuse("it chooses examples to train on")
