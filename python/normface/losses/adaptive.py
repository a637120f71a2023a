"""Losses whose margin goes by the length of the feature, which tells the image's quality: AdaFace and MagFace."""

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
from .multiplied_angle import row_lengths
from .row_formulas import SoftmaxOf
from .rows import row_losses
from .running import Running, deviation_of, mean_of
from .scale import register_scale

if TYPE_CHECKING:
    from typing_extensions import Unpack

ADA_EPS = 1e-3
"""Of the published AdaFace: beside the standard deviation, and how near a cosine may come to 1 and an angle to 0."""
SHORTEST, LONGEST = 0.001, 100.0
"""Lengths beyond these count as these, in AdaFace."""


class AdaFaceLoss(FaceLoss):
    """Softmax loss on s cos(x, W_j), the label's being s (cos(theta + g_a) - g_b): AdaFace (Kim et al. 2022).

    g_a = -m z, g_b = m z + m, z = clip(h (|x| - mean) / std, -1, 1): long features get a margin taken off the cosine,
    short ones one that is taken off the angle. mean and std are of the features' lengths (0.001 to 100), running:
    r = momentum batch + (1 - momentum) r, this batch's taken in already (the std of one sample is 0), from 20 and 100;
    ``running.mean`` and ``running.std`` keep them, moved by the backward passes of training mode alone. z has no
    gradient. As published, 0.001 stands beside the std, cosines are cut to within 0.001 of 1, and angles of 0 and
    pi. The defaults are the paper's. margin_warmup: steps over which m comes from 0 (MarginWarmup). eps: under the
    root of every length.
    """

    options = SoftmaxOptions
    scale: Tensor  # 0-D

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 64.0, margin: float = 0.4, *,
        h: float = 0.333, momentum: float = 0.01, margin_warmup: int = 0, eps: float = UNIT_EPS,
        **options: Unpack[SoftmaxOptions],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, **options)
        register_scale(self, "scale", scale, scale)
        self.margin, self.h, self.eps = checked_margin(self, margin, 1.0), float(h), eps
        if not 0 <= momentum <= 1:
            raise TrainingError(f"AdaFaceLoss: expected a momentum from 0 to 1, got {momentum}")
        self.running = Running({"mean": 20.0, "std": 100.0}, momentum, self.weight)
        self.warmup = MarginWarmup(margin_warmup, self.weight.device)

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        length = row_lengths(x.detach())[:, 0].clamp(SHORTEST, LONGEST)
        now = self.running.state(x.dtype)
        if self.training:
            now = self.running.with_batch({"mean": mean_of(length, shares), "std": deviation_of(length, shares)})
        z = (self.h * (length - now["mean"]) / (now["std"] + ADA_EPS)).clamp(-1, 1)
        formula = SoftmaxOf(partial(self.of_cosines, margin=self.warmup.of(self.margin)), self.label_smoothing)
        inputs = (self.scale.to(x.dtype).expand(len(x)), z)
        losses = row_losses(unit(x, self.eps), weight, labels, formula, inputs, eps=self.eps, shard=self.shard)
        return self.warmup.counting(self.running.moving(losses, now))

    def of_cosines(
        self, cosine: Tensor, labels: Tensor, scale: Tensor, z: Tensor, margin: float | Tensor
    ) -> Tensor:  # fmt: skip
        """Return what the softmax gets, (N, C), of the cosines (N, C); scale and z: (N,)."""
        cosine, column, z = cosine.clamp(-1 + ADA_EPS, 1 - ADA_EPS), labels[:, None], z[:, None]
        angle = (cosine.gather(1, column).acos() - margin * z).clamp(ADA_EPS, math.pi - ADA_EPS)
        scores = cosine.scatter(1, column, angle.cos() - margin * (z + 1))
        return scale[:, None] * scores

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * cosines(x, weight, self.eps)

    def extra_repr(self) -> str:
        options = f"margin {self.margin}, h {self.h:g}, {self.running.extra_repr()}"
        return f"{super().extra_repr()}, scale {self.scale.item():.4g}, {options}"


class MagFaceLoss(FaceLoss):
    """Softmax loss on s cos(x, W_j), the label's being s cos(theta + m(a)), plus lambda_g g(a): MagFace (Meng 2021).

    a = |x|, cut to [shortest, longest]; m(a) rises in a straight line from least_margin at ``shortest`` to most_margin
    at ``longest``; g(a) = 1/a + a / longest^2, the mean over the samples, which pulls good images to long features.
    Both have gradients in a, none where a is cut. easy: cos(theta) where theta >= pi / 2, as published; else
    cos(theta) - m(a) sin m(a) for theta > pi - m(a). The defaults are those of the authors' training scripts
    (run/run.sh of IrvingMeng/MagFace, an iResNet-50 on MS1M): features between 10 and 110 long, margins 0.45 to 0.8,
    lambda_g 35, scale 64; where the lengths are others, so may lambda_g be. margin_warmup: steps over which m(a) comes
    from 0 (MarginWarmup). eps: under the root of every length.
    """

    options = SoftmaxOptions
    scale: Tensor  # 0-D

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 64.0, *,
        least_margin: float = 0.45, most_margin: float = 0.8, shortest: float = 10.0, longest: float = 110.0,
        lambda_g: float = 35.0, easy: bool = True, margin_warmup: int = 0, eps: float = UNIT_EPS,
        **options: Unpack[SoftmaxOptions],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, **options)
        register_scale(self, "scale", scale, scale)
        self.least_margin = checked_margin(self, least_margin, math.pi)
        self.most_margin = checked_margin(self, most_margin, math.pi)
        if not (0 < shortest < longest and lambda_g >= 0):
            raise TrainingError(
                f"MagFaceLoss: expected 0 < shortest < longest and a lambda_g of 0 or more, "
                f"got {shortest}, {longest} and {lambda_g}"
            )
        self.shortest, self.longest = float(shortest), float(longest)
        self.lambda_g, self.easy, self.eps = float(lambda_g), easy, eps
        self.warmup = MarginWarmup(margin_warmup, self.weight.device)

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        length = row_lengths(x)[:, 0].clamp(self.shortest, self.longest)
        rise = (self.most_margin - self.least_margin) / (self.longest - self.shortest)
        margin = (self.least_margin + rise * (length - self.shortest)) * self.warmup.of(1.0)
        inputs = (self.scale.to(x.dtype).expand(len(x)), margin)
        formula = SoftmaxOf(self.of_cosines, self.label_smoothing)
        losses = row_losses(unit(x, self.eps), weight, labels, formula, inputs, eps=self.eps, shard=self.shard)
        pull = 1 / length + length / self.longest**2
        return self.warmup.counting(losses + self.lambda_g * pull)

    def of_cosines(self, cosine: Tensor, labels: Tensor, scale: Tensor, margin: Tensor) -> Tensor:
        """Return what the softmax gets, (N, C), of the cosines (N, C); scale and margin: (N,)."""
        column, margin = labels[:, None], margin[:, None]
        own = cosine.gather(1, column)
        target = angle_plus(own, margin)
        inside, other = (own > 0, own) if self.easy else (own > -margin.cos(), own - margin * margin.sin())
        return scale[:, None] * cosine.scatter(1, column, torch.where(inside, target, other))

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * cosines(x, weight, self.eps)

    def extra_repr(self) -> str:
        margins = f"margins {self.least_margin} to {self.most_margin}"
        return f"{super().extra_repr()}, scale {self.scale.item():.4g}, {margins}"
