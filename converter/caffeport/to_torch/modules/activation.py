"""Elementwise functions that torch has no module for. Formulas stand in caffeport.operators.activation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AbsVal(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


class Constant(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.value)


class Power(nn.Module):
    def __init__(self, power: float, scale: float, shift: float) -> None:
        super().__init__()
        self.power, self.scale, self.shift = power, scale, shift

    def forward(self, x: Tensor) -> Tensor:
        if self.scale != 1:
            x = x * self.scale
        if self.shift != 0:
            x = x + self.shift
        return x if self.power == 1 else x**self.power

    def extra_repr(self) -> str:
        return f"power={self.power}, scale={self.scale}, shift={self.shift}"


class Exp(nn.Module):
    def __init__(self, inner: float, outer: float) -> None:
        super().__init__()
        self.inner, self.outer = inner, outer

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(x * self.inner) * self.outer


class Log(nn.Module):
    def __init__(self, scale: float, shift: float, factor: float) -> None:
        super().__init__()
        self.scale, self.shift, self.factor = scale, shift, factor

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x * self.scale + self.shift) * self.factor


class Threshold(nn.Module):
    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        return (x > self.threshold).to(x.dtype)


class Clip(nn.Module):
    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)


class Swish(nn.Module):
    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.beta * x)


class UnscaledDropout(nn.Module):
    """x * mask while training, x * (1 - ratio) otherwise: both have the same mean."""

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.ratio, self.training) * (1 - self.ratio)

    def extra_repr(self) -> str:
        return f"ratio={self.ratio}"
