"""Sub-center ArcFace: several centers a class, of which the nearest counts: noisy images find one of their own."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..heads import UNIT_EPS, cosines, unit_ball_
from .additive_margin import checked_margin
from .angles import angle_plus
from .base import FaceLoss
from .checks import checked_size
from .scale import register_scale


class SubCenterArcFaceLoss(FaceLoss):
    """ArcFace on cos_j = max_k cos(x, W_jk) over K sub-centers a class: Deng et al. 2020.

    The label's score is s cos(theta + m), for theta > pi - m s (cos(theta) - m sin(m)), as ArcFaceLoss has it.
    ``weight`` (C, D) is each class's first sub-center, ``more`` (K - 1, C, D) the others; all start alike, at random.
    The defaults are the paper's: s 64, m 0.5, K 3. eps: under the root of every length.
    """

    scale: Tensor  # 0-D

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 64.0, margin: float = 0.5, *,
        sub_centers: int = 3, eps: float = UNIT_EPS,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, device, dtype)
        register_scale(self, "scale", scale, scale)
        self.margin, self.eps = checked_margin(self, margin, math.pi), eps
        others = checked_size("sub_centers", sub_centers) - 1
        self.more = nn.Parameter(self.weight.new_empty(others, *self.weight.shape))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all sub-centers anew."""
        super().reset_parameters()
        for center in getattr(self, "more", ()):
            self.start(center)

    def value(self, x: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        cosine, column = self._nearest(x, weight), labels[:, None]
        own = cosine.gather(1, column)
        inside, other = own > -math.cos(self.margin), own - self.margin * math.sin(self.margin)
        target = torch.where(inside, angle_plus(own, self.margin), other)
        return F.cross_entropy(self.scale.to(x.dtype) * cosine.scatter(1, column, target), labels)

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * self._nearest(x, weight)

    def _nearest(self, x: Tensor, weight: Tensor) -> Tensor:
        """The cosine to each class's nearest sub-center, (N, C)."""
        centers = torch.cat([weight[None], self.more.to(weight.dtype)]).flatten(0, 1)
        return cosines(x, centers, self.eps).unflatten(1, (-1, len(weight))).amax(1)

    def extra_repr(self) -> str:
        words = f"margin {self.margin}, {1 + len(self.more)} sub-centers"
        return f"{super().extra_repr()}, scale {self.scale.item():.4g}, {words}"
