"""What changes with the steps of training: the weight of a margin-free score that falls, a margin that rises."""

from __future__ import annotations

import operator

import torch
from caffeport.to_torch.modules.margins import annealing
from torch import Tensor, nn

from ..errors import TrainingError
from .transforms import is_transformed


class StepCounter(nn.Module):
    """Counts the backward passes of training mode in ``iteration``, a buffer: a resumed training goes on where it was.

    A loss that is only looked at, or computed twice by gradient checking or checkpointing, does not move it, and
    neither does torch.func.
    """

    iteration: Tensor

    def __init__(self, device: torch.device | str | None) -> None:
        super().__init__()
        self.register_buffer("iteration", torch.zeros((), dtype=torch.int64, device=device))

    def counting(self, losses: Tensor) -> Tensor:
        """The losses as they are, whose backward pass counts."""
        if self.training and losses.requires_grad and not is_transformed():
            losses.register_hook(self._count)
        return losses

    def _count(self, gradient: Tensor) -> None:
        # Not in place: a compiled backward pass may compute anew from what forward had.
        self.iteration = self.iteration + 1


class Annealing(StepCounter):
    """lambda = max(lambda_min, base (1 + gamma t)^-power), t = iteration + 1: the fork's first pass has t = 1."""

    def __init__(
        self, base: float, gamma: float, power: float, lambda_min: float, device: torch.device | str | None
    ) -> None:
        super().__init__(device)
        for name, value in (("base", base), ("gamma", gamma), ("power", power), ("lambda_min", lambda_min)):
            if not 0 <= value < float("inf"):
                raise TrainingError(f"expected {name} to be 0 or more, got {value}")
        self.base, self.gamma, self.power, self.lambda_min = base, gamma, power, lambda_min

    def current(self, dtype: torch.dtype) -> Tensor:
        """lambda, 0-D."""
        t = (self.iteration + 1).to(dtype)
        return annealing(self.base, self.gamma, self.power, t, torch.pow).clamp_min(self.lambda_min)

    def extra_repr(self) -> str:
        return f"max({self.lambda_min:g}, {self.base:g} (1 + {self.gamma:g} t)^-{self.power:g})"


class MarginWarmup(StepCounter):
    """A margin times min(1, t / steps), t = iteration: none at the first pass, the whole of it from pass ``steps`` on.

    steps: 0 for the whole margin from the start. A state without ``iteration``, as earlier versions wrote, is read as
    one that has made no steps.
    """

    def __init__(self, steps: int, device: torch.device | str | None) -> None:
        super().__init__(device)
        self.steps = checked_steps(steps)

    def restart(self, steps: int) -> None:
        """Begin anew, with so many passes."""
        self.steps = checked_steps(steps)
        self.iteration = torch.zeros_like(self.iteration)

    def of(self, margin: float, neutral: float = 0.0) -> float | Tensor:
        """The margin as it is now: between ``neutral`` and the whole of it, 0-D; a plain number without warm-up."""
        if not self.steps:
            return margin
        wide = torch.float32 if self.iteration.device.type == "mps" else torch.float64  # which it has not
        share = (self.iteration.to(wide) / self.steps).clamp_max(1.0)
        return neutral + (margin - neutral) * share

    def counting(self, losses: Tensor) -> Tensor:
        """The losses as they are, whose backward pass counts, if there is a warm-up."""
        return super().counting(losses) if self.steps else losses

    def _load_from_state_dict(self, state_dict, prefix, *rest) -> None:  # type: ignore[no-untyped-def]
        state_dict.setdefault(f"{prefix}iteration", torch.zeros_like(self.iteration))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        return f"over {self.steps} steps" if self.steps else "none"


def warmups(loss: nn.Module) -> list[MarginWarmup]:
    """The margin warm-ups of a loss or a sum; those of 0 steps too, which ``restart`` can begin."""
    return [module for module in loss.modules() if isinstance(module, MarginWarmup)]


def checked_steps(steps: int) -> int:
    """Return a number of passes; refuse what is no whole number of 0 or more."""
    try:
        number = operator.index(steps)
    except TypeError:
        number = -1
    if number < 0 or isinstance(steps, bool):
        raise TrainingError(f"expected margin_warmup to be a whole number of steps, 0 or more, got {steps!r}")
    return number
