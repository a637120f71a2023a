"""Losses on features and scores that people's face nets name, of several forks. An ONNX export refuses them."""

from __future__ import annotations

import enum
from dataclasses import field
from typing import Any

import numpy as np

from ..formats.schema import schema
from .activation import SoftmaxParameter, check_softmax
from .base import BlobSpec, Normalization, Shape, count, layer_type, nn
from .fillers import FillerParameter
from .loss import ClassLoss, Loss, RowLoss, check_labels


@schema
class TripletLossParameter:
    margin: float = 1.0


@layer_type("TripletLoss")
class TripletLoss(Loss):
    """sum_i max(0, |a_i - p_i|^2 - |a_i - n_i|^2 + margin) / (2 N) of anchors, positives and negatives (N, ...).

    Schroff et al. 2015; happynear/caffe-windows and others.
    """

    schemas = {"triplet_loss_param": TripletLossParameter}
    bottoms = (3, 3)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        if bottoms[1] != bottoms[0] or bottoms[2] != bottoms[0]:
            self.fail(f"expected anchors, positives and negatives of one shape, got {bottoms}")
        return [()]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.TripletLoss(self.p.margin)


@schema
class RingLossParameter:
    radius_filler: FillerParameter | None = None


@layer_type("RingLoss")
class RingLoss(Loss):
    """sum_i (|f_i| - R)^2 / (2 N); the blob R (1) is learned (Zheng et al. 2018, with the loss_weight for lambda).

    Without radius_filler R is -1 until the first training pass, which stores the mean length of its batch; TEST takes
    its own mean for an R below 0.
    """

    schemas = {"ring_loss_param": RingLossParameter}
    bottoms = (1, 1)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return [()]

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        return [BlobSpec("radius", (1,), self.p.radius_filler or FillerParameter(value=-1.0))]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.RingLoss()


class FocalType(enum.Enum):
    ORIGIN = 0
    LINEAR = 1
    ONEADDP = 2


@schema
class FocalLossParameter:
    type: FocalType = FocalType.ORIGIN
    gamma: float = 2.0
    alpha: float = 1.0  # of no effect in the fork
    beta: float = 1.0  # of no effect in the fork


@layer_type("FocalLoss")
class FocalLoss(ClassLoss):
    """-(1 - p)^gamma log p, or (1 + p)^gamma log p for type ONEADDP, p = softmax(x)[label]; summed and divided as
    SoftmaxWithLoss does.

    Lin et al. 2017; happynear/caffe-windows, branch experiment. A second top gives the probabilities. alpha and beta
    have no effect, as there; labels below 0 do not count.
    """

    schemas = {"focal_loss_param": FocalLossParameter, "softmax_param": SoftmaxParameter}
    tops = (1, 2)

    def setup(self) -> None:
        self.softmax = self.message("softmax_param")
        check_softmax(self, self.softmax)
        if self.p.type is FocalType.LINEAR:
            self.fail("type LINEAR is not supported (the fork has no code for it)")
        if not self.p.gamma >= 0:
            self.fail(f"expected a gamma of 0 or more, got {self.p.gamma:g}")

    def classes(self, bottoms: list[Shape]) -> int | None:
        return bottoms[0][self.axis(self.softmax.axis, len(bottoms[0]))]

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        check_labels(self, bottoms[0], bottoms[1], self.axis(self.softmax.axis, len(bottoms[0])))
        return [(), bottoms[0]][: self.context.num_tops]

    def module(self, bottoms: list[Shape]) -> Any:
        axis = self.axis(self.softmax.axis, len(bottoms[0]))
        added = self.p.type is FocalType.ONEADDP
        normalization = self.normalization(Normalization.VALID).name
        return nn.FocalLoss(
            axis, self.p.gamma, added, self.context.loss.ignore_label, normalization, self.context.num_tops
        )


@schema
class RankHardLossParameter:
    neg_num: int = 1
    pair_size: int = 1
    hard_ratio: float = 0.0
    rand_ratio: float = 0.0
    margin: float = 0.5


@layer_type("RankHardLoss")
class RankHardLoss(RowLoss):
    """Triplets of dot products within the batch, sum max(0, f_a f_j - f_a f_p + m) + max(0, f_p f_j - f_a f_p + m).

    wujiyang/Triplet-Loss. Every pair_size-th sample a is an anchor, the one after it its positive p; up to neg_num of
    its negatives j (of other labels, with the first term above 0) count, of more hard_ratio neg_num of the nearest
    neg_num and rand_ratio neg_num of all that are left, both drawn at random (with hard_ratio 1 all of the nearest).
    Divided by 2 neg_num N / pair_size.
    """

    schemas = {"rank_hard_loss_param": RankHardLossParameter}
    random = True

    def setup(self) -> None:
        p = self.p
        if p.pair_size < 2:
            self.fail(
                f"expected a pair_size of 2 or more (an anchor's positive is the sample after it), got {p.pair_size}"
            )
        if p.neg_num < 1:
            self.fail(f"expected a neg_num of 1 or more, got {p.neg_num}")
        if not (p.hard_ratio >= 0 and p.rand_ratio >= 0):
            self.fail("expected a hard_ratio and a rand_ratio of 0 or more")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        if bottoms[0][0] % self.p.pair_size:
            self.fail(f"expected a batch of a multiple of {self.p.pair_size} samples (pair_size), got {bottoms[0][0]}")
        return super().top_shapes(bottoms)

    def classes(self, bottoms: list[Shape]) -> int | None:
        return None

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return np.arange(count(shape)).reshape(shape) // self.p.pair_size if index == 1 else None

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        return nn.RankHardLoss(
            p.neg_num, p.pair_size, int(p.neg_num * p.hard_ratio), int(p.neg_num * p.rand_ratio), p.margin
        )


@schema
class RangeLossParameter:
    choose_k: int = 2
    inter_weight: float = 1e-3
    intra_weight: float = 1e-4
    margin: float = 2e4


@layer_type("RangeLoss")
class RangeLoss(RowLoss):
    """w_1 sum_c k / sum_j (1 / D_cj) + w_2 max(0, m - D): the k largest squared ranges of each class of the batch, and
    the smallest squared distance of two classes' means.

    Zhang et al. 2017; RangeLoss-Caffe. A class with fewer pairs has fewer ranges, one of a single sample none. The
    gradient is the derivative, where the published layer has another one of D.
    """

    schemas = {"range_loss_param": RangeLossParameter}

    def setup(self) -> None:
        if self.p.choose_k < 1:
            self.fail(f"expected a choose_k of 1 or more, got {self.p.choose_k}")

    def classes(self, bottoms: list[Shape]) -> int | None:
        return None

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return random.integers(0, 2, shape) if index == 1 else None

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        return nn.RangeLoss(p.choose_k, p.intra_weight, p.inter_weight, p.margin)


class InterClassType(enum.Enum):
    MEAN = 0
    AMONG = 1


@schema
class InterClassParameter:
    num_output: int = 0
    type: InterClassType = InterClassType.AMONG
    weight_filler: FillerParameter = field(default_factory=FillerParameter)
    axis: int = 1
    iteration: int = 0
    alpha_start_iter: int = 0
    alpha_start_value: float = 0.0
    alpha_step: float = 0.1
    alpha_stepvalue: list[int] = field(default_factory=list)
    normalize: bool = True


@layer_type("InterClass")
class InterClass(Loss):
    """A distance of the weight's classes, which its gradient drives up (SphereFace+, Liu et al. 2018).

    wy1iu/sphereface-plus. With u the mean row of the weight (C, K), under ``normalize`` u / sqrt(u.u + 1e-5): MEAN
    1 - mean_i u.w_y, and a step of alpha u / M for the row of each of the M labels; AMONG
    sum_i sum_j |w_j - w_y|^2 / C = d, and -4 alpha (w_y - u) / (M d^2 + 1e-5). The step ignores the loss_weight; the
    features get no gradient. alpha is 0 before pass alpha_start_iter, then alpha_start_value and alpha_step more from
    each alpha_stepvalue on; a second top gives it.
    """

    schemas = {"inter_class_param": InterClassParameter}
    tops = (1, 2)

    def setup(self) -> None:
        steps = self.p.alpha_stepvalue
        if self.p.num_output < 1:
            self.fail(f"expected a num_output of 1 or more, got {self.p.num_output}")
        if sorted(set(steps)) != steps:
            self.fail("expected each alpha_stepvalue above the one before")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        rows = count(bottoms[0], 0, self.axis(self.p.axis, len(bottoms[0])))
        if count(bottoms[1]) != rows:
            self.fail(f"expected {rows} labels for a bottom {bottoms[0]} and axis {self.p.axis}, got {bottoms[1]}")
        return [(), (1,)][: self.context.num_tops]

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        size = count(bottoms[0], self.axis(self.p.axis, len(bottoms[0])))
        return [BlobSpec("weight", (self.p.num_output, size), self.p.weight_filler)]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return random.integers(0, min(2, self.p.num_output), shape) if index == 1 else None

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        schedule = (p.alpha_start_iter, p.alpha_start_value, p.alpha_step, tuple(p.alpha_stepvalue))
        return nn.InterClass(p.type is InterClassType.AMONG, p.normalize, schedule, p.iteration, self.context.num_tops)
