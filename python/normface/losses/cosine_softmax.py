"""Softmax loss on scaled cosines, with a margin on the label's score: the derivatives by hand, for the block at hand.

N samples, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .class_shard import ClassShard
from .row_formulas import SoftmaxOf
from .rows import row_losses

Margin = Callable[..., Sequence[Tensor]]
"""psi: the label's cosine (N,) and inputs (N,) -> what takes its place in the loss, and its slope by the cosine;
elementwise. The inputs have no gradient."""


def no_margin(cosine: Tensor) -> tuple[Tensor, Tensor]:
    return cosine, torch.ones_like(cosine)


def cosine_softmax_losses(
    x: Tensor, weight: Tensor, scale: Tensor, labels: Tensor, eps: float, margin: Margin = no_margin,
    inputs: Sequence[Tensor] = (), smoothing: float = 0.0, *,
    shard: ClassShard | None = None,
) -> Tensor:  # fmt: skip
    """log(exp(s psi_i) + sum_{j != y} exp(s c_ij)) - s psi_i, (N,), of c_ij = x_i . w_j / |w_j|, psi_i = psi(c_iy).

    x (N, D): unit rows (their length is not taken again); weight (C, D): any rows, |w| = sqrt(sum w^2 + eps);
    scale: 0-D, above 0; labels (N,) int64. All but the labels are of one floating-point dtype. smoothing: e, by
    which the loss is 1 - e times this and e times the mean of it over all classes in the label's place.

    Gradients of x, weight and scale are the derivatives; shard: which rows the weights are; see row_losses.
    """
    rows = _Rows(margin, smoothing)
    inputs = (scale.expand(len(x)), *inputs)
    formula = SoftmaxOf(rows.scores, smoothing)
    return row_losses(scale * x, weight, labels, formula, inputs, eps=eps, slopes=rows.slopes, shard=shard)


@dataclass(frozen=True)
class _Rows:
    """Of scores s c, (n, C), and s, (n,)."""

    margin: Margin
    smoothing: float

    def scores(self, scores: Tensor, labels: Tensor, scale: Tensor, *inputs: Tensor) -> Tensor:
        column = labels[:, None]
        target, _ = self.margin(scores.gather(1, column)[:, 0] / scale, *inputs)
        return scores.scatter(1, column, (scale * target)[:, None])

    def slopes(self, scores: Tensor, labels: Tensor, scale: Tensor, *inputs: Tensor) -> Sequence[Any]:
        column, smoothing = labels[:, None], self.smoothing
        cosine = scores.gather(1, column)[:, 0] / scale
        target, slope = self.margin(cosine, *inputs)
        own = scale * target
        scores.scatter_(1, column, own[:, None])
        p = torch.softmax(scores, 1)
        # log sum exp z = z_j - log p_j for every j; the largest p is no rounded-off 0.
        losses = scores.amax(1) - p.amax(1).log() - own
        if smoothing:
            losses += smoothing * (own - scores.mean(1))
            p -= smoothing / scores.shape[1]
        pull = p.gather(1, column)[:, 0] - (1 - smoothing)
        p.scatter_(1, column, (pull * slope)[:, None])
        # Through s c comes s psi' c of the scale's derivative; psi is the whole of it.
        return losses, p, pull * (target - slope * cosine)
