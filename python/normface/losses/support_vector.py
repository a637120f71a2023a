"""SV-X-Softmax: classes that beat the label's margin are pushed by more, the others as ever."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import TrainingError
from ..heads import UNIT_EPS, cosines, unit, unit_ball_
from .additive_margin import checked_margin
from .angles import angle_plus
from .annealing import MarginWarmup
from .base import FaceLoss, SoftmaxOptions
from .row_formulas import SoftmaxOf
from .rows import row_losses
from .scale import register_scale

if TYPE_CHECKING:
    from typing_extensions import Unpack

MARGINS_ON = ("cosine", "angle")


class SVXSoftmaxLoss(FaceLoss):
    """Softmax loss on s h_j, the label's being s f: SV-X-Softmax and MV-Softmax (Wang et al. 2018, 2019).

    f = cos(theta) - m (margin_on "cosine": SV-AM) or cos(theta + m) ("angle": SV-Arc, cos(theta) where
    theta >= pi / 2, as published); h_j = t cos_j + t - 1 where cos_j > f, a hard class, else cos_j, so that its
    probability counts exp(s (t - 1)(cos_j + 1)) times. t = 1 is AM-Softmax.

    The defaults: s 32, m 0.35 and t 1.2, which are those of the authors' code (xiaoboCASIA/SV-X-Softmax; MV-Softmax
    writes t + 1 for this t, hence its 0.2); FaceX-Zoo trains with 1.12. On an angle m is ArcFace's 0.5, theirs
    0.35 in both. Their SV-AM takes m off only where cos(theta) > 0 unless told otherwise; here it always is, as in
    the formula. margin_warmup: steps over which m comes from 0 (MarginWarmup). eps: under the root of every length.
    """

    options = SoftmaxOptions
    scale: Tensor  # 0-D

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 32.0, margin: float | None = None, *,
        margin_on: str = "cosine", t: float = 1.2, margin_warmup: int = 0, eps: float = UNIT_EPS,
        **options: Unpack[SoftmaxOptions],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, **options)
        register_scale(self, "scale", scale, scale)
        if margin_on not in MARGINS_ON:
            raise TrainingError(f"SVXSoftmaxLoss: expected margin_on {' or '.join(MARGINS_ON)}, got {margin_on!r}")
        if not 1 <= t < math.inf:
            raise TrainingError(f"SVXSoftmaxLoss: expected a t of 1 or more, got {t}")
        on_angle = margin_on == "angle"
        default = 0.5 if on_angle else 0.35
        self.margin = checked_margin(self, default if margin is None else margin, math.pi if on_angle else 2.0)
        self.margin_on, self.t, self.eps = margin_on, float(t), eps
        self.warmup = MarginWarmup(margin_warmup, self.weight.device)

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        formula = SoftmaxOf(partial(self.of_cosines, margin=self.warmup.of(self.margin)), self.label_smoothing)
        inputs = (self.scale.to(x.dtype).expand(len(x)),)
        x = unit(x, self.eps)
        losses = row_losses(x, weight, labels, formula, inputs, eps=self.eps, shard=self.shard)
        return self.warmup.counting(losses)

    def of_cosines(self, cosine: Tensor, labels: Tensor, scale: Tensor, margin: float | Tensor) -> Tensor:
        """Return what the softmax gets, (N, C), of the cosines (N, C); scale: (N,)."""
        column = labels[:, None]
        own = cosine.gather(1, column)
        on_angle = self.margin_on == "angle"
        target = torch.where(own > 0, angle_plus(own, margin), own) if on_angle else own - margin
        hard = torch.where(cosine > target, self.t * cosine + self.t - 1, cosine)
        return scale[:, None] * hard.scatter(1, column, target)

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * cosines(x, weight, self.eps)

    def extra_repr(self) -> str:
        words = f"margin {self.margin} on the {self.margin_on}, t {self.t}"
        return f"{super().extra_repr()}, scale {self.scale.item():.4g}, {words}"
