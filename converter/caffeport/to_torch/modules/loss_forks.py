"""Losses of forks (see caffeport.operators.loss_forks)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class L1Loss(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y.reshape(x.shape)).abs().sum() / x.shape[0]


class FlowL1Loss(nn.Module):
    """FlowNet's: NaNs are no difference, nor is what lies below the plateau."""

    def __init__(self, per_location: bool, scale: float, by_entries: bool, epsilon: float, plateau: float) -> None:
        super().__init__()
        self.per_location, self.scale, self.by_entries = per_location, scale, by_entries
        self.epsilon, self.plateau = epsilon, plateau

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        difference = x if y is None else x - y.reshape(x.shape)
        mask = ~difference.isnan()
        divisor = mask.sum() / x.shape[1] if self.by_entries else x.shape[0]
        difference = torch.where(mask, difference, 0.0)
        if self.per_location:
            squares = difference.square().sum(1) * self.scale
            if self.plateau > 0:
                squares = torch.where(squares < self.plateau**2, 0.0, squares)
            return (squares + self.epsilon).sqrt().sum() / divisor
        if self.plateau > 0:
            difference = torch.where(difference.abs() < self.plateau, 0.0, difference)
        return difference.abs().sum() / divisor

    def extra_repr(self) -> str:
        return f"l2_per_location={self.per_location}, plateau={self.plateau}"


class CtcLoss(nn.Module):
    """``labels`` (N, L) may have blanks anywhere, which are left out."""

    def __init__(self, blank: int) -> None:
        super().__init__()
        self.blank = blank

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        names = labels.long()
        real = names != self.blank
        steps = torch.full((x.shape[1],), x.shape[0], dtype=torch.long)
        costs = F.ctc_loss(F.log_softmax(x, 2), names[real], steps, real.sum(1).cpu(), self.blank, reduction="none")
        return costs.sum() / x.shape[1]

    def extra_repr(self) -> str:
        return f"blank={self.blank}"
