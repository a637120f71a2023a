"""Which classes have scores in a step, and where the gradients of their weights go.

M rows of class weights on a rank, m of them in a step, D features, N samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from ..errors import TrainingError
from ..losses import CenterLoss, FaceLoss, Loss, MHELoss

if TYPE_CHECKING:
    from collections.abc import Iterable


class RowOptimizer(Protocol):
    """What makes the steps of rows: RowSGD. ``fused``: as their gradients come."""

    fused: bool

    def begin(self, weight: Tensor) -> None: ...
    def catch_up(self, weight: Tensor, rows: Tensor) -> None: ...
    def update(self, weight: Tensor, rows: Tensor | slice, gradient: Tensor) -> None: ...
    def settle(self) -> None: ...


class SampledRows(nn.Module):
    """All rows, or at ``rate`` below 1 the labels' and at random so many others that there are rate M of them.

    Partial FC (An et al. 2021). The draws follow from ``seed``, the rank and the count ``draws``, a buffer, so that a
    resumed training draws as one that was not broken. Gradients go into ``.grad`` in place, row-sparse ones where rows
    are sampled; with an ``optimizer`` that is fused they go there at once, and there is no ``.grad``.
    """

    draws: Tensor  # 0-D

    def __init__(self, rate: float, seed: int, rank: int) -> None:
        super().__init__()
        if not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise TrainingError(f"expected a sample_rate above 0, to 1, got {rate!r}")
        self.rate, self._seed, self._rank = float(rate), int(seed), rank
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))
        self.optimizer: RowOptimizer | None = None
        self._values: Tensor
        """The gradients of a step's rows (m, D), while they come."""

    def chosen(self, weight: Tensor, local: Tensor, keep: bool) -> Tensor | None:
        """See RowKeeper. Without gradients all rows are."""
        optimizer = self.optimizer
        if not keep or not weight.requires_grad:
            if optimizer is not None:
                optimizer.settle()
            return None
        if optimizer is not None:
            optimizer.begin(weight)
        if self.rate == 1:
            return None
        rows = self._draw(len(weight), local[local >= 0].unique())
        if optimizer is not None:
            optimizer.catch_up(weight, rows)
        return rows

    def _draw(self, rows: int, labels: Tensor) -> Tensor:
        mixed = (self._seed * 1_000_003 + int(self.draws)) * 1_000_003 + self._rank
        self.draws += 1
        generator = torch.Generator(labels.device).manual_seed(mixed % 2**63)
        others = torch.ones(rows, dtype=torch.bool, device=labels.device)
        others[labels] = False
        order = torch.randperm(rows, generator=generator, device=labels.device)
        number = max(0, round(self.rate * rows) - len(labels))
        return torch.cat([labels, order[others[order]][:number]]).sort().values

    def ready(self, weight: Tensor, rows: Tensor) -> None:
        """See RowKeeper."""
        if self.optimizer is not None and self.rate < 1:
            self.optimizer.catch_up(weight, rows)

    @torch.no_grad()
    def take(self, weight: Tensor, rows: Tensor | None, part: slice, gradient: Tensor) -> None:
        """See RowKeeper."""
        if self.optimizer is not None and self.optimizer.fused:
            self.optimizer.update(weight, part if rows is None else rows[part], gradient)
        elif rows is None:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            weight.grad[part] += gradient.to(weight.dtype)
        else:
            if part.start == 0:
                self._values = weight.new_empty(len(rows), weight.shape[1])
            self._values[part] = gradient
            if part.stop >= len(rows):  # one sum a backward pass: each copies what there is
                whole = torch.sparse_coo_tensor(
                    rows[None], self._values, weight.shape, is_coalesced=True, check_invariants=False
                )
                weight.grad = whole if weight.grad is None else weight.grad + whole
                del self._values

    def extra_repr(self) -> str:
        return f"rate {self.rate:g}"


def check_rows(losses: Iterable[Loss], what: str) -> None:
    """Raise TrainingError for losses whose class weights have other gradients than that of one row of scores a sample.

    what: the option that cannot be had with these.
    """
    for loss in losses:
        why = ""
        if isinstance(loss, (CenterLoss, MHELoss)):
            why = "reads class weights beside the scores"
        elif isinstance(loss, FaceLoss) and loss.label_smoothing:
            why = "with label_smoothing computes the scores twice"
        elif len(getattr(loss, "more", ())):
            why = "has sub-centers"
        elif getattr(getattr(loss, "bias", None), "ndim", 0):
            why = "has a bias"
        if why:
            raise TrainingError(f"{type(loss).__name__}: {why}, which does not go with {what}; leave one of them out")
