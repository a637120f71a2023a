"""The number that multiplies cosines or unit features: fixed, or learned from a start."""

from __future__ import annotations

import math

import torch
from caffeport.to_torch.modules.gradients import straight_through
from torch import Tensor, nn

from ..errors import TrainingError
from .base import FaceLoss

LEARNED = "learned"


def register_scale(loss: FaceLoss, name: str, value: float | str, initial: float) -> None:
    """Give a loss its scale (0-D) on the weight's device: a buffer holding ``value``, or a parameter if "learned"."""
    learned = value == LEARNED
    number = initial if learned else value
    if isinstance(number, (str, bool)) or not (math.isfinite(number) and number > 0):
        raise TrainingError(f'{type(loss).__name__}: expected {name} to be above 0 or "{LEARNED}", got {number!r}')
    scale = torch.full((), float(number), dtype=loss.weight.dtype, device=loss.weight.device)
    if learned:
        loss.register_parameter(name, nn.Parameter(scale))
    else:
        loss.register_buffer(name, scale)


def at_least(scale: Tensor, least: float) -> Tensor:
    """max(scale, least), whose gradient reaches a scale below the bound too, as that of Caffe's bounded Scale does."""
    return straight_through(scale, scale.clamp_min(least))
