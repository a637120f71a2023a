"""What the losses make of a row of scores, by kinds that can be put together from parts of the row.

A rank that holds some of the classes computes a row's loss on the label's score and its own classes' alone. With
l_r that of rank r, and l_0 that of the label's score by itself, the loss on the whole row is

    SoftmaxOf   log(1 + sum_r (exp(l_r) - 1)), since exp(l_r) - 1 is the others' sum of exp(s_j - s_y)
    SumOf       l_0 + sum_r (l_r - l_0)
    MostOf      max_r l_r

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

    def together(self, parts: Tensor, alone: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses (N,) and their derivatives by the parts (R, N).

        parts: l_r, (R, N); alone: l_0, (N,), by which the derivative is 1 less the sum of the parts'.
        """
        raise NotImplementedError


class SumOf(RowFormula):
    """A sum over the classes, with what is the label's alone."""

    def together(self, parts: Tensor, alone: Tensor) -> tuple[Tensor, Tensor]:
        return parts.sum(0) - (len(parts) - 1) * alone, torch.ones_like(parts)


class MostOf(RowFormula):
    """Of the classes the one with the largest loss, the first of several."""

    def together(self, parts: Tensor, alone: Tensor) -> tuple[Tensor, Tensor]:
        most, first = parts.max(0)
        return most, torch.zeros_like(parts).scatter_(0, first[None], 1.0)


@dataclass(frozen=True)
class SoftmaxOf(RowFormula):
    """-log softmax(of(scores, labels, *inputs))_y, of scores with a margin (n, C); smoothing: of the labels."""

    smoothing: float = 0.0

    def __call__(self, scores: Tensor, labels: Tensor, *inputs: Tensor) -> Tensor:
        return softmax_losses(self.of(scores, labels, *inputs), labels, self.smoothing)

    def together(self, parts: Tensor, alone: Tensor) -> tuple[Tensor, Tensor]:
        if len(parts) == 1:
            return parts[0], torch.ones_like(parts)
        parts = torch.where(parts < 0, 0.0, parts)  # by rounding
        others = torch.logsumexp(parts + (-torch.expm1(-parts)).log(), 0)
        losses = torch.logaddexp(others, torch.zeros_like(others))
        return losses, (parts - losses).exp()

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
