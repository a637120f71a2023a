"""NormFace's metric losses, which compare a feature with class agents instead of with other features."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from caffeport.operators.face_loss import GeneralContrastiveParameter, GeneralTripletParameter
from caffeport.to_torch.modules.face_loss import GeneralContrastiveLoss, GeneralTripletLoss
from torch import Tensor

from ..errors import TrainingError
from ..heads import UNIT_EPS, cosines, inverse_lengths, unit, unit_ball_
from .annealing import MarginWarmup
from .base import FaceLoss, Options
from .blockwise import BLOCK_NUMBERS
from .row_formulas import MostOf, SumOf
from .rows import row_losses

if TYPE_CHECKING:
    from typing_extensions import Unpack


class CContrastiveLoss(FaceLoss):
    """1/N sum_i [w+ clip(d_iy - m+, 0, thresh) + w- sum_{j != y} max(0, m- - d_ij)]: NormFace's C-contrastive loss.

    d_ij = |x_i/|x_i| - W_j/|W_j||^2 = 2 - 2 cos, so 0 to 4; 2 from a vector of zeros. The defaults are the paper's
    (m+ = 0, m- = 1).

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
        **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, **options)
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
        if max_positive_only or max_negative_only:
            self.check_whole("max_positive_only" if max_positive_only else "max_negative_only")
        if not exact_gradient:
            self.check_whole("exact_gradient=False")

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        if self.of_distances.p.max_positive_only:  # of the whole batch, in which the ignored have no part
            labels = labels if shares is None else torch.where(shares > 0, labels, -1)
            return self.of_distances.of_each(unit_distances(x, weight, self.eps), labels)
        p = self.of_distances.p
        plain = self.of_distances.exact and not (p.max_negative_only or p.exp_negative_weight)
        slopes = self._slopes if plain else None
        x, formula = unit(x, self.eps), SumOf(self.of_cosines)
        return row_losses(x, weight, labels, formula, eps=self.eps, slopes=slopes, shard=self.shard)

    def of_cosines(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """Return the losses (N,) of the cosines (N, C)."""
        return self.of_distances.of_each(2 - 2 * cosine, labels)

    def _slopes(self, cosine: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The losses and their derivatives, which take the cosines' place; of what needs no search through a row."""
        p, column = self.of_distances.p, labels[:, None]
        own = 2 - 2 * cosine.gather(1, column)
        beyond = own - p.positive_margin
        short = cosine.mul_(2).add_(p.negative_margin - 2).clamp_min_(0).scatter_(1, column, 0.0)
        if p.positive_first:
            short.mul_(own <= p.positive_upper_bound)  # NaN stays
        positive = p.positive_weight * beyond.clamp(0, p.positive_outlier_thresh)
        losses = (positive + p.negative_weight * short.sum(1, keepdim=True))[:, 0]
        inside = (beyond >= 0) & (beyond <= p.positive_outlier_thresh)
        slopes = short.sign_().mul_(2 * p.negative_weight)
        return losses, slopes.scatter_(1, column, -2 * p.positive_weight * inside.to(own.dtype))

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
    they need it. margin_warmup: steps over which the margin comes from 0 (MarginWarmup). eps: under the root of every
    length.
    """

    def __init__(
        self, num_classes: int, embedding_size: int, margin: float = 0.8, *,
        hardest_only: bool = True, add_center_loss: bool = False,
        positive_first: bool = False, positive_upper_bound: float = 1.0,
        positive_weight: float = 1.0, negative_weight: float = 1.0,
        exact_gradient: bool = True, margin_warmup: int = 0, eps: float = UNIT_EPS,
        **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, **options)
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
        if not exact_gradient:
            self.check_whole("exact_gradient=False")
        self.warmup = MarginWarmup(margin_warmup, self.weight.device)

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        x, margin = unit(x, self.eps), self.warmup.of(self.of_distances.p.margin)
        hardest_only = self.of_distances.p.hardest_only
        if hardest_only and self.of_distances.exact and self.shard is None:
            return self.warmup.counting(self._of_the_hardest(x, weight, labels, margin))
        formula = (MostOf if hardest_only else SumOf)(partial(self.of_cosines, margin=margin))
        return self.warmup.counting(row_losses(x, weight, labels, formula, eps=self.eps, shard=self.shard))

    def of_cosines(self, cosine: Tensor, labels: Tensor, margin: float | Tensor) -> Tensor:
        """Return the losses (N,) of the cosines (N, C)."""
        return self.of_distances.of_each(2 - 2 * cosine, labels, margin)

    def _of_the_hardest(self, x: Tensor, weight: Tensor, labels: Tensor, margin: float | Tensor) -> Tensor:
        """The same, of hardest_only: once the hardest negatives are known, of two cosines a sample alone."""
        if self.num_classes == 1:
            return 0 * (x.sum(1) + weight.sum())
        hardest = nearest_others(x.detach(), weight.detach(), labels, self.eps)
        rows = weight.index_select(0, torch.cat([labels, hardest])).unflatten(0, (2, -1))  # both at once: one gradient
        own, other = (x * rows).sum(2) * inverse_lengths(rows.flatten(0, 1), self.eps).unflatten(0, (2, -1))
        hinge = F.relu(margin + 2 * (other - own))  # with NaN, and without gradient at 0
        p = self.of_distances.p
        if p.positive_first:  # a distance beyond the bound pushes none; NaN stays
            hinge = torch.where(2 - 2 * own > p.positive_upper_bound, 0 * hinge.detach(), hinge)
        return p.negative_weight * hinge

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
    """|x_i/|x_i| - w_j/|w_j||^2 = 2 - 2 cos, (N, C)."""
    return 2 - 2 * cosines(x, weight, eps)


def nearest_others(x: Tensor, weight: Tensor, labels: Tensor, eps: float) -> Tensor:
    """The class, not the label's, whose weights have the largest cosine (or NaN) with each row of x, (N,).

    The weights are read some rows at a time, and no more scores than these are held. C is 2 or more.
    """
    most = hardest = None
    step = max(1, BLOCK_NUMBERS // weight.shape[1])
    for first in range(0, len(weight), step):
        rows = weight[first : first + step]
        cosine = x @ rows.t() * inverse_lengths(rows, eps)
        own = torch.arange(first, first + len(rows), device=x.device) == labels[:, None]
        best, place = torch.where(own, -torch.inf, cosine).max(1)
        if most is None or hardest is None:
            most, hardest = best, place
            continue
        nearer = ~(best <= most) & ~most.isnan()
        most, hardest = torch.where(nearer, best, most), torch.where(nearer, place + first, hardest)
    assert hardest is not None
    return hardest


def not_negative(loss: FaceLoss, *values: float) -> None:
    if any(not value >= 0 for value in values):
        raise TrainingError(f"{type(loss).__name__}: expected weights and a threshold of 0 or more, got {values}")
