"""Pooling with Caffe's number of positions and divisors (see caffeport.operators.pooling)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from ...operators.windows import PoolWindow


def _fitted(window: PoolWindow, x: Tensor) -> PoolWindow:
    """Return the window for this size."""
    size = (x.shape[2], x.shape[3])
    window = window.at(size)
    return window.fitted(size) if window.is_huge else window


def _padded(x: Tensor, window: PoolWindow, value: float) -> Tensor:
    """Pad so that pooling with rounding down has Caffe's positions."""
    (top, left), (bottom, right) = window.pad, window.far
    return F.pad(x, (left, right, top, bottom), value=value)


class MaxPooling(nn.Module):
    """Max pooling for windows that torch's MaxPool2d has not or would pad beyond memory for, and for the mask."""

    def __init__(self, window: PoolWindow, with_mask: bool) -> None:
        super().__init__()
        self.window, self.with_mask = window, with_mask

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        window = _fitted(self.window, x)
        if window.torch_agrees:
            if not self.with_mask:
                return F.max_pool2d(x, window.kernel, window.stride, window.pad, ceil_mode=window.ceil)
            top, place = F.max_pool2d(
                x, window.kernel, window.stride, window.pad, ceil_mode=window.ceil, return_indices=True
            )
            return [top, place.to(x.dtype)]
        padded = _padded(x, window, torch.finfo(x.dtype).min)
        if not self.with_mask:
            return F.max_pool2d(padded, window.kernel, window.stride)
        top, place = F.max_pool2d(padded, window.kernel, window.stride, return_indices=True)
        width = padded.shape[3]
        row, column = place // width - window.pad[0], place % width - window.pad[1]
        index = torch.where(top == torch.finfo(x.dtype).min, -1, row * x.shape[3] + column)
        return [top, index.to(x.dtype)]  # -1: a window without a pixel

    def extra_repr(self) -> str:
        return str(self.window)


class AvePooling(nn.Module):
    """Average pooling for windows that torch's AvgPool2d has not or would pad beyond memory for."""

    def __init__(self, window: PoolWindow) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        window = _fitted(self.window, x)
        if window.torch_agrees:
            return F.avg_pool2d(x, window.kernel, window.stride, window.pad, window.ceil, not window.inside)
        total = F.avg_pool2d(_padded(x, window, 0.0), window.kernel, window.stride, divisor_override=1)
        rows, columns = window.divisors((x.shape[2], x.shape[3]))
        area = torch.as_tensor(rows, dtype=x.dtype, device=x.device)[:, None] * torch.as_tensor(
            columns, dtype=x.dtype, device=x.device
        )
        return total / area

    def extra_repr(self) -> str:
        return str(self.window)


class StochasticPooling(nn.Module):
    """One number of each window, drawn in proportion to its size; their average by size when not training."""

    def __init__(self, window: PoolWindow) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        window = _fitted(self.window, x)
        x = _padded(x, window, 0.0)
        if not self.training:
            total = F.avg_pool2d(x, window.kernel, window.stride, divisor_override=1)
            squares = F.avg_pool2d(x * x, window.kernel, window.stride, divisor_override=1)
            return squares / total.clamp_min(torch.finfo(x.dtype).tiny)
        height, width = ((x.shape[i + 2] - window.kernel[i]) // window.stride[i] + 1 for i in (0, 1))
        columns = F.unfold(x, window.kernel, stride=window.stride)
        columns = columns.reshape(*x.shape[:2], math.prod(window.kernel), -1).transpose(2, 3)
        weights = columns.detach().clamp_min(0) + torch.finfo(x.dtype).tiny
        drawn = torch.multinomial(weights.reshape(-1, weights.shape[-1]), 1).reshape(*columns.shape[:-1], 1)
        return columns.gather(3, drawn).reshape(*x.shape[:2], height, width)


class SPP(nn.Module):
    """Windows follow the size of x, so that any size gives as many numbers."""

    def __init__(self, height: int, method: str) -> None:
        super().__init__()
        self.height, self.method = height, method

    def forward(self, x: Tensor) -> Tensor:
        from ...operators.windows import PoolWindow

        parts = []
        for level in range(self.height):
            bins = 2**level
            kernel = (-(-x.shape[2] // bins), -(-x.shape[3] // bins))
            pad = ((kernel[0] * bins - x.shape[2] + 1) // 2, (kernel[1] * bins - x.shape[3] + 1) // 2)
            window = PoolWindow(kernel, kernel, pad)
            pool = MaxPooling(window, False) if self.method == "MAX" else AvePooling(window)
            parts.append(pool(x))
        return torch.cat([part.flatten(1) for part in parts], 1) if len(parts) > 1 else parts[0]
