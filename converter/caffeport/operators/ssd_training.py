"""The parts that SSD trains with: its data layer, its loss over matched and mined boxes, and its detections' score.

The definitions are those of weiliu89/caffe (branch ssd), also in NVIDIA/caffe, src/caffe: layers/
multibox_loss_layer.cpp, detection_evaluate_layer.cpp and annotated_data_layer.cpp, and util/bbox_util.cpp.
"""

from __future__ import annotations

import enum
import warnings
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportWarning
from ..formats.schema import schema
from .base import Normalization, Operator, Role, Shape, count, layer_type, nn
from .data import DataLayer, DataParameter, PartialShape
from .detection import CodeType, ResizeParameter, random_boxes, random_priors
from .loss import Loss


class LocLossType(enum.Enum):
    L2 = 0
    SMOOTH_L1 = 1


class ConfLossType(enum.Enum):
    SOFTMAX = 0
    LOGISTIC = 1


class MatchType(enum.Enum):
    BIPARTITE = 0
    PER_PREDICTION = 1


class MiningType(enum.Enum):
    NONE = 0
    MAX_NEGATIVE = 1
    HARD_EXAMPLE = 2


@schema
class MiningSuppressionParameter:
    nms_threshold: float = 0.3
    top_k: int = 0  # proto's own default, which the loss takes as it is: nothing is left to select from
    eta: float = 1.0  # which the loss does not read


@schema
class MultiBoxLossParameter:
    loc_loss_type: LocLossType = LocLossType.SMOOTH_L1
    conf_loss_type: ConfLossType = ConfLossType.SOFTMAX
    loc_weight: float = 1.0
    num_classes: int | None = None
    share_location: bool = True
    match_type: MatchType = MatchType.PER_PREDICTION
    overlap_threshold: float = 0.5
    use_prior_for_matching: bool = True
    background_label_id: int = 0
    use_difficult_gt: bool = True
    do_neg_mining: bool | None = None  # an older name; it only has to agree with mining_type
    neg_pos_ratio: float = 3.0
    neg_overlap: float = 0.5
    code_type: CodeType = CodeType.CORNER
    encode_variance_in_target: bool = False
    map_object_to_agnostic: bool = False
    ignore_cross_boundary_bbox: bool = False
    bp_inside: bool = False
    mining_type: MiningType = MiningType.MAX_NEGATIVE
    nms_param: MiningSuppressionParameter | None = None
    sample_size: int = 64
    use_prior_for_nms: bool = False


@layer_type("MultiBoxLoss")
class MultiBoxLoss(Loss):
    """SSD's loss: (loc_weight * loss of the offsets of matched boxes + loss of the classes) / normalizer.

    Bottoms: offsets (N, 4 P), or (N, 4 P C) unless share_location; scores (N, P C); priors (1, 2, 4 P); ground truth
    (1, 1, G, 8) of any G: rows (image, label, instance, x1, y1, x2, y2, difficult), image -1 for no row. Every box of
    the ground truth takes the prior that overlaps it most, with PER_PREDICTION every other prior its best box from
    overlap_threshold on. The offsets' loss is SmoothL1 or half the squared distance to the encoded box. The classes'
    loss is that of all priors, or with mining that of the matched and of as many others, the worst first, as
    neg_pos_ratio allows (MAX_NEGATIVE), or of the sample_size worst of all (HARD_EXAMPLE). An image without ground
    truth mines none. The normalizer is, by loss_param, the number of matched priors (VALID, the default), N P (FULL),
    N (BATCH_SIZE) or 1 (NONE), and 1 at least. A loss whose bottom has ``propagate_down: false`` is left out. With
    encode_variance_in_target Caffe's backward pass forgets the variance, and so does this one unless
    ``exact_gradients``.
    """

    schemas = {"multibox_loss_param": MultiBoxLossParameter}
    bottoms = (4, 4)
    bottom_axes = ((2, None), (2, None), (3, None), (4, 4))

    def setup(self) -> None:
        p = self.p
        if (p.num_classes or 0) < 1:
            self.fail(f"expected num_classes of 1 or more, got {p.num_classes}")
        mines = p.mining_type is not MiningType.NONE
        if p.do_neg_mining is not None and p.do_neg_mining != mines:
            self.fail(f"do_neg_mining is {str(p.do_neg_mining).lower()}, but mining_type is {p.mining_type.name}")
        if mines and not p.share_location:
            self.fail("mining needs share_location: true; mining_type: NONE does without")
        if p.conf_loss_type is ConfLossType.SOFTMAX and not 0 <= p.background_label_id < p.num_classes:
            self.fail(f"background_label_id {p.background_label_id} is none of {p.num_classes} classes")
        if p.map_object_to_agnostic and p.num_classes != (2 if p.background_label_id >= 0 else 1):
            self.fail("map_object_to_agnostic knows one class beside the background")
        if p.mining_type is MiningType.HARD_EXAMPLE and p.sample_size <= 0:
            self.fail(f"expected a positive sample_size, got {p.sample_size}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        loc, conf, prior, truth = bottoms
        priors = count(prior, 2) // 4
        if prior[1] != 2 or count(prior, 2) % 4:
            self.fail(f"bottom 2, the priors, is {prior}; expected (1, 2, 4 x priors)")
        located = 4 * (1 if self.p.share_location else self.p.num_classes)
        for title, bottom, each in (("offsets", loc, located), ("scores", conf, self.p.num_classes)):
            if count(bottom, 1) != each * priors:
                self.fail(f"{title} are {bottom}; expected {each} numbers for each of {priors} priors")
        if loc[0] != conf[0]:
            self.fail(f"offsets are for {loc[0]} images, scores for {conf[0]}")
        check_truth(self, truth)
        return [()]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        if index == 2:
            return random_priors(shape, random)
        return sample_truth(shape, random, self.p.num_classes, self.p.background_label_id) if index == 3 else None

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        passes = self.context.propagate_down[:2] or (True, True)
        exact = bool(self.context.options.get("exact_gradients"))
        return nn.MultiBoxLoss(p, self.normalization(Normalization.VALID).name, passes, exact)


def check_truth(layer: Operator, truth: Shape) -> None:
    """Refuse ground truth that is not (1, 1, boxes, 8)."""
    if truth[:2] != (1, 1) or truth[3] != 8:
        layer.fail(
            f"the ground truth is {truth}; expected (1, 1, boxes, 8): image, label, instance, x1, y1, x2, y2, difficult"
        )


def sample_truth(shape: Shape, random: np.random.Generator, classes: int, background: int) -> np.ndarray:
    """Return ground truth (1, 1, G, 8): a box for each of the first G images."""
    rows = np.zeros((shape[2], 8))
    rows[:, 0] = np.arange(shape[2])
    labels = [label for label in range(classes) if label != background] or [0]
    rows[:, 1] = random.choice(labels, shape[2])
    rows[:, 3:7] = random_boxes(shape[2], random)
    return rows.reshape(shape)


@schema
class DetectionEvaluateParameter:
    num_classes: int | None = None
    background_label_id: int = 0
    overlap_threshold: float = 0.5
    evaluate_difficult_gt: bool = True
    name_size_file: str = ""
    resize_param: ResizeParameter | None = None  # of MobileNet-YOLO, whose layer only reads it


@layer_type("DetectionEvaluate")
class DetectionEvaluate(Operator):
    """Which detections are right: rows [image, label, score, true positive, false positive].

    Bottoms: detections (1, 1, D, 7) as DetectionOutput gives them, and ground truth (1, 1, G, 8) as MultiBoxLoss reads
    it. The first rows are [-1, label, number of boxes, -1, -1] for every label but the background; then one row a
    detection, by image, label and falling score. A detection is right that overlaps its best box of the label by
    overlap_threshold or more, once for each box; a difficult box counts neither way unless evaluate_difficult_gt.
    With ``name_size_file`` (lines: name height width) boxes are compared in pixels, image by image as the file lists
    them. zhaoweicai/cascade-rcnn has a third bottom, the images' sizes (N, 2), with rows (D, 7) of image, corners,
    label and score, and (G, 8) of image, corners, label, ignored and difficult: boxes are scaled from the image's size
    to the file's.
    """

    schemas = {"detection_evaluate_param": DetectionEvaluateParameter}
    role = Role.METRIC
    onnx_support = "no (metric)"
    bottoms = (2, 3)
    bottom_axes = ((2, 4), (2, 4), (2, 4))

    def setup(self) -> None:
        if (self.p.num_classes or 0) < 1:
            self.fail(f"expected num_classes of 1 or more, got {self.p.num_classes}")
        if not self.p.overlap_threshold > 0:
            self.fail(f"expected a positive overlap_threshold, got {self.p.overlap_threshold}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        p, cascade = self.p, self.context.num_bottoms == 3
        axes = (0, 1) if cascade else (2, 3)
        for bottom, width, title in zip(bottoms, (7, 8, 2), ("detections", "ground truth", "sizes"), strict=False):
            rows = len(bottom) > axes[1] and bottom[axes[1]] == width and count(bottom) == bottom[axes[0]] * width
            if not rows:
                expected = f"(rows, {width})" if cascade else f"(1, 1, rows, {width})"
                self.fail(f"the {title} are {bottom}; expected {expected}")
        labels = p.num_classes - (cascade or 0 <= p.background_label_id < p.num_classes)
        rows = labels + bottoms[0][axes[0]]
        return [(rows, 5, 1, 1) if cascade else (1, 1, rows, 5)]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        cascade = self.context.num_bottoms == 3
        if index == 2:
            return np.full(shape, 100.0)
        rows = count(shape) // (8 if index else 7)
        background = 0 if cascade else self.p.background_label_id
        truth = sample_truth((1, 1, rows, 8), random, self.p.num_classes, background).reshape(rows, 8)
        image, label, _, *box, _ = truth.T
        score, none = random.random(rows), np.zeros(rows)
        if index == 1:
            columns = [image, *box, label, none, none] if cascade else [image, label, none, *box, none]
        else:
            columns = [image, *box, label, score] if cascade else [image, label, score, *box]
        return np.stack(columns, 1).reshape(shape)

    def module(self, bottoms: list[Shape]) -> Any:
        p, sizes = self.p, []
        if p.name_size_file and Path(p.name_size_file).is_file():
            words = Path(p.name_size_file).read_text().split()
            sizes = list(zip(map(int, words[1::3]), map(int, words[2::3]), strict=False))
        elif p.name_size_file:
            warnings.warn(
                f'layer "{self.name}" ({self.type}): name_size_file "{p.name_size_file}" is not here; boxes are '
                "compared as they are, not in pixels of the original images",
                CaffeportWarning,
                stacklevel=2,
            )
        background = 0 if len(bottoms) == 3 else p.background_label_id
        return nn.DetectionEvaluate(p.num_classes, background, p.overlap_threshold, p.evaluate_difficult_gt, sizes)


class AnnotationType(enum.Enum):
    BBOX = 0


@schema
class SamplerParameter:
    min_scale: float = 1.0
    max_scale: float = 1.0
    min_aspect_ratio: float = 1.0
    max_aspect_ratio: float = 1.0


@schema
class SampleConstraint:
    min_jaccard_overlap: float | None = None
    max_jaccard_overlap: float | None = None
    min_sample_coverage: float | None = None
    max_sample_coverage: float | None = None
    min_object_coverage: float | None = None
    max_object_coverage: float | None = None


@schema
class BatchSampler:
    use_original_image: bool = True
    sampler: SamplerParameter | None = None
    sample_constraint: SampleConstraint | None = None
    max_sample: int | None = None
    max_trials: int = 100


@schema
class AnnotatedDataParameter:
    batch_sampler: list[BatchSampler] = field(default_factory=list)
    label_map_file: str = ""
    anno_type: AnnotationType = AnnotationType.BBOX
    # Of MobileNet-YOLO: 1 for labels (N, 1, 300, 5) of rows (label, x, y, w, h); the others change what is drawn.
    yolo_data_type: int = 0
    yolo_data_jitter: float = 0.3
    train_diffcult: bool = True
    single_class: bool = True
    seg_scales: int = 8
    seg_resize_width: int = 0
    seg_resize_height: int = 0
    difficult_label_warmup: bool = False


@layer_type("AnnotatedData")
class AnnotatedData(DataLayer):
    """Records of an LMDB with boxes: images, and ground truth (1, 1, boxes, 8) as a second top.

    The ground truth's rows are (image, label, instance, x1, y1, x2, y2, difficult), in shares of the image's size. As
    many as a batch has boxes, so that their declared number is only a number to begin with: that of the images.
    """

    schemas = {"data_param": DataParameter, "annotated_data_param": AnnotatedDataParameter}
    tops = (1, 3)  # the third, of MobileNet-YOLO: masks

    def declared_shapes(self) -> list[PartialShape | None]:
        gray = self.context.transform is not None and self.context.transform.force_gray
        return self._tops(self._images(self.p.batch_size, 1 if gray else 3, 0, 0)[0], self.p.batch_size or 1)

    def following(self, first: Shape) -> list[PartialShape | None]:
        return self._tops(first, first[0])

    def _tops(self, image: PartialShape | None, batch: int) -> list[PartialShape | None]:
        yolo = self.message("annotated_data_param").yolo_data_type == 1
        truth = (batch, 1, 300, 5) if yolo else (1, 1, batch, 8)
        return [image, truth, None][: self.context.num_tops]
