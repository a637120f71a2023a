"""Pooling over one to three axes, for windows that torch's own have not (see caffeport.operators.volumes)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from ...operators.volumes import VolumeWindow

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class VolumePooling(nn.Module):
    def __init__(self, window: VolumeWindow, is_max: bool) -> None:
        super().__init__()
        self.window, self.is_max = window, is_max

    def forward(self, x: Tensor) -> Tensor:
        window, size = self.window, tuple(x.shape[2:])
        sides = [edge for pair in zip(window.pad, window.far(size), strict=True) for edge in reversed(pair)]
        # F.pad lists the last axis first, its near side before its far one.
        padded = F.pad(x, sides[::-1], value=torch.finfo(x.dtype).min if self.is_max else 0.0)
        if self.is_max:
            return _MAX[len(size)](padded, window.kernel, window.stride)
        mean = _AVERAGE[len(size)](padded, window.kernel, window.stride)
        area = torch.as_tensor(window.divisors(size), dtype=x.dtype, device=x.device)
        whole = 1
        for kernel in window.kernel:
            whole *= kernel
        return mean * (whole / area)

    def extra_repr(self) -> str:
        return f"{'MAX' if self.is_max else 'AVE'}, {self.window}"
