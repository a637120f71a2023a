"""What the losses make of a row of scores, by kinds that can be put together from parts of the row.

A rank that holds some of the classes computes a row's loss on the label's score and its own classes' alone. With
l_r that of rank r, and l_0 that of the label's score by itself, the loss on the whole row is

    SoftmaxOf   log(1 + sum_r (exp(l_r) - 1)), since exp(l_r) - 1 is the others' sum of exp(s_j - s_y)
    SumOf       l_0 + sum_r (l_r - l_0)
    MostOf      max_r l_r

Where a rank has scores of a sample of its classes, each other one stands for w_r of them, and so do its differences:
log(1 + sum_r w_r (exp(l_r) - 1)) and l_0 + sum_r w_r (l_r - l_0). The sums of the others are then of the right size in
the mean over the samples (Horvitz and Thompson 1952).

N samples, C classes, R ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Rows = Callable[..., Tensor]
"""(scores (n, C), labels (n,), *inputs (n,)) -> (n,) or (n, C), each row of its own row alone."""


@dataclass(frozen=True)
class RowFormula:
    """A loss (n,) of scores (n, C), labels (n,) and inputs (n,): ``of`` of them, however many classes there are."""

    of: Rows

    def __call__(self, scores: Tensor, labels: Tensor, *inputs: Tensor) -> Tensor:
        return self.of(scores, labels, *inputs)

    def together(self, parts: Tensor, alone: Tensor, others: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the losses (N,) and their derivatives by the parts (R, N).

        parts: l_r, (R, N); alone: l_0, (N,), by which the derivative is 1 less the sum of the parts'. others: w_r,
        (R, N), above 0; None where every class has its score.
        """
        raise NotImplementedError


class SumOf(RowFormula):
    """A sum over the classes, with what is the label's alone."""

    def together(self, parts: Tensor, alone: Tensor, others: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if others is None:
            return parts.sum(0) - (len(parts) - 1) * alone, torch.ones_like(parts)
        return alone + (others * (parts - alone)).sum(0), others


class MostOf(RowFormula):
    """Of the classes the one with the largest loss, the first of several; a sample's stands for no others."""

    def together(self, parts: Tensor, alone: Tensor, others: Tensor | None = None) -> tuple[Tensor, Tensor]:
        most, first = parts.max(0)
        return most, torch.zeros_like(parts).scatter_(0, first[None], 1.0)


@dataclass(frozen=True)
class SoftmaxOf(RowFormula):
    """-log softmax(of(scores, labels, *inputs))_y, of scores with a margin (n, C); smoothing: of the labels."""

    smoothing: float = 0.0

    def __call__(self, scores: Tensor, labels: Tensor, *inputs: Tensor) -> Tensor:
        return softmax_losses(self.of(scores, labels, *inputs), labels, self.smoothing)

    def together(self, parts: Tensor, alone: Tensor, others: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if len(parts) == 1 and others is None:
            return parts[0], torch.ones_like(parts)
        parts = torch.where(parts < 0, 0.0, parts)  # by rounding
        log_others = torch.zeros_like(parts) if others is None else others.log()
        sums = torch.logsumexp(parts + (-torch.expm1(-parts)).log() + log_others, 0)
        losses = torch.logaddexp(sums, torch.zeros_like(sums))
        return losses, (parts + log_others - losses).exp()

    def spread(self, scores: Tensor, labels: Tensor, *inputs: Tensor) -> Tensor:
        """Return sum_j (s_y - s_j), (n,), which smoothing adds smoothing / C times."""
        margined = self.of(scores, labels, *inputs)
        return (margined.gather(1, labels[:, None]) - margined).sum(1)


def softmax_losses(scores: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """-log softmax(scores)_y of every row, (N,); with smoothing, e, towards e / C of every class."""
    return F.cross_entropy(scores, labels, reduction="none", label_smoothing=smoothing)


def same_scores(scores: Tensor, labels: Tensor, *inputs: Tensor) -> Tensor:
    """Return the scores as they are, of a softmax without a margin."""
    return scores
