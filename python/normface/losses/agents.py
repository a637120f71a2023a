"""NormFace's metric losses, which compare a feature with class agents instead of with other features."""

from __future__ import annotations

from dataclasses import fields

import torch
from caffeport.operators.face_loss import GeneralContrastiveParameter, GeneralTripletParameter
from caffeport.to_torch.modules.face_loss import GeneralContrastiveLoss, GeneralTripletLoss
from torch import Tensor

from ..errors import TrainingError
from ..heads import UNIT_EPS, squared_distances, unit, unit_ball_
from .base import FaceLoss


class CContrastiveLoss(FaceLoss):
    """1/N sum_i [w+ clip(d_iy - m+, 0, thresh) + w- sum_{j != y} max(0, m- - d_ij)]: NormFace's C-contrastive loss.

    d_ij = |x_i/|x_i| - W_j/|W_j||^2 = 2 - 2 cos, so 0 to 4. The defaults are the paper's (m+ = 0, m- = 1).

    The options are those of Caffe's GeneralContrastiveLoss, by its names: m+ positive_margin, m- negative_margin,
    w+ positive_weight, w- negative_weight, thresh positive_outlier_thresh; max_negative_only, max_positive_only,
    positive_first with positive_upper_bound, exp_negative_weight: see caffeport.operators.face_loss. exact_gradient:
    False takes the fork's gradient where it is not the derivative. eps: under the root of every length.
    """

    def __init__(
        self, num_classes: int, embedding_size: int, *,
        positive_margin: float = 0.0, negative_margin: float = 1.0,
        positive_weight: float = 1.0, negative_weight: float = 1.0, positive_outlier_thresh: float = 4.0,
        max_negative_only: bool = False, max_positive_only: bool = False,
        positive_first: bool = False, positive_upper_bound: float = 1.0, exp_negative_weight: bool = False,
        exact_gradient: bool = True, eps: float = UNIT_EPS,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, device, dtype)
        not_negative(self, positive_weight, negative_weight, positive_outlier_thresh)
        parameters = GeneralContrastiveParameter(
            positive_margin=positive_margin, negative_margin=negative_margin,
            positive_weight=positive_weight, negative_weight=negative_weight,
            positive_outlier_thresh=positive_outlier_thresh,
            max_negative_only=max_negative_only, max_positive_only=max_positive_only,
            positive_first=positive_first, positive_upper_bound=positive_upper_bound,
            exp_negative_weight=exp_negative_weight,
        )  # fmt: skip
        self.of_distances = GeneralContrastiveLoss(parameters, tops=1, exact=exact_gradient)
        self.eps, self._options = eps, told(parameters, "positive_margin", "negative_margin")

    def value(self, x: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        return self.of_distances(unit_distances(x, weight, self.eps), labels)

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return -unit_distances(x, weight, self.eps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self._options}"


class CTripletLoss(FaceLoss):
    """w-/N sum_i max_{j != y} max(0, d_iy + margin - d_ij): NormFace's C-triplet loss, d as in CContrastiveLoss.

    The defaults are the paper's: margin 0.8 and, of each sample's negatives, the hardest only; hardest_only False
    sums over all of them. The options are those of Caffe's GeneralTripletLoss, by its names (whose defaults are
    margin 0.2, hardest_only false, add_center_loss true): see caffeport.operators.face_loss.

    exact_gradient: False takes the fork's gradient, which pulls the positive once, by positive_weight, however
    many negatives are pushed, and with add_center_loss always. These two have no part in the loss, so
    they need it. eps: under the root of every length.
    """

    def __init__(
        self, num_classes: int, embedding_size: int, margin: float = 0.8, *,
        hardest_only: bool = True, add_center_loss: bool = False,
        positive_first: bool = False, positive_upper_bound: float = 1.0,
        positive_weight: float = 1.0, negative_weight: float = 1.0,
        exact_gradient: bool = True, eps: float = UNIT_EPS,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, device, dtype)
        not_negative(self, positive_weight, negative_weight)
        if exact_gradient and (add_center_loss or positive_weight != 1):
            raise TrainingError(
                "CTripletLoss: add_center_loss and positive_weight change the gradient only; "
                "they need exact_gradient=False"
            )
        parameters = GeneralTripletParameter(
            margin=margin, add_center_loss=add_center_loss, hardest_only=hardest_only, positive_first=positive_first,
            positive_upper_bound=positive_upper_bound, positive_weight=positive_weight, negative_weight=negative_weight,
        )  # fmt: skip
        self.of_distances = GeneralTripletLoss(parameters, tops=1, exact=exact_gradient)
        self.eps, self._options = eps, told(parameters, "margin")

    def value(self, x: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        return self.of_distances(unit_distances(x, weight, self.eps), labels)

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return -unit_distances(x, weight, self.eps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self._options}"


def told(parameters: GeneralContrastiveParameter | GeneralTripletParameter, *margins: str) -> str:
    """The margins, what is switched on, and every other number that is not Caffe's default, in one line."""
    words = []
    for field in fields(parameters):
        value = getattr(parameters, field.name)
        if isinstance(value, bool):
            words += [field.name] * value
        elif field.name in margins or value != field.default:
            words.append(f"{field.name} {value:g}")
    return ", ".join(words)


def unit_distances(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """|x_i/|x_i| - w_j/|w_j||^2, (N, C)."""
    return squared_distances(unit(x, eps), unit(weight, eps))


def not_negative(loss: FaceLoss, *values: float) -> None:
    if any(not value >= 0 for value in values):
        raise TrainingError(f"{type(loss).__name__}: expected weights and a threshold of 0 or more, got {values}")
