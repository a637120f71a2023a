"""Softmax loss on scaled cosines with all three margins at once, as ArcFace's paper combines them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import TrainingError
from ..heads import UNIT_EPS, cosines, unit, unit_ball_
from .additive_margin import checked_margin
from .angles import LEAST_SQUARED_SINE
from .base import FaceLoss
from .cosine_softmax import cosine_softmax_loss
from .scale import register_scale


class CombinedMarginLoss(FaceLoss):
    """Softmax loss on s cos(x, W_j), the label's being s (cos(m1 theta + m2) - m3): Deng et al. 2019, equation 4.

    m1: multiplies the angle (SphereFace); m2: is added to it, in radians (ArcFace); m3: is taken off the cosine
    (CosFace). The defaults are the paper's CM1 (1, 0.3, 0.2); its CM2 is (0.9, 0.4, 0.15). The formula holds all the
    way: where m1 theta + m2 is beyond pi, the score rises again with theta. Where sin(theta)^2 is below
    LEAST_SQUARED_SINE, the slope is m1^2 cos(m2). The margins are there in evaluation mode too. eps: under the root of
    every length.
    """

    scale: Tensor  # 0-D

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 64.0, *,
        m1: float = 1.0, m2: float = 0.3, m3: float = 0.2, eps: float = UNIT_EPS,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, device, dtype)
        register_scale(self, "scale", scale, scale)
        if not 0 < m1 <= 4:
            raise TrainingError(f"CombinedMarginLoss: expected an m1 above 0, to 4, got {m1}")
        self.m1, self.m2, self.m3 = float(m1), checked_margin(self, m2, torch.pi), checked_margin(self, m3, 2.0)
        self.eps = eps

    def value(self, x: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        return cosine_softmax_loss(unit(x, self.eps), weight, self.scale.to(x.dtype), labels, self.eps, self.psi)

    def psi(self, cosine: Tensor) -> tuple[Tensor, Tensor]:
        squared_sine = 1 - cosine.square()
        sine = squared_sine.clamp_min(LEAST_SQUARED_SINE).sqrt()
        angle = self.m1 * torch.atan2(sine, cosine) + self.m2
        edge = torch.full_like(cosine, self.m1**2) * torch.cos(torch.full_like(cosine, self.m2))
        slope = torch.where(squared_sine > LEAST_SQUARED_SINE, self.m1 * torch.sin(angle) / sine, edge)
        return torch.cos(angle) - self.m3, slope

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * cosines(x, weight, self.eps)

    def extra_repr(self) -> str:
        margins = f"margins {self.m1}, {self.m2}, {self.m3}"
        return f"{super().extra_repr()}, scale {self.scale.item():.4g}, {margins}"
