"""From the losses of the samples to what a loss returns: their weighted mean, their sum, or themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import TrainingError

REDUCTIONS = ("mean", "sum", "none")


def checked_reduction(name: str, reduction: str) -> str:
    """Return a name in REDUCTIONS; refuse others. name: the loss's, for the message."""
    if reduction not in REDUCTIONS:
        raise TrainingError(f"{name}: expected a reduction of {', '.join(REDUCTIONS)}, got {reduction!r}")
    return reduction


def reduced(losses: Tensor, shares: Tensor | None, reduction: str) -> Tensor:
    """Return sum_i w_i l_i / sum_i w_i ("mean"), sum_i w_i l_i ("sum"), or w_i l_i, (N,) ("none").

    losses: (N,); shares: the samples' weights w (N,), None where all are 1. A mean of samples that all weigh 0 is 0,
    as Caffe's is where all labels are ignored (torch's is NaN, which ends a training).
    """
    if shares is None:
        return losses.mean() if reduction == "mean" else losses.sum() if reduction == "sum" else losses
    weighted = losses * shares
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    total = shares.sum()
    return weighted.sum() / torch.where(total > 0, total, torch.ones_like(total))
