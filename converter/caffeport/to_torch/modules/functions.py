"""Elementwise functions that torch has no module for (see caffeport.operators.functions)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Elementwise(nn.Module):
    """Apply torch's function of that name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = getattr(torch, self.name)(x)
        return y

    def extra_repr(self) -> str:
        return self.name


class ScaledELU(nn.Module):
    def __init__(self, scale: float, alpha: float) -> None:
        super().__init__()
        self.scale, self.alpha = scale, alpha

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"{self.scale}, {self.alpha}"


class HardSigmoid(nn.Module):
    def __init__(self, alpha: float, beta: float) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.alpha + self.beta).clamp(0, 1)

    def extra_repr(self) -> str:
        return f"{self.alpha}, {self.beta}"


class ThresholdedReLU(nn.Module):
    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return F.threshold(x, self.alpha, 0.0)

    def extra_repr(self) -> str:
        return str(self.alpha)


class ScaledTanH(nn.Module):
    def __init__(self, alpha: float, beta: float) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        return self.alpha * torch.tanh(self.beta * x)

    def extra_repr(self) -> str:
        return f"{self.alpha}, {self.beta}"


class BoundedReLU(nn.Module):
    """A ReLU, its result held between two bounds."""

    def __init__(self, slope: float, low: float | None, high: float | None) -> None:
        super().__init__()
        self.slope, self.low, self.high = slope, low, high

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(x, self.slope)
        y = y if self.high is None else y.clamp(max=self.high)
        return y if self.low is None else y.clamp(min=self.low)

    def extra_repr(self) -> str:
        return f"{self.slope}, {self.low}, {self.high}"
