"""ElasticFace: a margin drawn anew for every sample, so that no class is pressed to one fixed distance."""

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
from .scale import register_scale

MARGINS_ON = ("angle", "cosine")


class ElasticFaceLoss(FaceLoss):
    """Softmax loss on s cos(x, W_j), the label's being s cos(theta + e) or s (cos(theta) - e).

    ElasticFace (Boutros et al. 2022): e is normal of mean ``margin`` and standard deviation ``std``, one for each
    sample. margin_on: "angle" (ElasticFace-Arc, margin 0.5) or "cosine" (ElasticFace-Cos, 0.35); std 0.05 is the
    paper's for both. The draws follow from ``seed`` and ``step`` alone, a buffer that counts the backward passes of
    training mode: a resumed training draws as one that was not broken, and so do several devices. In evaluation mode
    e is the margin. eps: under the root of every length.
    """

    scale: Tensor  # 0-D
    step: Tensor  # 0-D

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 64.0, margin: float | None = None, *,
        margin_on: str = "angle", std: float = 0.05, seed: int = 0, eps: float = UNIT_EPS,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, device, dtype)
        register_scale(self, "scale", scale, scale)
        if margin_on not in MARGINS_ON:
            raise TrainingError(f"ElasticFaceLoss: expected margin_on {' or '.join(MARGINS_ON)}, got {margin_on!r}")
        if not 0 <= std < math.inf:
            raise TrainingError(f"ElasticFaceLoss: expected an std of 0 or more, got {std}")
        on_angle = margin_on == "angle"
        default = 0.5 if on_angle else 0.35
        self.margin = checked_margin(self, default if margin is None else margin, math.pi if on_angle else 2.0)
        self.margin_on, self.std, self.seed, self.eps = margin_on, float(std), int(seed), eps
        self.register_buffer("step", torch.zeros((), dtype=torch.int64, device=device))

    def margins(self, samples: int) -> Tensor:
        """Return the margins of the next training step, (samples, 1) float64 on the CPU."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + int(self.step)) % 2**63)
        draws = torch.randn(samples, 1, generator=generator, dtype=torch.float64)
        return self.margin + self.std * draws

    def value(self, x: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        cosine, column = cosines(x, weight, self.eps), labels[:, None]
        own = cosine.gather(1, column)
        drawn = self.margins(len(x)).to(x) if self.training else torch.full_like(own, self.margin)
        target = angle_plus(own, drawn) if self.margin_on == "angle" else own - drawn
        loss = F.cross_entropy(self.scale.to(x.dtype) * cosine.scatter(1, column, target), labels)
        if self.training and loss.requires_grad:
            loss.register_hook(self._count)
        return loss

    def _count(self, gradient: Tensor) -> None:
        self.step = self.step + 1

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * cosines(x, weight, self.eps)

    def extra_repr(self) -> str:
        words = f"margin {self.margin} +- {self.std} on the {self.margin_on}"
        return f"{super().extra_repr()}, scale {self.scale.item():.4g}, {words}"
