"""Which rows of the class weights a rank holds, and the messages between those that hold the others.

Every rank has the whole batch. What it computes of that alone, all compute alike, gradients too; what it computes
with its own class weights is a part: ``copied`` and ``summed`` stand where the one becomes the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import TrainingError
from .checks import checked_size

START_ROWS = 1024
"""Class weights that are drawn together: their first values depend on no number of ranks."""


class RowKeeper(Protocol):
    """What stands between the losses and the rows of a rank's class weights (M, D)."""

    def chosen(self, weight: Tensor, local: Tensor, keep: bool) -> Tensor | None:
        """Return the rows of this step's scores, (m,), rising and with those in ``local`` (N,); None for all rows.

        local: the labels' rows, -1 for none here. keep: whether there will be gradients. The rows' numbers are theirs.
        """

    def ready(self, weight: Tensor, rows: Tensor) -> None:
        """Bring some rows up to date, (c,), that are read beside the scores."""

    def take(self, weight: Tensor, rows: Tensor | None, part: slice, gradient: Tensor) -> None:
        """Take the gradient of a part of the step's rows, None for all, (c, D) in a wide dtype: each part once, in
        their order."""


class ClassShard:
    """The class weights ``first`` to ``first + count`` of ``num_classes``: this rank's, of the ranks of ``group``.

    Each of R ranks has ceil(C / R) rows, the last ones what is left, or none: torch's DTensor has the same Shard(0).
    group: of torch.distributed, by default all ranks; without a process group this process holds everything.
    ``keeper``: what chooses rows for a step and takes their gradients in autograd's place; None for nothing of it.
    """

    def __init__(self, num_classes: int, group: dist.ProcessGroup | None = None) -> None:
        self.num_classes = checked_size("num_classes", num_classes)
        together = dist.is_available() and dist.is_initialized()
        self.group = group
        self.keeper: RowKeeper | None = None
        self.rank, self.size = (dist.get_rank(group), dist.get_world_size(group)) if together else (0, 1)
        if self.rank < 0:
            raise TrainingError("this process is none of the process group that was given to hold the classes")
        most = -(-self.num_classes // self.size)
        self.first = min(self.rank * most, self.num_classes)
        self.count = min(most, self.num_classes - self.first)

    def __repr__(self) -> str:
        last = self.first + self.count
        return f"ClassShard({self.first} to {last} of {self.num_classes} classes, rank {self.rank} of {self.size})"

    def local(self, labels: Tensor) -> Tensor:
        """Return the rows of the labels' classes here, (N,); -1 of those that another rank holds."""
        rows = labels - self.first
        return torch.where((rows >= 0) & (rows < self.count), rows, -1)

    def held(self, local: Tensor) -> int:
        """Return how many of these rows, ``local`` of some labels, are here; a process alone waits for no device."""
        return len(local) if self.size == 1 else int((local >= 0).sum())

    def own_rows(self, whole: Tensor) -> Tensor:
        """Return this rank's rows of a tensor (C, ...) of all classes."""
        return whole[self.first : self.first + self.count]

    def gather(self, part: Tensor) -> Tensor:
        """Return every rank's, (R, ...), of equal shapes; without gradient."""
        part = part.detach().contiguous()
        if self.size == 1:
            return part[None]
        parts = [torch.empty_like(part) for _ in range(self.size)]
        dist.all_gather(parts, part, group=self.group)
        return torch.stack(parts)

    def gather_objects(self, one: str) -> list[str]:
        """Return every rank's text."""
        texts = [one] * self.size
        if self.size > 1:
            dist.all_gather_object(texts, one, group=self.group)
        return texts

    def sum(self, part: Tensor) -> Tensor:
        """Return the sum of the ranks' tensors, which takes the place of this one's; without gradient."""
        if self.size > 1:
            dist.all_reduce(part, group=self.group)
        return part

    def copied(self, whole: Tensor) -> Tensor:
        """What all have alike, as it is; its gradients, of which each rank finds a part, are summed."""
        copy: Tensor = _Copied.apply(self, whole)
        return copy

    def summed(self, part: Tensor) -> Tensor:
        """Return the sum of the ranks' parts; the gradient, which all have alike, is that of each part."""
        whole: Tensor = _Summed.apply(self, part)
        return whole

    def label_rows(self, weight: Tensor, labels: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the class weights of the labels, (N, D), whoever holds them; with gradient."""
        local = self.local(labels)
        here = local[local >= 0]
        if self.keeper is not None:
            self.keeper.ready(weight, here)
        rows = weight.index_select(0, here).to(dtype)
        part = rows.new_zeros(len(labels), weight.shape[1]).index_copy(0, (local >= 0).nonzero()[:, 0], rows)
        return self.summed(part)

    @torch.no_grad()
    def start_(self, weight: Tensor, start: Callable[[Tensor], Tensor]) -> None:
        """Fill this rank's rows (count, D), each by what the first rank's generator and its place among all say."""
        seed = torch.randint(2**62, ())
        if self.size > 1:
            seed = seed.to(weight.device)
            dist.broadcast(seed, group=self.group, group_src=0)
        number = int(seed)
        devices = [weight.device] if weight.device.type == "cuda" else []
        last = self.first + self.count
        with torch.random.fork_rng(devices):
            for block in range(self.first // START_ROWS, -(-last // START_ROWS)):
                torch.manual_seed((number + block) % 2**63)
                begin = block * START_ROWS
                drawn = start(weight.new_empty(min(START_ROWS, self.num_classes - begin), *weight.shape[1:]))
                low, high = max(begin, self.first), min(begin + len(drawn), last)
                weight[low - self.first : high - self.first] = drawn[low - begin : high - begin]


def checked_shard(name: str, shard: ClassShard | None, num_classes: int) -> ClassShard | None:
    """Return which rows a process holds; refuse what is none, or is of another number of classes."""
    if shard is None:
        return None
    if not isinstance(shard, ClassShard):
        raise TrainingError(f"{name}: expected a ClassShard of normface.parallel for shard, got {shard!r}")
    if shard.num_classes != num_classes:
        raise TrainingError(f"{name}: expected a shard of {num_classes} classes, got one of {shard.num_classes}")
    return shard


class _Copied(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shard: ClassShard, whole: Tensor) -> Tensor:
        ctx.shard = shard
        return whole.view_as(whole)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        refuse_second_derivative()
        return None, ctx.shard.sum(gradient.clone(memory_format=torch.contiguous_format))


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shard: ClassShard, part: Tensor) -> Tensor:
        return shard.sum(part.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def refuse_second_derivative() -> None:
    """Raise TrainingError in a backward pass that is to have a derivative itself."""
    if torch.is_grad_enabled():
        raise TrainingError("class-parallel losses have no second derivative (create_graph); one process has")
