"""SphereFace2: every class by itself says yes or no, instead of all in one softmax."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TrainingError
from ..heads import UNIT_EPS, cosines, unit, unit_ball_
from .additive_margin import checked_margin
from .annealing import MarginWarmup
from .base import FaceLoss, Options
from .row_formulas import SumOf
from .rows import row_losses
from .scale import register_scale

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SphereFace2Loss(FaceLoss):
    """1/N sum_i [l/r log(1 + exp(-r (g_y - m) - b)) + (1 - l)/r sum_{j != y} log(1 + exp(r (g_j + m) + b))].

    SphereFace2-C (Wen et al. 2022), g_j = 2 ((cos_j + 1) / 2)^t - 1, by which far angles come near each other.
    balance: l, how much the one positive weighs beside the negatives; r: ``scale``; margin: m; power: t. ``bias``, b,
    is learned, from where the two parts' derivatives by it cancel, all cosines being 0. The defaults are the
    published code's, which multiplies the loss by 50 and lets the gradient pass g as if it were the cosine; here
    neither is so. margin_warmup: steps over which m comes from 0 (MarginWarmup). eps: under the root of every length.
    """

    scale: Tensor  # 0-D

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 40.0, margin: float = 0.4, *,
        balance: float = 0.7, power: float = 3.0, margin_warmup: int = 0, eps: float = UNIT_EPS,
        **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, **options)
        if not 1 <= power < math.inf:
            raise TrainingError(f"SphereFace2Loss: expected a power of 1 or more, got {power}")
        if not 0 < balance < 1:
            raise TrainingError(f"SphereFace2Loss: expected a balance between 0 and 1, got {balance}")
        self.margin = checked_margin(self, margin, 2.0)
        self.balance, self.power, self.eps = float(balance), float(power), eps
        register_scale(self, "scale", scale, scale)
        self.warmup = MarginWarmup(margin_warmup, self.weight.device)
        start = self._start(float(scale))
        self.bias = nn.Parameter(torch.full((), start, dtype=self.weight.dtype, device=self.weight.device))

    def _start(self, r: float) -> float:
        """b with l sigmoid(-r (g - m) - b) = (1 - l) (C - 1) sigmoid(r (g + m) + b), g of cosine 0; 0 for one class.

        With u = exp(b), p = exp(r (g - m)), q = exp(r (g + m)), z = l / ((1 - l)(C - 1)): z (1 + q u) = q u (1 + p u).
        """
        if self.num_classes == 1:
            return 0.0
        z = self.balance / ((1 - self.balance) * (self.num_classes - 1))
        log_q = r * (2 * 0.5**self.power - 1 + self.margin)
        # v = q u: p/q v^2 + (1 - z) v - z = 0, p/q = exp(-2 r m), by the form that does not cancel.
        root = math.sqrt((1 - z) ** 2 + 4 * z * math.exp(-2 * r * self.margin))
        if z <= 1:
            return math.log(2 * z / (1 - z + root)) - log_q
        return math.log((z - 1 + root) / 2) + 2 * r * self.margin - log_q

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        formula = SumOf(partial(self.of_cosines, margin=self.warmup.of(self.margin)))
        inputs = [one.to(x.dtype).expand(len(x)) for one in (self.scale, self.bias)]
        x = unit(x, self.eps)
        losses = row_losses(x, weight, labels, formula, inputs, eps=self.eps, shard=self.shard)
        return self.warmup.counting(losses)

    def of_cosines(
        self, cosine: Tensor, labels: Tensor, scale: Tensor, bias: Tensor, margin: float | Tensor
    ) -> Tensor:  # fmt: skip
        """Return the losses (N,) of the cosines (N, C); scale and bias: (N,)."""
        column, scale = labels[:, None], scale[:, None]
        scores, away = scale * self.likeness(cosine) + bias[:, None], scale * margin
        positive = F.softplus(away - scores.gather(1, column))[:, 0]
        negatives = F.softplus(scores + away).scatter(1, column, 0.0).sum(1)
        # A NaN of the label's own score is in the positive part, which scatter leaves.
        return (self.balance * positive + (1 - self.balance) * negatives) / scale[:, 0]

    def likeness(self, cosine: Tensor) -> Tensor:
        """g of the cosines, elementwise."""
        return 2 * ((cosine + 1).clamp_min(0) / 2) ** self.power - 1

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * self.likeness(cosines(x, weight, self.eps)) + self.bias.to(x.dtype)

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, scale {self.scale.item():.4g}, margin {self.margin}, bias {self.bias.item():.4g}"
        )
