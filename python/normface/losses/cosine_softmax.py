"""Softmax loss on scaled cosines, with a margin on the label's score, in little more than its three matrix products.

What else a cosine head costs is memory: torch's operations one by one make a normalised copy of the class weights,
its gradient, and four or five arrays (N, C). Here a class weight's length is folded into its column of scores, the
scores become the softmax's gradient where they are, and what has to be held in between is held a block at a time.

N samples, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..heads import inverse_lengths

Margin = Callable[[Tensor], tuple[Tensor, Tensor]]
"""psi: the label's cosine (N,) -> what takes its place in the loss, and the slope d psi / d cos, elementwise."""

BLOCK_NUMBERS = 2**24
"""Numbers of the class weights, or of the scores, that are worked on at once: 64 MB of float32. Blocks of the size of
the processor's cache are up to a fifth quicker on an idle machine, but the threads then meet 16 times as often,
which doubles the time where other programs want the processor too."""
DEVICE_BLOCK_NUMBERS = 2**27
"""The same on other devices than the CPU, which like few large steps."""


def no_margin(cosine: Tensor) -> tuple[Tensor, Tensor]:
    return cosine, torch.ones_like(cosine)


def cosine_softmax_loss(
    x: Tensor, weight: Tensor, scale: Tensor, labels: Tensor, eps: float, margin: Margin = no_margin
) -> Tensor:
    """1/N sum_i [log(exp(s psi_i) + sum_{j != y} exp(s c_ij)) - s psi_i], c_ij = x_i . w_j / |w_j|, psi_i = psi(c_iy).

    x (N, D): unit rows (their length is not taken again); weight (C, D): any rows, |w| = sqrt(sum w^2 + eps);
    scale: 0-D; labels (N,) int64. All but the labels are of one floating-point dtype.

    Gradients of x, weight and scale are the derivatives. A second derivative (create_graph) goes through
    torch's operations one by one.
    """
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, weight, scale))
    return _CosineSoftmax.apply(x, weight, scale, labels, eps, margin, keep)


class _CosineSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, labels: Tensor, eps: float, margin: Margin, keep: bool
    ) -> Tensor:
        """keep: compute what backward needs."""
        column = labels[:, None]
        scores, inverse = _dot_products(x, weight, eps)
        cosine = scores.gather(1, column)[:, 0] * inverse.index_select(0, labels)
        target, slope = margin(cosine)
        label_score = (scale * target)[:, None]
        factors = scale * inverse
        losses = torch.empty_like(cosine)
        pulls = torch.empty_like(cosine)
        buffer = None
        for rows in _blocks(scores):
            z, y = scores[rows], column[rows]
            z.mul_(factors).scatter_(1, y, label_score[rows])
            buffer = torch.empty_like(z) if buffer is None else buffer[: len(z)]
            p = torch.softmax(z, 1, out=buffer)
            # log sum exp z = z_j - log p_j for every j; the largest p is no rounded-off 0.
            losses[rows] = (z.amax(1) - p.amax(1).log()) - label_score[rows, 0]
            if keep:
                pull = p.gather(1, y) - 1
                torch.mul(p.scatter_(1, y, pull * slope[rows, None]), inverse, out=z)
                pulls[rows] = pull[:, 0]
        if keep:
            # scores: the loss's derivative by x . w, over s / N. The scale's own has psi, not its slope times c.
            ctx.save_for_backward(x, weight, scale, labels, scores, inverse, (pulls * (target - slope * cosine)).sum())
            ctx.eps, ctx.margin = eps, margin
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale, labels, slopes, inverse, beyond = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():
            return (*_differentiable(x, weight, scale, labels, ctx.eps, ctx.margin, gradient, wanted), *[None] * 4)
        of_product = gradient * scale / len(x)
        x_part = x * of_product
        dx = torch.zeros_like(x)
        d_weight = torch.empty_like(weight) if wanted[1] else None
        buffer = None
        for part in _blocks(weight):
            w, g = weight[part], slopes[:, part]
            if wanted[0] or wanted[2]:
                dx.addmm_(g, w)
            if d_weight is not None:
                dw = torch.mm(g.t(), x_part, out=d_weight[part])
                buffer = torch.empty_like(w) if buffer is None else buffer[: len(w)]
                along = torch.mul(dw, w, out=buffer).sum(1) * inverse[part].square()
                dw.addcmul_(w, along[:, None], value=-1)
        d_scale = ((dx * x).sum() + beyond) * (gradient / len(x)) if wanted[2] else None
        return (dx.mul_(of_product) if wanted[0] else None, d_weight, d_scale, *[None] * 4)


def _dot_products(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x . w (N, C), and 1 / |w| (C,); each block of the weights is read once for both."""
    products, inverse = x.new_empty(len(x), len(weight)), weight.new_empty(len(weight))
    for part in _blocks(weight):
        torch.mm(x, weight[part].t(), out=products[:, part])
        inverse[part] = inverse_lengths(weight[part], eps)
    return products, inverse


def _blocks(table: Tensor) -> Iterator[slice]:
    """The rows of a table, some at a time."""
    numbers = BLOCK_NUMBERS if table.device.type == "cpu" else DEVICE_BLOCK_NUMBERS
    step = max(1, numbers // table.shape[1])
    for first in range(0, len(table), step):
        yield slice(first, first + step)


def _differentiable(
    x: Tensor, weight: Tensor, scale: Tensor, labels: Tensor, eps: float, margin: Margin, gradient: Tensor,
    wanted: Sequence[bool],
) -> list[Tensor | None]:  # fmt: skip
    """The gradients as functions of everything, by torch's own operations."""
    cosine = x @ weight.t() * inverse_lengths(weight, eps)
    column = labels[:, None]
    target, _ = margin(cosine.gather(1, column))
    loss = F.cross_entropy(scale * cosine.scatter(1, column, target), labels)
    inputs = [tensor for tensor, want in zip((x, weight, scale), wanted, strict=True) if want]
    gradients = iter(torch.autograd.grad(loss, inputs, gradient, create_graph=True))
    return [next(gradients) if want else None for want in wanted]
