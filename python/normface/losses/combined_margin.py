"""Softmax loss on scaled cosines with all three margins at once, as ArcFace's paper combines them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import TrainingError
from ..heads import UNIT_EPS, cosines, unit, unit_ball_
from .additive_margin import checked_margin
from .angles import LEAST_SQUARED_SINE
from .annealing import MarginWarmup
from .base import FaceLoss, SoftmaxOptions
from .cosine_softmax import cosine_softmax_losses
from .scale import register_scale

if TYPE_CHECKING:
    from typing_extensions import Unpack


class CombinedMarginLoss(FaceLoss):
    """Softmax loss on s cos(x, W_j), the label's being s (cos(m1 theta + m2) - m3): Deng et al. 2019, equation 4.

    m1: multiplies the angle (SphereFace); m2: is added to it, in radians (ArcFace); m3: is taken off the cosine
    (CosFace). The defaults are the paper's CM1 (1, 0.3, 0.2); its CM2 is (0.9, 0.4, 0.15). The formula holds all the
    way: where m1 theta + m2 is beyond pi, the score rises again with theta. Where sin(theta)^2 is below
    LEAST_SQUARED_SINE, the slope is m1^2 cos(m2). The margins are there in evaluation mode too. margin_warmup: steps
    over which they come from 1, 0 and 0 (MarginWarmup). eps: under the root of every length.
    """

    options = SoftmaxOptions
    scale: Tensor  # 0-D

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 64.0, *,
        m1: float = 1.0, m2: float = 0.3, m3: float = 0.2, margin_warmup: int = 0, eps: float = UNIT_EPS,
        **options: Unpack[SoftmaxOptions],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, **options)
        register_scale(self, "scale", scale, scale)
        if not 0 < m1 <= 4:
            raise TrainingError(f"CombinedMarginLoss: expected an m1 above 0, to 4, got {m1}")
        self.m1, self.m2, self.m3 = float(m1), checked_margin(self, m2, torch.pi), checked_margin(self, m3, 2.0)
        self.eps = eps
        self.warmup = MarginWarmup(margin_warmup, self.weight.device)

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        x, scale = unit(x, self.eps), self.scale.to(x.dtype)
        of = self.warmup.of
        psi = partial(self.psi, m1=of(self.m1, 1.0), m2=of(self.m2), m3=of(self.m3))
        losses = cosine_softmax_losses(
            x, weight, scale, labels, self.eps, psi, smoothing=self.label_smoothing, shard=self.shard
        )
        return self.warmup.counting(losses)

    def psi(
        self, cosine: Tensor, m1: float | Tensor, m2: float | Tensor, m3: float | Tensor
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        squared_sine = 1 - cosine.square()
        sine = squared_sine.clamp_min(LEAST_SQUARED_SINE).sqrt()
        angle = m1 * torch.atan2(sine, cosine) + m2
        edge = m1**2 * torch.cos(torch.zeros_like(cosine) + m2)
        slope = torch.where(squared_sine > LEAST_SQUARED_SINE, m1 * torch.sin(angle) / sine, edge)
        return torch.cos(angle) - m3, slope

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * cosines(x, weight, self.eps)

    def extra_repr(self) -> str:
        margins = f"margins {self.m1}, {self.m2}, {self.m3}"
        return f"{super().extra_repr()}, scale {self.scale.item():.4g}, {margins}"
