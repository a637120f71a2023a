"""Sub-center ArcFace: several centers a class, of which the nearest counts: noisy images find one of their own."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..heads import UNIT_EPS, cosines, unit, unit_ball_
from .additive_margin import checked_margin
from .angles import angle_plus, cos_of, sin_of
from .annealing import MarginWarmup
from .base import FaceLoss, SoftmaxOptions
from .checks import checked_size
from .row_formulas import SoftmaxOf
from .rows import row_losses
from .scale import register_scale

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SubCenterArcFaceLoss(FaceLoss):
    """ArcFace on cos_j = max_k cos(x, W_jk) over K sub-centers a class: Deng et al. 2020.

    The label's score is s cos(theta + m), for theta > pi - m s (cos(theta) - m sin(m)), as ArcFaceLoss has it.
    ``weight`` (C, D) is each class's first sub-center, ``more`` (K - 1, C, D) the others; all start alike, at random.
    The defaults are the paper's: s 64, m 0.5, K 3. margin_warmup: steps over which m comes from 0 (MarginWarmup). eps:
    under the root of every length.
    """

    options = SoftmaxOptions
    scale: Tensor  # 0-D

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 64.0, margin: float = 0.5, *,
        sub_centers: int = 3, margin_warmup: int = 0, eps: float = UNIT_EPS,
        **options: Unpack[SoftmaxOptions],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, **options)
        register_scale(self, "scale", scale, scale)
        self.margin, self.eps = checked_margin(self, margin, math.pi), eps
        self.warmup = MarginWarmup(margin_warmup, self.weight.device)
        others = checked_size("sub_centers", sub_centers) - 1
        self.more = nn.Parameter(self.weight.new_empty(others, *self.weight.shape))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all sub-centers anew."""
        super().reset_parameters()
        for center in getattr(self, "more", ()):
            self.start_(center)

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        formula = SoftmaxOf(partial(self.of_cosines, margin=self.warmup.of(self.margin)), self.label_smoothing)
        inputs = (self.scale.to(x.dtype).expand(len(x)),)
        more = self.more if self.shard is not None else self.more.to(x.dtype)
        losses = row_losses(
            unit(x, self.eps), weight, labels, formula, inputs,
            eps=self.eps, more=more if len(more) else None, shard=self.shard,
        )  # fmt: skip
        return self.warmup.counting(losses)

    def of_cosines(self, cosine: Tensor, labels: Tensor, scale: Tensor, margin: float | Tensor) -> Tensor:
        """Return what the softmax gets, (N, C), of the nearest centers' cosines (N, C); scale: (N,)."""
        column = labels[:, None]
        own = cosine.gather(1, column)
        inside, other = own > -cos_of(margin), own - margin * sin_of(margin)
        target = torch.where(inside, angle_plus(own, margin), other)
        return scale[:, None] * cosine.scatter(1, column, target)

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * self._nearest(x, weight)

    def _nearest(self, x: Tensor, weight: Tensor) -> Tensor:
        """The cosine to each class's nearest sub-center, (N, C)."""
        centers = torch.cat([weight[None], self.more.to(weight.dtype)]).flatten(0, 1)
        return cosines(x, centers, self.eps).unflatten(1, (-1, len(weight))).amax(1)

    def extra_repr(self) -> str:
        words = f"margin {self.margin}, {1 + len(self.more)} sub-centers"
        return f"{super().extra_repr()}, scale {self.scale.item():.4g}, {words}"
