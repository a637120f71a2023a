"""Losses of the scores of all classes, whose weights are sharded over ranks, each with the same whole batch.

A rank computes the scores of its own classes alone, (N, C / R), which its derivatives then take the place of, as in
blockwise. Between the ranks go the label's scores, N numbers, then each rank's losses and their derivatives by what
all share, a few more; and in the backward pass the gradient of x (N, D). See row_formulas for the arithmetic.

N samples, D features, C classes, R ranks, K sub-centers of a class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import TrainingError
from .blockwise import FORMULA_SHARE, Slopes, blocks, by_autograd, scores_of
from .class_shard import ClassShard, refuse_second_derivative
from .row_formulas import RowFormula, SoftmaxOf, SumOf
from .transforms import is_transformed, no_forward_mode

BLOCK_SHARE = 16
"""Blocks are smaller by this than those of one process: several processes share a machine."""


@dataclass(frozen=True)
class Work:
    """What is computed: see row_losses."""

    shard: ClassShard
    formula: RowFormula
    slopes: Slopes | None
    eps: float | None
    label_lengths: bool
    here: int
    """How many samples have their class on this rank."""
    others: Tensor | None
    """How many of this rank's classes each one with a score that is not the label's stands for, (N,); None where all
    have scores."""


def row_losses(
    shard: ClassShard, x: Tensor, weight: Tensor, labels: Tensor, formula: RowFormula, inputs: Sequence[Tensor] = (),
    *, eps: float | None, slopes: Slopes | None = None, more: Tensor | None = None, bias: Tensor | None = None,
    label_lengths: bool = False,
) -> Tensor:  # fmt: skip
    """Return formula(s, labels, *inputs), (N,), of s_ij = x_i . w_j / |w_j| + b_j: what blockwise.row_losses returns.

    x (N, D), labels (N,) and inputs (N,): of the whole batch, alike on every rank. weight (C / R, D), bias (C / R,) and
    more (K - 1, C / R, D): this rank's rows, which may be of a narrower dtype. The losses are alike on every rank, and
    so are the gradients of x and the inputs; those of the rows are whole.

    Raises TrainingError under torch.compile and torch.func, and for a second derivative.
    """
    if torch.compiler.is_compiling() or is_transformed():
        raise TrainingError("class-parallel losses work neither within torch.func nor within torch.compile")
    if isinstance(formula, SoftmaxOf) and formula.smoothing:
        plain, spread = replace(formula, smoothing=0.0), SumOf(formula.spread)
        of = partial(row_losses, shard, x, weight, labels, inputs=inputs, eps=eps, more=more, bias=bias)
        apart = of(formula=spread, label_lengths=label_lengths)
        return of(formula=plain, label_lengths=label_lengths) + formula.smoothing / shard.num_classes * apart
    tensors = (x, weight, more, bias, *inputs)
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    local = shard.local(labels)
    rows, others = None if shard.keeper is None else shard.keeper.chosen(weight, local, keep), None
    if rows is not None:
        others = _stands_for(len(weight), len(rows), local, x.dtype)
        local = torch.where(local >= 0, torch.searchsorted(rows, local), -1)
    work = Work(shard, formula, slopes, eps, label_lengths, shard.held(local), others)
    if x.requires_grad:
        x = shard.copied(x)
    losses: Tensor = _ShardedLosses.apply(work, keep, local, rows, x, weight, more, bias, *inputs)[0]
    return losses


def _stands_for(classes: int, scored: int, local: Tensor, dtype: torch.dtype) -> Tensor:
    """Return how many of a rank's classes each other one that is scored stands for, (N,); 1 where there is no other.

    local: -1 for samples whose class is on another rank. The labels of the other samples count as drawn by chance.
    """
    own = (local >= 0).to(dtype)
    return torch.where(scored > own, (classes - own) / (scored - own), 1.0)


class Picked:
    """Some rows of a table, read when they are asked for."""

    def __init__(self, table: Tensor, rows: Tensor) -> None:
        self._table, self._rows = table, rows
        self.shape, self.device = (len(rows), *table.shape[1:]), table.device

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, part: slice) -> Tensor:
        return self._table.index_select(0, self._rows[part])

    def index_select(self, axis: int, places: Tensor) -> Tensor:
        return self._table.index_select(axis, self._rows[places])


def _table(weight: Tensor, rows: Tensor | None) -> Any:
    """Return the class weights that have scores: all, or some rows of them."""
    return weight if rows is None else Picked(weight, rows)


class _ShardedLosses(torch.autograd.Function):
    """The losses, and behind them what backward needs. Samples whose class is here come first: ``order``."""

    jvp = staticmethod(no_forward_mode)

    @staticmethod
    def forward(
        work: Work, keep: bool, local: Tensor, rows: Tensor | None, x: Tensor, weight: Tensor, more: Tensor | None,
        bias: Tensor | None, *inputs: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        order = (local < 0).to(torch.uint8).argsort(stable=True)
        here, table = work.here, _table(weight, rows)
        labels = local[order]
        scores = x.new_empty(len(x), len(table) + 1)  # the last column is for labels whose class is elsewhere
        inverse, nearest = scores_of(x[order], table, more, work.eps, scores[:, :-1], bias, BLOCK_SHARE)
        own = _labels_own(work, scores[:here], labels[:here], table, order[:here], len(x))
        scores[here:, -1] = own[0, order[here:]]
        labels[here:] = len(table)
        if work.label_lengths:
            inputs = (*inputs, own[1])
        parts = x.new_zeros(2 + len(inputs) + (work.others is not None), len(x))
        if work.others is not None:
            parts[-1] = work.others
        _derive(work, keep, scores, labels, here, [one[order] for one in inputs], order, parts)
        totals, factor = _put_together(work, keep, work.shard.gather(parts), own[0], inputs)
        return totals[0], scores, inverse, nearest, order, factor, *totals[1:]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        work, keep, local, rows, x, weight, more, bias, *others = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        if keep:
            ctx.work, ctx.others = work, len(others)
            ctx.save_for_backward(local, rows, x, weight, more, bias, *output[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[4:]
        if gradient is None:
            return (None,) * (4 + len(wanted))
        refuse_second_derivative()
        local, rows, x, weight, more, bias, scores, inverse, nearest, order, factor, by_own, *by_inputs = (
            ctx.saved_tensors
        )
        here = ctx.work.here
        pulls = gradient * by_inputs[-1] if ctx.work.label_lengths else None
        slopes = _Slopes(
            scores[:, :-1], (gradient * factor)[order], (gradient * by_own)[order[:here]], local[order[:here]],
            inverse, nearest, x[order], None if pulls is None else pulls[order[:here]],
        )  # fmt: skip
        keeper = ctx.work.shard.keeper
        take = None if keeper is None or not wanted[1] else partial(keeper.take, weight, rows)
        dx, *of_rows = slopes.gradients(_table(weight, rows), more, bias, wanted, take)
        if dx is not None:
            dx = torch.empty_like(dx).index_copy_(0, order, dx)
        d_inputs = [gradient * one for one in by_inputs[: ctx.others]]
        return None, None, None, None, dx, *of_rows, *d_inputs


def _labels_own(
    work: Work, scores: Tensor, labels: Tensor, weight: Any, places: Tensor, samples: int
) -> Tensor:  # fmt: skip
    """Return the scores of the labels' classes, and with label_lengths |w_y|, (1 or 2, N), from those who hold them.

    scores: of the samples whose class is here, at these places of the batch.
    """
    own = scores.new_zeros(1 + work.label_lengths, samples)
    own[0, places] = scores.gather(1, labels[:, None])[:, 0]
    if work.label_lengths:
        own[1, places] = torch.linalg.vector_norm(weight.index_select(0, labels).to(scores.dtype), dim=1)
    return work.shard.sum(own)


def _derive(
    work: Work, keep: bool, scores: Tensor, labels: Tensor, here: int, inputs: Sequence[Tensor], order: Tensor,
    parts: Tensor,
) -> None:  # fmt: skip
    """Fill in this rank's losses, and their derivatives by the label's score and the inputs: parts (2 + inputs, N);
    a row behind them stays as it is.

    The derivatives by the scores take their place.
    """
    derive = work.slopes or by_autograd(work.formula)
    for group, width in ((slice(0, here), scores.shape[1] - 1), (slice(here, None), scores.shape[1])):
        of_group, places = scores[group, :width], order[group]
        for rows in blocks(of_group, FORMULA_SHARE):
            z, y, given = of_group[rows], labels[group][rows], [one[group][rows] for one in inputs]
            if not keep:
                parts[0, places[rows]] = work.formula(z, y, *given)
                continue
            losses, of_scores, *of_inputs = derive(z, y, *given)
            if of_scores is not z:
                z.copy_(of_scores)
            found = [losses, z.gather(1, y[:, None])[:, 0], *of_inputs]
            for row, one in enumerate(found):
                parts[row, places[rows]] = one


def _put_together(
    work: Work, keep: bool, parts: Tensor, own: Tensor, inputs: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the losses and their derivatives by the label's score and the inputs (2 + inputs, N), and this rank's
    share in them: what its derivatives are multiplied by, (N,).

    parts: all ranks', (R, 2 + inputs, N); behind them, where classes are sampled, Work's ``others``.
    """
    alone, label, others = own[:, None], torch.zeros_like(own, dtype=torch.int64), None
    if work.others is not None:
        parts, others = parts[:, :-1], parts[:, -1]
    if not keep:
        losses, factors = work.formula.together(parts[:, 0], work.formula(alone, label, *inputs))
        return losses[None].expand_as(parts[0]), factors[work.shard.rank]
    first, of_alone, *of_inputs = by_autograd(work.formula)(alone, label, *inputs)
    losses, factors = work.formula.together(parts[:, 0], first, others)
    shares = torch.where(factors[:, None] == 0, 0.0, factors[:, None] * parts[:, 1:])
    rest = 1 - factors.sum(0) if isinstance(work.formula, SumOf) else torch.zeros_like(losses)
    totals = shares.sum(0) + rest * torch.stack([of_alone[:, 0], *of_inputs])
    return torch.cat([losses[None], totals]), factors[work.shard.rank]


@dataclass
class _Slopes:
    """The derivatives by this rank's scores, and what makes gradients of them; samples in the order of forward.

    scores: (N, C / R), times ``factor`` (N,). own: in the place of those by the labels' scores, (n,), of the first n
    samples, whose classes are the rows ``labels`` here. pulls: derivatives by those rows' lengths, (n,), or None.
    """

    scores: Tensor
    factor: Tensor
    own: Tensor
    labels: Tensor
    inverse: Tensor
    nearest: Tensor
    x: Tensor
    pulls: Tensor | None

    def gradients(
        self, weight: Any, more: Tensor | None, bias: Tensor | None, wanted: Sequence[bool],
        take: Callable[[slice, Tensor], None] | None,
    ) -> list[Tensor | None]:  # fmt: skip
        """Return this rank's part of x's, and those of weight, more and bias.

        take: gets the weight's, some rows at a time and once dx has its part of them, so that it may change them.
        """
        dx = torch.zeros_like(self.x) if wanted[0] else None
        d_weight = torch.empty_like(weight) if wanted[1] and take is None else None
        d_more = torch.empty_like(more) if more is not None and wanted[2] else None
        d_bias = torch.empty_like(bias) if bias is not None and wanted[3] else None
        for part in blocks(weight, BLOCK_SHARE):
            slopes = self._block(part)
            if d_bias is not None:
                d_bias[part] = slopes.sum(0)
            for k in range(1 if more is None else 1 + len(more)):
                center = weight if more is None or k == 0 else more[k - 1]
                rows, by_dots, inverse = center[part].to(slopes.dtype), *self._of_center(slopes, part, k)
                if dx is not None:
                    dx.addmm_(by_dots, rows)
                whole = d_weight if k == 0 else None if d_more is None else d_more[k - 1]
                if take is not None and k == 0:
                    take(part, self._of_rows(part, rows, by_dots, inverse))
                elif whole is not None:
                    whole[part] = self._of_rows(part, rows, by_dots, inverse)
        return [dx, d_weight, d_more, d_bias]

    def _block(self, part: slice) -> Tensor:
        """The derivatives by some classes' scores, (N, c), those by the labels' own among them."""
        slopes = self.scores[:, part] * self.factor[:, None]  # not in place: backward may come twice (retain_graph)
        here, inside, column = self._places(part, slopes.shape[1])
        slopes[:here].scatter_(1, column, torch.where(inside, self.own[:, None], slopes[:here].gather(1, column)))
        return slopes

    def _places(self, part: slice, classes: int) -> tuple[int, Tensor, Tensor]:
        """How many samples have their class on this rank, whether among these classes, and where."""
        column = (self.labels - part.start)[:, None]
        inside = (column >= 0) & (column < classes)
        return len(self.labels), inside, column.clamp(0, classes - 1)

    def _of_center(self, slopes: Tensor, part: slice, k: int) -> tuple[Tensor, Tensor | None]:
        """The derivatives by the dot products with the k-th centers, and 1 / |w|, where there is one."""
        if self.nearest.dim():
            inverse = self.inverse[k, part]
            return torch.where(self.nearest[:, part] == k, slopes * inverse, 0.0), inverse
        if self.inverse.dim():
            return slopes.mul_(self.inverse[part]), self.inverse[part]
        return slopes, None

    def _of_rows(self, part: slice, rows: Tensor, by_dots: Tensor, inverse: Tensor | None) -> Tensor:
        """The gradient of some classes' rows, (c, D)."""
        gradient = by_dots.t() @ self.x
        if inverse is not None:
            along = (gradient * rows).sum(1) * inverse.square()
            gradient.addcmul_(rows, along[:, None], value=-1)
        if self.pulls is not None:
            _, inside, column = self._places(part, len(rows))
            own = rows.index_select(0, column[:, 0])
            length = torch.linalg.vector_norm(own, dim=1)
            pull = torch.where(inside[:, 0] & (length > 0), self.pulls / length, 0.0)
            gradient.index_add_(0, column[:, 0], own * pull[:, None])
        return gradient
