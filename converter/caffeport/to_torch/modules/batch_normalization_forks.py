"""The forks' ``BN`` (see caffeport.operators.batch_normalization_forks). Blobs keep the file's shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance over all axes but 1, kept as ones."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    mean = x.mean(axes, keepdim=True)
    return mean, (x - mean).square().mean(axes, keepdim=True)


def _spread(blob: Tensor, x: Tensor) -> Tensor:
    return blob.reshape(-1, *[1] * (x.dim() - 2))


class SegNetBN(nn.Module):
    """The layer computes x * weight + bias alone where ``eps`` is None; else it normalises by the batch first, training
    or not."""

    weight: Tensor
    bias: Tensor

    def __init__(self, eps: float | None, num_tops: int) -> None:
        super().__init__()
        self.eps, self.num_tops = eps, num_tops

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        weight, bias = _spread(self.weight, x), _spread(self.bias, x)
        if self.eps is None:
            return x * weight + bias
        mean, variance = _statistics(x)
        y = (x - mean) / (variance + self.eps).sqrt() * weight + bias
        return y if self.num_tops == 1 else [y, mean, variance][: self.num_tops]

    def extra_repr(self) -> str:
        return f"eps={self.eps}"


class MovingBN(nn.Module):
    """The last blob is ``inverse_std`` with ``inverse``, not ``variance``; without ``uses_blobs`` the batch decides
    always."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor
    inverse_std: Tensor

    def __init__(self, inverse: bool, eps: float, momentum: float, frozen: bool, uses_blobs: bool) -> None:
        super().__init__()
        self.inverse, self.eps, self.momentum = inverse, eps, momentum
        self.frozen, self.uses_blobs = frozen, uses_blobs

    def forward(self, x: Tensor) -> Tensor:
        training = self.training and not self.frozen
        if self.uses_blobs and not training:
            mean = _spread(self.mean, x)
            inverse_std = self.inverse_std if self.inverse else (self.variance + self.eps).rsqrt()
            inverse_std = _spread(inverse_std, x)
        else:
            mean, variance = _statistics(x)
            inverse_std = (variance + self.eps).rsqrt()
            if training:
                self._update(mean, inverse_std if self.inverse else variance)
        return (x - mean) * inverse_std * _spread(self.weight, x) + _spread(self.bias, x)

    @torch.no_grad()
    def _update(self, mean: Tensor, last: Tensor) -> None:
        for blob, new in ((self.mean, mean), (self.inverse_std if self.inverse else self.variance, last)):
            blob.lerp_(new.reshape(blob.shape), 1 - self.momentum)

    def extra_repr(self) -> str:
        return f"{'inverse_std' if self.inverse else 'variance'}, eps={self.eps}, momentum={self.momentum}"
