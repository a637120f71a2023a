"""CurricularFace: classes that beat the label's margin weigh the more, the further the training is."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import TrainingError
from ..heads import UNIT_EPS, cosines, unit_ball_
from .additive_margin import checked_margin
from .angles import angle_plus
from .base import FaceLoss
from .running import Running
from .scale import register_scale


class CurricularFaceLoss(FaceLoss):
    """Softmax loss on s N(t, cos_j), the label's being s cos(theta + m): CurricularFace (Huang et al. 2020).

    N(t, cos_j) = cos_j (t + cos_j) where cos_j > cos(theta + m), which makes the class hard, else cos_j. For
    theta > pi - m the label's is s (cos(theta) - m sin(m)), as published.
    t = momentum mean_i cos(theta_i) + (1 - momentum) t, from 0 on, with this batch's cosines already; it has no
    gradient. ``running.mean`` keeps it, moved by the backward passes of training mode alone. The defaults are the
    published ones. eps: under the root of every length.
    """

    scale: Tensor  # 0-D

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 64.0, margin: float = 0.5, *,
        momentum: float = 0.01, eps: float = UNIT_EPS,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, device, dtype)
        register_scale(self, "scale", scale, scale)
        self.margin, self.eps = checked_margin(self, margin, math.pi), eps
        if not 0 <= momentum <= 1:
            raise TrainingError(f"CurricularFaceLoss: expected a momentum from 0 to 1, got {momentum}")
        self.running = Running({"mean": 0.0}, momentum, self.weight)

    def value(self, x: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        cosine, column = cosines(x, weight, self.eps), labels[:, None]
        own = cosine.gather(1, column)
        target = angle_plus(own, self.margin)
        now = self.running.with_batch({"mean": own.detach().mean()}) if self.training else self.running.state(x.dtype)
        others = torch.where(cosine > target, cosine * (now["mean"] + cosine), cosine)
        target = torch.where(own > -math.cos(self.margin), target, own - self.margin * math.sin(self.margin))
        scores = self.scale.to(x.dtype) * others.scatter(1, column, target)
        return self.running.moving(F.cross_entropy(scores, labels), now)

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * cosines(x, weight, self.eps)

    def extra_repr(self) -> str:
        options = f"margin {self.margin}, {self.running.extra_repr()}"
        return f"{super().extra_repr()}, scale {self.scale.item():.4g}, {options}"
