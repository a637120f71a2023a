"""Running means of what batches have, by which some losses set their margins."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .transforms import is_transformed


class Running(nn.Module):
    """Numbers that move by ``momentum`` towards each batch's: r = momentum b + (1 - momentum) r.

    They are buffers, so that a resumed training goes on where it was. They move with the backward passes of
    training mode: a loss that is only looked at, or computed twice by gradient checking or checkpointing, does not
    move them, and neither does torch.func.
    """

    def __init__(self, start: Mapping[str, float], momentum: float, weight: Tensor) -> None:
        """weight: the loss's, whose device and (at least float32) dtype the numbers have."""
        super().__init__()
        self.names, self.momentum = tuple(start), float(momentum)
        for name, value in start.items():
            dtype = torch.promote_types(weight.dtype, torch.float32)
            self.register_buffer(name, torch.tensor(value, dtype=dtype, device=weight.device))

    def state(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The numbers as they are, 0-D."""
        return {name: getattr(self, name).to(dtype) for name in self.names}

    def with_batch(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The numbers once this batch's are taken in, in their dtype, without gradient."""
        state = self.state(next(iter(batch.values())).dtype)
        return {name: self.momentum * batch[name] + (1 - self.momentum) * state[name] for name in self.names}

    def moving(self, losses: Tensor, now: Mapping[str, Tensor]) -> Tensor:
        """The losses as they are, whose backward pass in training mode makes the numbers ``now``."""
        if self.training and losses.requires_grad and not is_transformed():
            losses.register_hook(lambda gradient: self._take(now))
        return losses

    def _take(self, now: Mapping[str, Tensor]) -> None:
        for name, value in now.items():
            setattr(self, name, value.detach().to(getattr(self, name).dtype))

    def extra_repr(self) -> str:
        return f"momentum {self.momentum:g}"


def mean_of(numbers: Tensor, shares: Tensor | None) -> Tensor:
    """Return the mean of the samples' numbers (N,), 0-D, of those whose share is not 0; 0 where that is none."""
    if shares is None:
        return numbers.mean()
    counted = shares != 0
    return torch.where(counted, numbers, 0.0).sum() / counted.sum().clamp_min(1)


def deviation_of(numbers: Tensor, shares: Tensor | None) -> Tensor:
    """Return their standard deviation (of n - 1), 0-D; 0 of one sample or none."""
    counted = torch.ones_like(numbers) if shares is None else (shares != 0).to(numbers.dtype)
    apart = torch.where(counted > 0, numbers - mean_of(numbers, shares), 0.0)
    variance = apart.square().sum() / (counted.sum() - 1).clamp_min(1)
    return variance.sqrt()
