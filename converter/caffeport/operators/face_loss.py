"""The losses of caffe-face and NormFace (happynear/caffe-windows, branch ms). An ONNX export refuses them."""

from __future__ import annotations

import enum
from dataclasses import field
from typing import Any

import numpy as np

from ..formats.schema import schema
from .base import BlobSpec, Shape, count, layer_type, nn
from .face import wants_derivative
from .fillers import FillerParameter
from .loss import RowLoss


class FaceLoss(RowLoss):
    """(x, N labels) -> loss; what the losses below share."""

    bottom_axes = ((2, None), (0, None))

    def setup(self) -> None:
        self.exact = wants_derivative(self)

    def not_negative(self, *names: str) -> None:
        """The fork sums absolute values, which only then have the sign that its gradient takes for granted."""
        for name in names:
            if getattr(self.p, name) < 0:
                self.fail(f"expected a {name} of 0 or more, got {getattr(self.p, name)}")


class CenterStep(enum.Enum):
    """The gradient of a center, of p = sum (c - f) over its n samples ("L1": of the signs)."""

    FORK = 0  # n / (1 + n) p: NormFace's fork
    PAPER = 1  # p / (1 + n): Wen et al. 2016, and caffe-face
    DERIVATIVE = 2


@schema
class CenterLossParameter:
    num_output: int = 0
    center_filler: FillerParameter = field(default_factory=FillerParameter)
    axis: int = 1
    distance_type: str = "L2"
    center_step: CenterStep = CenterStep.PAPER


@layer_type("CenterLoss")
class CenterLoss(FaceLoss):
    """sum |f - c_y|^2 / (2 N), or with distance_type "L1" sum |f - c_y| / N; the blob holds the centers (C, D).

    Wen et al. 2016. A center's gradient is sum (c - f) / (1 + n) over its n samples (the sign of c - f for "L1"),
    without the loss_weight, as in the paper and in caffe-face (ydwen). NormFace's fork adds that once for each of the
    n, n / (1 + n) sum (c - f): center_step FORK. With DERIVATIVE, or exact_gradients, it is the derivative.
    """

    schemas = {"center_loss_param": CenterLossParameter}

    def setup(self) -> None:
        super().setup()
        if self.p.num_output < 1:
            self.fail(f"expected a num_output of 1 or more, got {self.p.num_output}")
        if self.p.distance_type not in ("L1", "L2"):
            self.fail(f'expected distance_type "L1" or "L2", got "{self.p.distance_type}"')

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        tops = super().top_shapes(bottoms)
        if self.axis(self.p.axis, len(bottoms[0])) != 1:
            self.fail(f"expected axis 1, got {self.p.axis}")
        return tops

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        return [BlobSpec("centers", (self.p.num_output, count(bottoms[0], 1)), self.p.center_filler)]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return random.integers(0, min(2, self.p.num_output), shape) if index == 1 else None

    def module(self, bottoms: list[Shape]) -> Any:
        step = CenterStep.DERIVATIVE if self.exact else self.p.center_step
        return nn.CenterLoss(self.p.distance_type, step.name)


@schema
class GeneralContrastiveParameter:
    positive_margin: float = 0.0
    negative_margin: float = 1.0
    positive_weight: float = 1.0
    negative_weight: float = 1.0
    normalize_negative: float | None = None
    positive_outlier_thresh: float = 4.0
    square: bool = False
    max_negative_only: bool = False
    max_positive_only: bool = False
    positive_first: bool = False
    positive_upper_bound: float = 1.0
    exp_negative_weight: bool = False
    add_intra_mae: bool = False
    max_negative_margin: float = 1.2
    exact_gradient: bool = False


@layer_type("GeneralContrastiveLoss")
class GeneralContrastiveLoss(FaceLoss):
    """1/N sum_i [w+ clip(d_y - m+, 0, thresh) + w- sum_{j != y} max(0, m- - d_j)] of distances d (N, C).

    exp_negative_weight: exp(-d_j) where d_j < m-, in place of m- - d_j. positive_first: no negatives for a row
    with d_y > positive_upper_bound. max_negative_only: a row's largest negative term only, and none where the
    label is class 0 and its positive term is larger. max_positive_only: of all rows' positive terms only the
    smallest. add_intra_mae: m- grows by a running mean (0.99, 0.01) of the positive terms, at most
    max_negative_margin. normalize_negative divides the negatives' gradient by its mean sum over that number
    where this is above w+.

    A second top, without gradient, gives the means of the positive and of the negative terms (unweighted, all
    of them), and with add_intra_mae that running mean.

    The fork's gradient of the positive is w+ for m+ < d_y < thresh, whereas clip's slope ends at m+ + thresh,
    and always w+ where positive_first leaves out the negatives; exact_gradient (in the text, or exact_gradients
    for the whole net) gives the derivative. A third bottom, of the first one's shape, holds the distances that the
    gradient is made from in their place.
    """

    bottoms = (2, 3)
    schemas = {"general_contrastive_loss_param": GeneralContrastiveParameter}
    tops = (1, 2)

    def setup(self) -> None:
        super().setup()
        self.not_negative("positive_weight", "negative_weight", "positive_outlier_thresh")
        if self.p.square:
            self.fail("square is not supported (the fork has the field but no code for it)")
        if self.exact and self.context.num_bottoms > 2:
            self.fail("bottom 2 changes the gradient only; it does not go with exact gradients")
        if self.exact and self.p.normalize_negative is not None:
            self.fail("normalize_negative changes the gradient only; it does not go with exact gradients")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        if len(bottoms) > 2 and count(bottoms[2]) != count(bottoms[0]):
            self.fail(f"expected distances as in bottom 0, {bottoms[0]}, as bottom 2, got {bottoms[2]}")
        return [*super().top_shapes(bottoms), (3,) if self.p.add_intra_mae else (2,)][: self.context.num_tops]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.GeneralContrastiveLoss(self.p, self.context.num_tops, self.exact)


@schema
class GeneralTripletParameter:
    margin: float = 0.2
    add_center_loss: bool = True
    hardest_only: bool = False
    positive_first: bool = False
    positive_upper_bound: float = 1.0
    positive_weight: float = 1.0
    negative_weight: float = 1.0
    exact_gradient: bool = False


@layer_type("GeneralTripletLoss")
class GeneralTripletLoss(FaceLoss):
    """w-/N sum_i sum_{j != y} max(0, d_y + margin - d_j) of distances d (N, C).

    hardest_only: a row's largest term only. positive_first: none for a row with d_y > positive_upper_bound.
    A second top, without gradient, gives the mean distances to the label's class and to the others.

    The fork's gradient is -w- at every d_j of the sum, but w+ only once at d_y: if the row has a term, if
    positive_first has left them out, or always with add_center_loss. Those two parameters have no part in
    the loss; exact_gradient (in the text, or exact_gradients for the whole net) gives its derivative without them.
    """

    schemas = {"general_triplet_loss_param": GeneralTripletParameter}
    tops = (1, 2)

    def setup(self) -> None:
        super().setup()
        self.not_negative("positive_weight", "negative_weight")
        if self.exact and self.p.positive_weight != 1:
            self.fail("positive_weight changes the gradient only; it does not go with exact gradients")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return [*super().top_shapes(bottoms), (2,)][: self.context.num_tops]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.GeneralTripletLoss(self.p, self.context.num_tops, self.exact)
