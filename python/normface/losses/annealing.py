"""The weight of the margin-free score, which falls as training goes on."""

from __future__ import annotations

import torch
from caffeport.to_torch.modules.margins import annealing
from torch import Tensor, nn

from ..errors import TrainingError


class Annealing(nn.Module):
    """lambda = max(lambda_min, base (1 + gamma t)^-power), t = iteration + 1: the fork's first pass has t = 1.

    ``iteration`` is a buffer, so that a resumed training goes on where it was. It counts the backward passes of
    training mode: a loss that is only looked at, or computed twice by gradient checking or checkpointing, does
    not move it.
    """

    iteration: Tensor

    def __init__(
        self, base: float, gamma: float, power: float, lambda_min: float, device: torch.device | str | None
    ) -> None:
        super().__init__()
        for name, value in (("base", base), ("gamma", gamma), ("power", power), ("lambda_min", lambda_min)):
            if not 0 <= value < float("inf"):
                raise TrainingError(f"expected {name} to be 0 or more, got {value}")
        self.base, self.gamma, self.power, self.lambda_min = base, gamma, power, lambda_min
        self.register_buffer("iteration", torch.zeros((), dtype=torch.int64, device=device))

    def current(self, dtype: torch.dtype) -> Tensor:
        """lambda, 0-D."""
        t = (self.iteration + 1).to(dtype)
        return annealing(self.base, self.gamma, self.power, t, torch.pow).clamp_min(self.lambda_min)

    def counting(self, loss: Tensor) -> Tensor:
        """The loss as it is, whose backward pass counts."""
        if self.training and loss.requires_grad:
            loss.register_hook(self._count)
        return loss

    def _count(self, gradient: Tensor) -> None:
        # Not in place: a compiled backward pass may compute lambda anew from what forward had.
        self.iteration = self.iteration + 1

    def extra_repr(self) -> str:
        return f"max({self.lambda_min:g}, {self.base:g} (1 + {self.gamma:g} t)^-{self.power:g})"
