"""SGD of class weights row by row: fused with the backward pass, and late, but exactly, for rows that had no gradient.

torch's SGD has v' = m v + g + d w and w' = w - r v', with momentum m, decay d and rate r. Without a gradient that is
linear in (v, w), so that the steps a row has missed are one 2 x 2 matrix, the product of the steps' own, which is
applied when the row is next read: the numbers are those of a dense optimizer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from ..errors import TrainingError
from ..losses.blockwise import blocks
from ..losses.sharded import BLOCK_SHARE, Picked
from ..losses.sums import plain_losses
from .row_keeper import check_rows

if TYPE_CHECKING:
    from .head import ClassParallel

MOST_MISSED = 4096
"""Steps after which every row is brought up to date: the products of so many are kept."""


class RowSGD(torch.optim.Optimizer):
    """SGD with momentum of a class-parallel head's class weights; all else of the head, and the net, is another's.

    fused: each row's step is made within the backward pass, so that its gradient never exists whole: there is no
    ``.grad``, ``step()`` only counts, and a step has one backward pass (no accumulation, no clipping). The rate of
    param_groups is read in the backward pass, so a schedule sets it before. momentum_dtype: by default the weights';
    everything is computed in float32 or wider.

    With a sampled head rows are stepped when they are next read. ``settle()`` brings all up to date, which scores
    without gradients, ``state_dict`` and normface.parallel.save do by themselves; read ``weight`` after it.
    """

    def __init__(
        self, head: ClassParallel, lr: float, *, momentum: float = 0.9, weight_decay: float = 5e-4,
        fused: bool = False, momentum_dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        for name, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
            if not 0 <= value < float("inf"):
                raise TrainingError(f"RowSGD: expected {name} of 0 or more, got {value}")
        losses = list(plain_losses(head.loss))
        weights = list({id(one.weight): one.weight for one in losses if one.weight is not None}.values())
        if fused:
            check_rows(losses, "fused")
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.fused, self._lazy = fused, head.rows.rate < 1
        for weight in weights:
            self.state[weight]["momentum_buffer"] = torch.zeros_like(weight, dtype=momentum_dtype)
        self._steps, self._since = 0, 0  # made in all, and when all rows were last up to date
        self._missed = torch.eye(2, dtype=torch.float64)[None]  # of a row that is up to date since step since + i
        self._last: dict[Tensor, Tensor] = {
            weight: torch.zeros(len(weight), dtype=torch.int32, device=weight.device) for weight in weights
        }
        self._begun: set[int] = set()
        head.rows.optimizer = self
        head.shard.keeper = head.rows

    def begin(self, weight: Tensor) -> None:
        """Take note of a forward pass that will have a backward pass."""
        if self.fused and id(weight) in self._begun:
            raise TrainingError(
                "RowSGD: fused steps are made within the backward pass, so that there is one before each step(); "
                "with fused=False gradients add up"
            )
        self._begun.add(id(weight))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move the rows that have a gradient, unless that is done already, and count the step for the others."""
        for group in self.param_groups:
            for weight in group["params"]:
                gradient = weight.grad
                if gradient is None:
                    continue
                if gradient.is_sparse:
                    gradient = gradient.coalesce()
                    rows, values = gradient.indices()[0], gradient.values()
                    for part in blocks(values, BLOCK_SHARE):
                        self.update(weight, rows[part], values[part])
                else:
                    for part in blocks(weight, BLOCK_SHARE):
                        self.update(weight, part, gradient[part])
        self._begun.clear()
        self._count()

    @torch.no_grad()
    def update(self, weight: Tensor, rows: Tensor | slice, gradient: Tensor) -> None:
        """Make the step of some rows, that are up to date, by their gradient (c, D)."""
        group, momentum = self._group(weight), self.state[weight]["momentum_buffer"]
        w, v = weight.data[rows], momentum[rows]
        wide_w, wide_v = w.to(gradient.dtype), v.to(gradient.dtype)
        if group["momentum"]:
            sgd(
                [wide_w], [gradient], [wide_v], lr=group["lr"], momentum=group["momentum"],
                weight_decay=group["weight_decay"], dampening=0.0, nesterov=False, maximize=False, fused=True,
            )  # fmt: skip
        else:  # torch's keeps no momentum then
            torch.add(gradient, wide_w, alpha=group["weight_decay"], out=wide_v)
            wide_w.add_(wide_v, alpha=-group["lr"])
        if not isinstance(rows, slice) or wide_w is not w:
            weight.data[rows] = wide_w.to(w.dtype)
        if not isinstance(rows, slice) or wide_v is not v:
            momentum[rows] = wide_v.to(v.dtype)
        if self._lazy:
            self._last[weight][rows] = self._steps + 1

    @torch.no_grad()
    def catch_up(self, weight: Tensor, rows: Tensor) -> None:
        """Make the steps that these rows have missed."""
        if self._steps == self._since:
            return
        missed = self._missed.to(weight.device, non_blocking=True)
        late = rows[self._last[weight][rows] < self._steps]
        for part in blocks(Picked(weight, late), BLOCK_SHARE):
            self._make_missed(weight, late[part], missed)

    def _make_missed(self, weight: Tensor, rows: Tensor, missed: Tensor) -> None:
        momentum, last = self.state[weight]["momentum_buffer"], self._last[weight]
        wide = torch.promote_types(weight.dtype, torch.float32)
        steps = missed[(last[rows] - self._since).long()].to(wide)[..., None]  # (c, 2, 2, 1)
        v, w = momentum[rows].to(wide), weight.data[rows].to(wide)
        momentum[rows] = (steps[:, 0, 0] * v + steps[:, 0, 1] * w).to(momentum.dtype)
        weight.data[rows] = (steps[:, 1, 0] * v + steps[:, 1, 1] * w).to(weight.dtype)
        last[rows] = self._steps

    @torch.no_grad()
    def settle(self) -> None:
        """Bring all rows up to date."""
        if not self._lazy or self._steps == self._since:
            return
        for weight, last in self._last.items():
            missed = self._missed.to(weight.device, non_blocking=True)
            for part in blocks(weight, BLOCK_SHARE):
                rows = torch.arange(part.start, min(part.stop, len(weight)), device=weight.device)
                self._make_missed(weight, rows[last[part] < self._steps], missed)
        self._since, self._missed = self._steps, torch.eye(2, dtype=torch.float64)[None]

    def _count(self) -> None:
        self._steps += 1
        if not self._lazy:
            return
        group = self.param_groups[0]
        m, d, r = group["momentum"], group["weight_decay"], group["lr"]
        step = torch.tensor([[m, d], [-r * m, 1 - r * d]], dtype=torch.float64)
        self._missed = torch.cat([step @ self._missed, torch.eye(2, dtype=torch.float64)[None]])
        if len(self._missed) > MOST_MISSED:
            self.settle()

    def _group(self, weight: Tensor) -> dict[str, Any]:
        return next(group for group in self.param_groups if any(one is weight for one in group["params"]))

    def state_dict(self) -> dict[str, Any]:
        """Return torch's, of rows that are all up to date."""
        self.settle()
        return super().state_dict()


def settle(optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Bring the rows of those that are RowSGD up to date."""
    for optimizer in optimizers:
        if isinstance(optimizer, RowSGD):
            optimizer.settle()
