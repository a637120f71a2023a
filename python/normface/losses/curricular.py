"""CurricularFace: classes that beat the label's margin weigh the more, the further the training is."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import TrainingError
from ..heads import UNIT_EPS, cosines, inverse_lengths, unit, unit_ball_
from .additive_margin import checked_margin
from .angles import angle_plus, cos_of, sin_of
from .annealing import MarginWarmup
from .base import FaceLoss, SoftmaxOptions
from .row_formulas import SoftmaxOf
from .rows import row_losses
from .running import Running, mean_of
from .scale import register_scale

if TYPE_CHECKING:
    from typing_extensions import Unpack


class CurricularFaceLoss(FaceLoss):
    """Softmax loss on s N(t, cos_j), the label's being s cos(theta + m): CurricularFace (Huang et al. 2020).

    N(t, cos_j) = cos_j (t + cos_j) where cos_j > cos(theta + m), which makes the class hard, else cos_j. For
    theta > pi - m the label's is s (cos(theta) - m sin(m)), as published.
    t = momentum mean_i cos(theta_i) + (1 - momentum) t, from 0 on, with this batch's cosines already; it has no
    gradient. ``running.mean`` keeps it, moved by the backward passes of training mode alone. The defaults are the
    published ones. margin_warmup: steps over which m comes from 0 (MarginWarmup). eps: under the root of every length.
    """

    options = SoftmaxOptions
    scale: Tensor  # 0-D

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 64.0, margin: float = 0.5, *,
        momentum: float = 0.01, margin_warmup: int = 0, eps: float = UNIT_EPS,
        **options: Unpack[SoftmaxOptions],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, **options)
        register_scale(self, "scale", scale, scale)
        self.margin, self.eps = checked_margin(self, margin, math.pi), eps
        if not 0 <= momentum <= 1:
            raise TrainingError(f"CurricularFaceLoss: expected a momentum from 0 to 1, got {momentum}")
        self.running = Running({"mean": 0.0}, momentum, self.weight)
        self.warmup = MarginWarmup(margin_warmup, self.weight.device)

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        x = unit(x, self.eps)
        now = self.running.state(x.dtype)
        if self.training:
            rows = self.label_rows(weight, labels, x.dtype).detach()
            own = (x.detach() * rows).sum(1) * inverse_lengths(rows, self.eps)
            now = self.running.with_batch({"mean": mean_of(own, shares)})
        formula = SoftmaxOf(partial(self.of_cosines, margin=self.warmup.of(self.margin)), self.label_smoothing)
        inputs = [one.to(x.dtype).expand(len(x)) for one in (self.scale, now["mean"])]
        losses = row_losses(x, weight, labels, formula, inputs, eps=self.eps, shard=self.shard)
        return self.warmup.counting(self.running.moving(losses, now))

    def of_cosines(
        self, cosine: Tensor, labels: Tensor, scale: Tensor, t: Tensor, margin: float | Tensor
    ) -> Tensor:  # fmt: skip
        """Return what the softmax gets, (N, C), of the cosines (N, C); scale and t: (N,)."""
        column = labels[:, None]
        own = cosine.gather(1, column)
        target = angle_plus(own, margin)
        others = torch.where(cosine > target, cosine * (t[:, None] + cosine), cosine)
        target = torch.where(own > -cos_of(margin), target, own - margin * sin_of(margin))
        return scale[:, None] * others.scatter(1, column, target)

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * cosines(x, weight, self.eps)

    def extra_repr(self) -> str:
        options = f"margin {self.margin}, {self.running.extra_repr()}"
        return f"{super().extra_repr()}, scale {self.scale.item():.4g}, {options}"
