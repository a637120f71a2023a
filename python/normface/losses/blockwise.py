"""Losses of the scores of all classes, in little more memory than the scores and in little more time than their three
matrix products.

What such a loss costs otherwise is memory: torch's operations one by one make a normalised copy of the class weights,
its gradient, and four to ten arrays (N, C). Here a class weight's length is folded into its column of scores; a
loss and its derivatives are computed for some rows at a time, and the derivatives take the scores' place.

N samples, D features, C classes, K sub-centers of a class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import TrainingError
from ..heads import inverse_lengths
from .transforms import is_transformed, no_forward_mode

Formula = Callable[..., Tensor]
"""(scores (n, C), labels (n,), *inputs (n,)) -> losses (n,), each of its own row alone, by torch's operations."""
Slopes = Callable[..., Sequence[Tensor]]
"""(scores, labels, *inputs) -> losses, their derivatives by the scores, and by the inputs, which may end early: the
others have none. It may write over the scores."""

BLOCK_NUMBERS = 2**24
"""Numbers of the class weights, or of the scores, that are worked on at once: 64 MB of float32. Blocks of the size of
the processor's cache are up to a fifth quicker on an idle machine, but the threads then meet 16 times as often,
which doubles the time where other programs want the processor too."""
DEVICE_BLOCK_NUMBERS = 2**27
"""The same on other devices than the CPU, which like few large steps."""
DEVICE_SHARE = 4
"""Blocks are smaller by this at the most there: 2^25 numbers are read in some 30 microseconds, a few times what it
takes to start an operation; smaller blocks would leave the device waiting for the next one."""
FORMULA_SHARE = 16
"""Rows that a formula is differentiated on by autograd, with its ten arrays or so, are fewer by this."""


@dataclass(frozen=True)
class Work:
    """What is computed: see row_losses."""

    formula: Formula
    slopes: Slopes | None
    eps: float | None
    label_lengths: bool


def row_losses(
    x: Tensor, weight: Tensor, labels: Tensor, formula: Formula, inputs: Sequence[Tensor] = (), *,
    eps: float | None, slopes: Slopes | None = None, more: Tensor | None = None, label_lengths: bool = False,
) -> Tensor:  # fmt: skip
    """Return formula(s, labels, *inputs), (N,), of s_ij = x_i . w_j / |w_j|, (N, C), |w| = sqrt(sum w^2 + eps).

    x: (N, D); weight: (C, D); labels: (N,) int64; inputs: a number for each sample, (N,). All but the labels are of one
    floating-point dtype. eps: None leaves the scores x_i . w_j. more: (K - 1, C, D), further centers of the
    classes; the score is that of the nearest. label_lengths: the formula's last argument is |w_y|, without eps.

    slopes: the formula's derivatives by hand; by default autograd finds them, a block of rows at a time. Gradients of
    x, weight, more and inputs are the derivatives. A second derivative (create_graph), torch.func and torch.compile go
    through torch's operations one by one.
    """
    work = Work(formula, slopes, eps, label_lengths)
    if torch.compiler.is_compiling() or is_transformed():
        return _plain(work, labels, x, weight, more, *inputs)
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, more, *inputs))
    losses: Tensor = _RowLosses.apply(work, keep, labels, x, weight, more, *inputs)[0]
    return losses


def _plain(
    work: Work, labels: Tensor, x: Tensor, weight: Tensor, more: Tensor | None, *inputs: Tensor
) -> Tensor:  # fmt: skip
    centers = [weight] if more is None else [weight, *more.unbind()]
    scores = [x @ w.t() if work.eps is None else x @ w.t() * inverse_lengths(w, work.eps) for w in centers]
    nearest = scores[0] if more is None else torch.stack(scores).max(0).values
    if work.label_lengths:
        inputs = (*inputs, torch.linalg.vector_norm(weight.index_select(0, labels), dim=1))
    return work.formula(nearest, labels, *inputs)


class _RowLosses(torch.autograd.Function):
    """The losses, and behind them what backward needs: the derivatives, 1 / |w| and which center is the nearest."""

    jvp = staticmethod(no_forward_mode)

    @staticmethod
    def forward(
        work: Work, keep: bool, labels: Tensor, x: Tensor, weight: Tensor, more: Tensor | None, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        """keep: compute what backward needs."""
        if work.label_lengths:
            inputs = (*inputs, torch.linalg.vector_norm(weight.index_select(0, labels), dim=1))
        scores = x.new_empty(len(x), len(weight))
        inverse, nearest = scores_of(x, weight, more, work.eps, scores)
        losses = x.new_empty(len(x))
        input_slopes: list[Tensor] = []
        by_hand = work.slopes is not None
        for rows in blocks(scores, 1 if by_hand else FORMULA_SHARE):
            z, y, given = scores[rows], labels[rows], [one[rows] for one in inputs]
            if not keep:
                losses[rows] = work.formula(z, y, *given)
                continue
            derive = work.slopes or by_autograd(work.formula)
            losses[rows], of_scores, *of_inputs = derive(z, y, *given)
            if inverse.dim() == 1:
                torch.mul(of_scores, inverse, out=z)
            elif of_scores is not z:
                z.copy_(of_scores)
            input_slopes = input_slopes or [torch.empty_like(losses) for _ in of_inputs]
            for whole, part in zip(input_slopes, of_inputs, strict=True):
                whole[rows] = part
        return losses, scores, inverse, nearest, *input_slopes

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        work, keep, labels, x, weight, more, *others = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        if keep:
            ctx.work, ctx.others, ctx.has_more = work, len(others), more is not None
            ctx.save_for_backward(labels, x, weight, *([] if more is None else [more]), *others, *output[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[3:]
        if gradient is None:
            return (None,) * (3 + len(wanted))
        labels, x, weight, *rest = ctx.saved_tensors
        more = rest.pop(0) if ctx.has_more else None
        others, (slopes, inverse, nearest, *of_inputs) = rest[: ctx.others], rest[ctx.others :]
        if torch.is_grad_enabled() or is_transformed():
            return (None, None, None, *_differentiable(ctx.work, labels, (x, weight, more, *others), gradient, wanted))
        try:
            dx, d_weight, d_more = _gradients(x, weight, more, slopes, inverse, nearest, gradient, wanted)
        except RuntimeError as error:
            if "atching rule" not in str(error):
                raise
            raise TrainingError(
                "the losses have no gradients in batches (is_grads_batched, torch.autograd.functional's vectorize); "
                "torch.func.jacrev has them"
            ) from error
        if ctx.work.label_lengths and d_weight is not None:
            own = weight.index_select(0, labels)
            length = torch.linalg.vector_norm(own, dim=1)
            pull = torch.where(length > 0, gradient * of_inputs[-1] / length, 0.0)
            d_weight.index_add_(0, labels, own.mul_(pull[:, None]))
        d_inputs = [gradient * one for one in of_inputs[: ctx.others]]
        d_inputs += [None] * (ctx.others - len(d_inputs))
        return None, None, None, dx, d_weight, d_more, *d_inputs


def scores_of(
    x: Tensor, weight: Tensor, more: Tensor | None, eps: float | None, scores: Tensor, bias: Tensor | None = None,
    share: int = 1,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Fill in the scores x . w / |w| + b (N, C); return 1 / |w| ((C,), (K, C), or a number where there is none), and
    the nearest of K centers (N, C) uint8, or a number; each block of the weights is read once for both.

    Weights of a narrower dtype than x are widened a block at a time; share: blocks are smaller by this.
    """
    none = x.new_empty(())
    if more is not None:
        return _nearest(x, [weight, *more], scores, eps, share)
    inverse = none if eps is None else x.new_empty(len(weight))
    for part in blocks(weight, share):
        rows = weight[part].to(x.dtype)
        block = torch.mm(x, rows.t(), out=scores[:, part])
        if eps is not None:
            inverse[part] = inverse_lengths(rows, eps)
            block.mul_(inverse[part])
        if bias is not None:
            block.add_(bias[part])
    return inverse, none


def _nearest(
    x: Tensor, centers: list[Tensor], scores: Tensor, eps: float | None, share: int
) -> tuple[Tensor, Tensor]:  # fmt: skip
    nearest = torch.zeros_like(scores, dtype=torch.uint8)
    inverse = x.new_ones(len(centers), scores.shape[1])
    for part in blocks(centers[0], share):
        for k, center in enumerate(centers):
            rows = center[part].to(x.dtype)
            block = x @ rows.t()
            if eps is not None:
                inverse[k, part] = inverse_lengths(rows, eps)
                block.mul_(inverse[k, part])
            if k == 0:
                scores[:, part] = block
                continue
            nearer = ~(block <= scores[:, part])  # a NaN is the nearest
            scores[:, part] = torch.where(nearer & ~scores[:, part].isnan(), block, scores[:, part])
            nearest[:, part].masked_fill_(nearer, k)
    return inverse, nearest


def by_autograd(formula: Formula) -> Slopes:
    """Return what finds the formula's derivatives, in evaluation of a block at a time."""

    def slopes(*arguments: Tensor) -> list[Tensor]:
        scores, labels, *inputs = arguments
        with torch.enable_grad():
            given = [one.detach().requires_grad_() for one in (scores, *inputs)]
            losses = formula(given[0], labels, *given[1:])
            found = torch.autograd.grad(losses.sum(), given, allow_unused=True)
        pairs = zip(found, given, strict=True)
        return [losses.detach(), *(torch.zeros_like(own) if one is None else one for one, own in pairs)]

    return slopes


def _gradients(
    x: Tensor, weight: Tensor, more: Tensor | None, slopes: Tensor, inverse: Tensor, nearest: Tensor,
    gradient: Tensor, wanted: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """Return those of x, weight and more. slopes: by x . w, but for several centers by the score of the nearest."""
    x_part, dx = x * gradient[:, None], torch.zeros_like(x) if wanted[0] else None
    d_weight = torch.empty_like(weight) if wanted[1] else None
    d_more = torch.empty_like(more) if more is not None and wanted[2] else None
    buffer = None
    for part in blocks(weight):
        for k in range(1 if more is None else 1 + len(more)):
            center = weight if more is None or k == 0 else more[k - 1]
            w, g = center[part], slopes[:, part]
            own_inverse = inverse[k, part] if inverse.dim() == 2 else inverse[part] if inverse.dim() else None
            if nearest.dim():
                g = torch.where(nearest[:, part] == k, g * inverse[k, part], 0.0)
            if dx is not None:
                dx.addmm_(g, w)
            whole = d_weight if k == 0 else None if d_more is None else d_more[k - 1]
            if whole is None:
                continue
            dw = torch.mm(g.t(), x_part, out=whole[part])
            if own_inverse is not None:
                buffer = torch.empty_like(w) if buffer is None else buffer[: len(w)]
                along = torch.mul(dw, w, out=buffer).sum(1) * own_inverse.square()
                dw.addcmul_(w, along[:, None], value=-1)
    return None if dx is None else dx.mul_(gradient[:, None]), d_weight, d_more


def _differentiable(
    work: Work, labels: Tensor, inputs: Sequence[Tensor | None], gradient: Tensor, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients as functions of everything, by torch's own operations."""
    places = [place for place, want in enumerate(wanted) if want]

    def function(*varied: Tensor) -> Tensor:
        given = list(inputs)
        for place, one in zip(places, varied, strict=True):
            given[place] = one
        rows, weight, more, *others = given
        return _plain(work, labels, rows, weight, more, *others)  # type: ignore[arg-type]

    pull = torch.func.vjp(function, *(inputs[place] for place in places))[1]
    found = iter(pull(gradient))
    return [next(found) if want else None for want in wanted]


def blocks(table: Any, share: int = 1) -> Iterator[slice]:
    """The rows of a table, some at a time."""
    on_cpu = table.device.type == "cpu"
    numbers = BLOCK_NUMBERS // share if on_cpu else DEVICE_BLOCK_NUMBERS // min(share, DEVICE_SHARE)
    step = max(1, numbers // max(1, table.shape[1]))
    for first in range(0, len(table), step):
        yield slice(first, first + step)
