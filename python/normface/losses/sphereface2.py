"""SphereFace2: every class by itself says yes or no, instead of all in one softmax."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TrainingError
from ..heads import UNIT_EPS, cosines, unit_ball_
from .additive_margin import checked_margin
from .base import FaceLoss
from .scale import register_scale


class SphereFace2Loss(FaceLoss):
    """1/N sum_i [l/r log(1 + exp(-r (g_y - m) - b)) + (1 - l)/r sum_{j != y} log(1 + exp(r (g_j + m) + b))].

    SphereFace2-C (Wen et al. 2022), g_j = 2 ((cos_j + 1) / 2)^t - 1, by which far angles come near each other.
    balance: l, how much the one positive weighs beside the negatives; r: ``scale``; margin: m; power: t. ``bias``, b,
    is learned, from where the two parts' derivatives by it cancel, all cosines being 0. The defaults are the
    published code's, which multiplies the loss by 50 and lets the gradient pass g as if it were the cosine; here
    neither is so. eps: under the root of every length.
    """

    scale: Tensor  # 0-D

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 40.0, margin: float = 0.4, *,
        balance: float = 0.7, power: float = 3.0, eps: float = UNIT_EPS,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, device, dtype)
        if not 1 <= power < math.inf:
            raise TrainingError(f"SphereFace2Loss: expected a power of 1 or more, got {power}")
        if not 0 < balance < 1:
            raise TrainingError(f"SphereFace2Loss: expected a balance between 0 and 1, got {balance}")
        self.margin = checked_margin(self, margin, 2.0)
        self.balance, self.power, self.eps = float(balance), float(power), eps
        register_scale(self, "scale", scale, scale)
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

    def value(self, x: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        scores, column = self.scores(x, weight), labels[:, None]
        scale = self.scale.to(x.dtype)
        away = scale * self.margin
        positive = F.softplus(away - scores.gather(1, column)).sum()
        negatives = F.softplus(scores + away).scatter(1, column, 0.0).sum()
        # A NaN of the label's own score is in the positive part, which scatter leaves.
        return (self.balance * positive + (1 - self.balance) * negatives) / (scale * len(x))

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        half = (cosines(x, weight, self.eps) + 1).clamp_min(0) / 2
        return self.scale.to(x.dtype) * (2 * half**self.power - 1) + self.bias.to(x.dtype)

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, scale {self.scale.item():.4g}, margin {self.margin}, bias {self.bias.item():.4g}"
        )
