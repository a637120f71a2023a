"""Modules whose source goes into the written file as it stands here.

Each is short and needs nothing but torch; lines are of at most 88 characters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Scale(nn.Module):
    """x times a learned factor, and plus a shift where ``bias``, both of a shape."""

    bias: Tensor | None

    def __init__(self, shape: tuple[int, ...], bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        shift = nn.Parameter(torch.zeros(shape)) if bias else None
        self.register_parameter("bias", shift)

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.weight
        return x if self.bias is None else x + self.bias


class Bias(nn.Module):
    """x plus a learned shift of a shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class Normalize(nn.Module):
    """Unit length over the channels, or over the whole image, times a learned factor.

    ``eps`` is added to the squared length; ``channels`` is 1 where one factor is all's.
    """

    def __init__(self, channels: int, eps: float, across_spatial: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.eps, self.across_spatial = eps, across_spatial

    def forward(self, x: Tensor) -> Tensor:
        axes = tuple(range(1, x.dim())) if self.across_spatial else (1,)
        length = (x.square().sum(axes, keepdim=True) + self.eps).sqrt()
        return x / length * self.weight.reshape(-1, *[1] * (x.dim() - 2))


class LearnedInput(nn.Module):
    """A learned tensor that depends on no input."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self) -> Tensor:
        return self.weight * 1


class LSTM(nn.Module):
    """An LSTM over x (T, N, I); where ``cont`` (T, N) is 0 a new sequence begins.

    The gates are input, forget, output and candidate, in this order.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_x = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_h = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))

    def forward(self, x: Tensor, cont: Tensor) -> Tensor:
        inputs = F.linear(x.flatten(2), self.weight_x, self.bias)
        hidden = cell = x.new_zeros(x.shape[1], self.weight_h.shape[1])
        outputs = []
        for step, keep in zip(inputs, cont[:, :, None], strict=True):
            gates = step + F.linear(keep * hidden, self.weight_h)
            i, f, o, g = gates.chunk(4, 1)
            cell = keep * f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * cell.tanh()
            outputs.append(hidden)
        return torch.stack(outputs)


class RNN(nn.Module):
    """A recurrent net over x (T, N, I); where ``cont`` (T, N) is 0 one begins."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_x = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_h = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.weight_o = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(hidden_size))
        self.bias_o = nn.Parameter(torch.empty(hidden_size))

    def forward(self, x: Tensor, cont: Tensor) -> Tensor:
        inputs = F.linear(x.flatten(2), self.weight_x, self.bias)
        hidden = x.new_zeros(x.shape[1], self.weight_h.shape[1])
        outputs = []
        for step, keep in zip(inputs, cont[:, :, None], strict=True):
            hidden = torch.tanh(step + F.linear(keep * hidden, self.weight_h))
            outputs.append(F.linear(hidden, self.weight_o, self.bias_o).tanh())
        return torch.stack(outputs)


class LRNWithinChannel(nn.Module):
    """x / (1 + alpha / n^2 * sum of x^2)^beta over n x n pixels, zeros outside."""

    def __init__(self, size: int, alpha: float, beta: float) -> None:
        super().__init__()
        self.size, self.alpha, self.beta = size, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        mean = F.avg_pool2d(x.square(), self.size, 1, self.size // 2)
        return x * (1 + self.alpha * mean) ** -self.beta
