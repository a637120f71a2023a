"""Height and width changed (see caffeport.operators.resampling)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from ...operators.resampling import InterpSize, UpsampleSize


class Interp(nn.Module):
    """Resample to a size of its own, or to that of the second argument."""

    def __init__(self, size: InterpSize) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor, like: Tensor | None = None) -> Tensor:
        height, width = x.shape[2], x.shape[3]
        size = self.size.of((height, width)) if like is None else like.shape[2:]
        start, end = self.size.crop
        x = x[:, :, -start : height + end, -start : width + end]
        return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)

    def extra_repr(self) -> str:
        return str(self.size)


class MaskUpsample(nn.Module):
    """SegNet's: numbers go where the mask says; of two for one place, the later stays."""

    def __init__(self, size: UpsampleSize) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        size = self.size.of((x.shape[2], x.shape[3]))
        zeros = x.new_zeros(*x.shape[:2], math.prod(size))
        return zeros.scatter(2, mask.detach().long().flatten(2), x.flatten(2)).unflatten(2, size)

    def extra_repr(self) -> str:
        return str(self.size)


class NearestUpsample(nn.Module):
    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)

    def extra_repr(self) -> str:
        return str(self.scale)
