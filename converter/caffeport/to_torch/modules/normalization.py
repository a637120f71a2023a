"""Statistics, scales and shifts."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .gradients import straight_through


class BatchNorm(nn.Module):
    """Keep Caffe's own blobs: sums of mean and variance, and the factor they are divided by.

    Uses the batch's statistics while training unless ``use_global_stats`` says otherwise; they are
    added to the blobs only while training.
    """

    mean: Tensor
    variance: Tensor
    scale_factor: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, eps: float, fraction: float, use_global_stats: bool | None, affine: bool) -> None:
        super().__init__()
        self.eps, self.fraction, self.use_global_stats, self.affine = eps, fraction, use_global_stats, affine

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BatchNorm:
        """Keep the statistics in float32 where the model goes to half precision: as sums they may be beyond it."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and new.dtype in (torch.float16, torch.bfloat16):
                self._buffers[name] = old.to(new.device)
        return self

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape
        if x.dim() < 2:
            x = x[:, None]
        weight, bias = (self.weight, self.bias) if self.affine else (None, None)
        use_global = not self.training if self.use_global_stats is None else self.use_global_stats
        if use_global:
            factor = self.scale_factor
            divisor = torch.where(factor == 0, torch.zeros_like(factor), 1 / factor)
            mean, variance = self.mean * divisor, self.variance * divisor
            return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, self.eps).reshape(shape)
        if self.training:
            self._update(x.detach())
        axes = [axis for axis in range(x.dim()) if axis != 1]
        # One number a channel, or no eps: torch refuses what Caffe computes.
        if x.numel() == x.shape[1] or self.eps == 0:
            centered = x - x.mean(axes, keepdim=True)
            y = centered / (centered.square().mean(axes, keepdim=True) + self.eps).sqrt()
            if weight is not None and bias is not None:
                y = y * weight.reshape(-1, *[1] * (x.dim() - 2)) + bias.reshape(-1, *[1] * (x.dim() - 2))
            return y.reshape(shape)
        return F.batch_norm(x, None, None, weight, bias, True, 0.0, self.eps).reshape(shape)

    @torch.no_grad()
    def _update(self, x: Tensor) -> None:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        count = x.numel() // x.shape[1]
        correction = count / (count - 1) if count > 1 else 1.0
        self.scale_factor.mul_(self.fraction).add_(1)
        self.mean.mul_(self.fraction).add_(x.mean(axes))
        self.variance.mul_(self.fraction).add_(x.var(axes, unbiased=False), alpha=correction)

    def extra_repr(self) -> str:
        return f"eps={self.eps}"


class Scale(nn.Module):
    """``spread`` is the operand's shape as it broadcasts; ``bounds`` clamp the blob without masking gradients."""

    weight: Tensor
    bias: Tensor

    def __init__(
        self, spread: tuple[int, ...], bias_term: bool, bounds: tuple[float | None, float | None] | None
    ) -> None:
        super().__init__()
        self.spread, self.bias_term, self.bounds = spread, bias_term, bounds

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        if scale is None:
            scale = self.weight
            if self.bounds is not None:
                scale = straight_through(scale, scale.clamp(*self.bounds))
            scale = scale.reshape(self.spread)
        else:
            scale = scale.reshape((*scale.shape, *[1] * (len(self.spread) - scale.dim())))
        y = x * scale
        return y + self.bias.reshape(self.spread) if self.bias_term else y

    @torch.no_grad()
    def overwrite_blobs(self) -> None:
        """Do what the fork's layer does at every training pass: the blob is kept within its bounds."""
        if self.bounds is not None and "weight" in self._parameters:
            self.weight.clamp_(*self.bounds)


class Bias(nn.Module):
    bias: Tensor

    def __init__(self, spread: tuple[int, ...]) -> None:
        super().__init__()
        self.spread = spread

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        if bias is None:
            return x + self.bias.reshape(self.spread)
        return x + bias.reshape((*bias.shape, *[1] * (len(self.spread) - bias.dim())))


class LRNAcrossChannels(nn.Module):
    """LRN for windows wider than the channels, which torch's LocalResponseNorm would pad for, and for a large beta,
    with which its divisor overflows where Caffe multiplies by a power that is 0."""

    def __init__(self, size: int, alpha: float, beta: float, k: float) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        from ...operators.normalization import LARGE_BETA, within

        size, alpha = within(self.size, self.alpha, x.shape[1:2])
        if self.beta > LARGE_BETA:
            squares = F.pad(x.square().flatten(2)[:, None], (0, 0, size // 2, (size - 1) // 2))
            mean = F.avg_pool2d(squares, (size, 1), 1)[:, 0].reshape(x.shape)
            return x * (self.k + alpha * mean) ** -self.beta
        return F.local_response_norm(x, size, alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class LRNWithinChannel(nn.Module):
    def __init__(self, size: int, alpha: float, beta: float) -> None:
        super().__init__()
        self.size, self.alpha, self.beta = size, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        from ...operators.normalization import within

        size, alpha = within(self.size, self.alpha, x.shape[2:])
        mean = F.avg_pool2d(x * x, size, 1, (size - 1) // 2)
        return x * (1 + alpha * mean) ** -self.beta

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}"


class MVN(nn.Module):
    """``exact``: the derivative of what is computed. Caffe's backward pass leaves eps out of it: the root's derivative
    is c / (n (root + eps)) for a centred c, where it is c / (n root), which has no value for a variance of 0."""

    def __init__(self, axes: list[int], normalize_variance: bool, eps: float, exact: bool = False) -> None:
        super().__init__()
        self.axes, self.normalize_variance, self.eps, self.exact = axes, normalize_variance, eps, exact

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(*x.shape, *[1] * (4 - x.dim()))
        x = x - x.mean(self.axes, keepdim=True)
        if not self.normalize_variance:
            return x
        variance = (x * x).mean(self.axes, keepdim=True)
        if self.exact:
            return x / (variance.sqrt() + self.eps)
        deviation = variance.detach().sqrt() + self.eps
        half = torch.where(deviation != 0, 0.5 / deviation, 0.0)
        slope = torch.where(variance < torch.inf, variance - variance.detach(), 0.0)  # it is 0 but for its gradient
        return x / (deviation + slope * half)
