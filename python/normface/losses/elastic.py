"""ElasticFace: a margin drawn anew for every sample, so that no class is pressed to one fixed distance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import TrainingError
from ..heads import UNIT_EPS, cosines, unit, unit_ball_
from .additive_margin import checked_margin
from .angles import LEAST_SQUARED_SINE, angle_plus
from .annealing import MarginWarmup
from .base import FaceLoss, SoftmaxOptions
from .cosine_softmax import cosine_softmax_losses
from .scale import register_scale
from .transforms import is_transformed

if TYPE_CHECKING:
    from typing_extensions import Unpack

MARGINS_ON = ("angle", "cosine")


class ElasticFaceLoss(FaceLoss):
    """Softmax loss on s cos(x, W_j), the label's being s cos(theta + e) or s (cos(theta) - e).

    ElasticFace (Boutros et al. 2022): e is normal of mean ``margin`` and standard deviation ``std``, one for each
    sample. margin_on: "angle" (ElasticFace-Arc, margin 0.5) or "cosine" (ElasticFace-Cos, 0.35). The authors train both
    with std 0.05 and scale 64 (config/config.py of fdbtrs/ElasticFace, whose classes have 0.0125 where nothing is
    told); their Arc+ and Cos+, which sort a batch's draws, have 0.0175 and 0.02 and are not here. The draws follow from
    ``seed`` and ``step`` alone, a buffer that counts the backward passes of training mode: a resumed training draws as
    one that was not broken, and so do several devices. In evaluation mode e is the margin. Where sin(theta)^2 is below
    LEAST_SQUARED_SINE, it counts as that, and the slope is cos(e). margin_warmup: steps over which e comes from 0
    (MarginWarmup). eps: under the root of every length.
    """

    options = SoftmaxOptions
    scale: Tensor  # 0-D
    step: Tensor  # 0-D

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 64.0, margin: float | None = None, *,
        margin_on: str = "angle", std: float = 0.05, seed: int = 0, margin_warmup: int = 0, eps: float = UNIT_EPS,
        **options: Unpack[SoftmaxOptions],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, **options)
        register_scale(self, "scale", scale, scale)
        if margin_on not in MARGINS_ON:
            raise TrainingError(f"ElasticFaceLoss: expected margin_on {' or '.join(MARGINS_ON)}, got {margin_on!r}")
        if not 0 <= std < math.inf:
            raise TrainingError(f"ElasticFaceLoss: expected an std of 0 or more, got {std}")
        on_angle = margin_on == "angle"
        default = 0.5 if on_angle else 0.35
        self.margin = checked_margin(self, default if margin is None else margin, math.pi if on_angle else 2.0)
        self.margin_on, self.std, self.seed, self.eps = margin_on, float(std), int(seed), eps
        self.register_buffer("step", torch.zeros((), dtype=torch.int64, device=self.weight.device))
        self.warmup = MarginWarmup(margin_warmup, self.weight.device)

    def margins(self, samples: int) -> Tensor:
        """Return the margins of the next training step, (samples, 1) float64 on the CPU."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + int(self.step)) % 2**63)
        draws = torch.randn(samples, 1, generator=generator, dtype=torch.float64)
        return self.margin + self.std * draws

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        drawn = self.margins(len(x))[:, 0].to(x) if self.training else torch.full_like(x[:, 0], self.margin)
        inputs, scale = (drawn * self.warmup.of(1.0),), self.scale.to(x.dtype)
        losses = cosine_softmax_losses(
            unit(x, self.eps), weight, scale, labels, self.eps, self.psi, inputs,
            smoothing=self.label_smoothing, shard=self.shard,
        )  # fmt: skip
        if self.training and losses.requires_grad and not is_transformed():
            losses.register_hook(self._count)
        return self.warmup.counting(losses)

    def psi(self, cosine: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        if self.margin_on == "cosine":
            return cosine - drawn, torch.ones_like(cosine)
        squared_sine = 1 - cosine.square()
        sine = squared_sine.clamp_min(LEAST_SQUARED_SINE).sqrt()
        cotangent = torch.where(squared_sine > LEAST_SQUARED_SINE, cosine / sine, 0.0)
        return angle_plus(cosine, drawn), drawn.cos() + cotangent * drawn.sin()

    def _count(self, gradient: Tensor) -> None:
        self.step = self.step + 1

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * cosines(x, weight, self.eps)

    def extra_repr(self) -> str:
        words = f"margin {self.margin} +- {self.std} on the {self.margin_on}"
        return f"{super().extra_repr()}, scale {self.scale.item():.4g}, {words}"
