"""The layers of DeconvNet (see caffeport.operators.deconvnet)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .gradients import straight_through


class Unpooling(nn.Module):
    """Spread numbers over windows, divided by ``lengths``, a window's pixels; with ``tiles`` they are repeated, not
    divided.

    Tiles keep the gradient of what is divided.
    """

    def __init__(
        self, kernel: tuple[int, int], stride: tuple[int, int], size: tuple[int, int], lengths: np.ndarray, tiles: bool
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.size, self.tiles = kernel, stride, size, tiles
        self.lengths = lengths.astype(np.float32)

    def forward(self, x: Tensor) -> Tensor:
        shared = self._spread(x / torch.as_tensor(self.lengths).to(x))
        return straight_through(shared, self._spread(x.detach())) if self.tiles else shared

    def _spread(self, x: Tensor) -> Tensor:
        ones = x.new_ones(x.shape[1], 1, *self.kernel)
        top = F.conv_transpose2d(x, ones, stride=self.stride, groups=x.shape[1])
        # Negative pads cut off what lies beyond the size.
        return F.pad(top, (0, self.size[1] - top.shape[3], 0, self.size[0] - top.shape[2]))

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}, size={self.size}"


class EltwiseAccuracy(nn.Module):
    def __init__(self, top_k: int, ignore_label: int | None, use_label: int | None) -> None:
        super().__init__()
        self.top_k, self.ignore_label, self.use_label = top_k, ignore_label, use_label

    @torch.no_grad()
    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        labels = label.long().reshape(x.shape[0], 1, *x.shape[2:])
        mask = torch.ones_like(labels, dtype=torch.bool)
        if self.ignore_label is not None:
            mask &= labels != self.ignore_label
        if self.use_label is not None:
            mask &= labels == self.use_label
        known = (labels >= 0) & (labels < x.shape[1])
        own = x.gather(1, labels.clamp(0, x.shape[1] - 1))
        classes = torch.arange(x.shape[1], device=x.device).reshape(1, -1, 1, 1)
        before = (x > own) | ((x == own) & (classes > labels))
        correct = (before.sum(1, keepdim=True) < self.top_k) & known & mask
        return (correct.sum().to(x.dtype) / mask.sum()).reshape(1, 1, 1, 1)

    def extra_repr(self) -> str:
        return f"top_k={self.top_k}, ignore_label={self.ignore_label}, use_label={self.use_label}"
