"""Softmax losses on scaled cosines with a margin that is added: to the cosine (AM-Softmax) or the angle (ArcFace)."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch
from caffeport.to_torch.modules.margins import added_angle
from torch import Tensor

from ..errors import TrainingError
from ..heads import UNIT_EPS, cosines, unit, unit_ball_
from .angles import LEAST_SQUARED_SINE, cos_of, sin_of
from .annealing import MarginWarmup
from .base import FaceLoss, SoftmaxOptions
from .cosine_softmax import cosine_softmax_losses
from .scale import register_scale

if TYPE_CHECKING:
    from typing_extensions import Unpack


class AMSoftmaxLoss(FaceLoss):
    """Softmax loss on s cos(x, W_j), the label's cosine less ``margin``: AM-Softmax (Wang et al. 2018).

    above_margin_only: leave a label's cosine alone unless it is above the margin, as the fork's LabelSpecificAdd
    does (its bias is -margin). The margin is there in evaluation mode too. margin_warmup: steps over which it comes
    from 0 (MarginWarmup). eps: under the root of every length.
    """

    options = SoftmaxOptions
    scale: Tensor  # 0-D

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 30.0, margin: float = 0.35, *,
        above_margin_only: bool = False, margin_warmup: int = 0, eps: float = UNIT_EPS,
        **options: Unpack[SoftmaxOptions],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, **options)
        register_scale(self, "scale", scale, scale)
        self.margin = checked_margin(self, margin, 2.0)
        self.above_margin_only, self.eps = above_margin_only, eps
        self.warmup = MarginWarmup(margin_warmup, self.weight.device)

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        x, scale = unit(x, self.eps), self.scale.to(x.dtype)
        psi = partial(self.psi, margin=self.warmup.of(self.margin))
        losses = cosine_softmax_losses(
            x, weight, scale, labels, self.eps, psi, smoothing=self.label_smoothing, shard=self.shard
        )
        return self.warmup.counting(losses)

    def psi(self, cosine: Tensor, margin: float | Tensor) -> tuple[Tensor, Tensor]:
        lower = cosine - margin
        if self.above_margin_only:
            lower = torch.where(cosine > margin, lower, cosine)
        return lower, torch.ones_like(cosine)

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * cosines(x, weight, self.eps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale {self.scale.item():.4g}, margin {self.margin}"


class ArcFaceLoss(FaceLoss):
    """Softmax loss on s cos(x, W_j), the label's being s cos(theta + m): ArcFace (Deng et al. 2019), equation 3.

    margin: m in radians. beyond: what takes the place of cos(theta + m) where it would rise again with theta:
        "linear": cos(theta) - m sin(m) for theta > pi - m, as published (``easy_margin`` off);
        "easy": cos(theta) for theta >= pi / 2, as published with ``easy_margin``;
        "nothing": cos(theta + m) all the way.
    Where sin(theta)^2 is below LEAST_SQUARED_SINE, it counts as that, and the slope is cos(m). The margin is there in
    evaluation mode too. margin_warmup: steps over which it comes from 0 (MarginWarmup). eps: under the root of every
    length.
    """

    options = SoftmaxOptions
    scale: Tensor  # 0-D

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 64.0, margin: float = 0.5, *,
        beyond: str = "linear", margin_warmup: int = 0, eps: float = UNIT_EPS, **options: Unpack[SoftmaxOptions],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, **options)
        register_scale(self, "scale", scale, scale)
        self.margin = checked_margin(self, margin, math.pi)
        if beyond not in ("linear", "easy", "nothing"):
            raise TrainingError(f'ArcFaceLoss: expected beyond "linear", "easy" or "nothing", got {beyond!r}')
        self.beyond, self.eps = beyond, eps
        self.warmup = MarginWarmup(margin_warmup, self.weight.device)

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        x, scale = unit(x, self.eps), self.scale.to(x.dtype)
        psi = partial(self.psi, margin=self.warmup.of(self.margin))
        losses = cosine_softmax_losses(
            x, weight, scale, labels, self.eps, psi, smoothing=self.label_smoothing, shard=self.shard
        )
        return self.warmup.counting(losses)

    def psi(self, cosine: Tensor, margin: float | Tensor) -> tuple[Tensor, Tensor]:
        cos_m, sin_m = cos_of(margin), sin_of(margin)
        squared_sine = 1 - cosine.square()
        sine = squared_sine.clamp_min(LEAST_SQUARED_SINE).sqrt()
        cotangent = torch.where(squared_sine > LEAST_SQUARED_SINE, cosine / sine, 0.0)
        target, slope = added_angle(cosine, sine, cotangent, cos_m, sin_m)
        if self.beyond == "nothing":
            return target, slope
        if self.beyond == "linear":
            inside, other = cosine > -cos_m, cosine - margin * sin_m
        else:
            inside, other = cosine > 0, cosine
        return torch.where(inside, target, other), torch.where(inside, slope, 1.0)

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * cosines(x, weight, self.eps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale {self.scale.item():.4g}, margin {self.margin}"


def checked_margin(loss: FaceLoss, margin: float, most: float) -> float:
    if not 0 <= margin <= most:
        raise TrainingError(f"{type(loss).__name__}: expected a margin from 0 to {most:.4g}, got {margin}")
    return float(margin)
