"""The messages between the ranks of a run, so that several devices train as one would.

Rank r of W has every W-th image of a batch, from its r-th on. All learn which images of the whole batch could be
read, and get all embeddings, in the batch's order; so each computes the loss of the whole batch: a mean over the
images that are there, and center steps and counters that one device would have. Then the gradients are summed up.
A rank whose images are all unreadable does the same with no embedding of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import LostRankError
from .class_rows import sharded

BUCKET = 1 << 23
"""Numbers of gradients that are sent at once; a larger tensor goes by itself."""


LostRank = LostRankError
"""The name that it had before."""


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Raise LostRankError for errors of the connection within."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        said = " ".join(str(error).split())[:200]
        raise LostRankError(f"the connection to another rank broke ({said})") from error


class Ranks:
    """All ranks of ``fabric``; with one everything is as it is."""

    def __init__(self, fabric: Any) -> None:
        self._fabric, self.size, self.rank = fabric, fabric.world_size, fabric.global_rank
        self.leads: bool = fabric.is_global_zero
        self.share = slice(self.rank, None, self.size)
        """Return this rank's images of each batch."""

    def kept(self, own: Sequence[np.ndarray], bad: dict[int, str], told: set[int]) -> list[np.ndarray]:
        """Masks of whole batches, from those of this rank's shares of them. ``bad`` becomes that of all ranks.

        told: the numbers of ``bad`` that all know of, which is kept up.
        """
        if self.size == 1:
            return list(own)
        new = {index: reason for index, reason in list(bad.items()) if index not in told}
        flags = np.append(np.concatenate(own), bool(new)).astype(np.uint8)
        mine = torch.from_numpy(flags).to(self._fabric.device)
        with connected():
            gathered = [torch.empty_like(mine) for _ in range(self.size)]
            dist.all_gather(gathered, mine)
            table = torch.stack(gathered).cpu().numpy().astype(bool)
            if table[:, -1].any():
                everyones: list[dict[int, str]] = [{} for _ in range(self.size)]
                dist.all_gather_object(everyones, new)
                for reasons in everyones:
                    for index, reason in reasons.items():
                        bad.setdefault(index, reason)
                    told.update(reasons)
        # (W, batches, share) -> (batches, share, W): the batch's order.
        shares = table[:, :-1].reshape(self.size, len(own), -1)
        return list(shares.transpose(1, 2, 0).reshape(len(own), -1))

    def embeddings(self, own: Tensor, kept: np.ndarray) -> Tensor:
        """All embeddings of the batch, in its order, of which ``own`` (n, D) are this rank's and carry gradients."""
        if self.size == 1:
            return own
        owner = np.flatnonzero(kept) % self.size
        most = int(np.bincount(owner, minlength=self.size).max())
        mine = own.new_zeros(most, own.shape[1])
        mine[: len(own)] = own.detach()
        gathered = [torch.empty_like(mine) for _ in range(self.size)]
        with connected():
            dist.all_gather(gathered, mine)
        whole = own.new_empty(len(owner), own.shape[1])
        for rank, theirs in enumerate(gathered):
            rows = torch.from_numpy(np.flatnonzero(owner == rank)).to(own.device)
            whole = whole.index_copy(0, rows, own if rank == self.rank else theirs[: len(rows)])
        return whole

    def sum_gradients(self, trunk: nn.Module, loss: nn.Module) -> None:
        """The trunk's gradients, each rank's of its own images, summed; the loss's, which all have, kept equal."""
        if self.size == 1:
            return
        for parameter in trunk.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)  # all of this rank's images were unreadable
        rows = {id(parameter) for parameter in sharded(loss).values()}  # which no other rank has
        of_loss = [one.grad for one in loss.parameters() if one.grad is not None and id(one) not in rows]
        for gradient in of_loss:
            gradient.div_(self.size)
        with connected():
            for bucket in _buckets([*(p.grad for p in trunk.parameters() if p.grad is not None), *of_loss]):
                flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
                dist.all_reduce(flat)
                for gradient, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                    gradient.copy_(part.view_as(gradient))

    def average_statistics(self, trunk: nn.Module, images: int) -> None:
        """BatchNorm's statistics, of ranks that have seen ``images`` each: the mean over the images."""
        statistics = [buffer for buffer in trunk.buffers() if buffer.is_floating_point()]
        if self.size == 1 or not statistics:
            return
        flat = torch.cat([buffer.reshape(-1).double() for buffer in statistics])
        flat = torch.cat([flat * images, flat.new_tensor([images])])
        with connected():
            dist.all_reduce(flat)
        if flat[-1] > 0:
            means = (flat[:-1] / flat[-1]).split([buffer.numel() for buffer in statistics])
            for buffer, mean in zip(statistics, means, strict=True):
                buffer.copy_(mean.view_as(buffer))

    def mean(self, *numbers: float) -> list[float]:
        """The ranks' means, so that they agree on what follows from them."""
        if self.size == 1:
            return list(numbers)
        mine = torch.tensor(numbers, dtype=torch.float64, device=self._fabric.device)
        with connected():
            return [float(number) for number in self._fabric.all_reduce(mine, reduce_op="mean")]

    def from_leader(self, value: Any) -> Any:
        """The leading rank's value."""
        if self.size == 1:
            return value
        with connected():
            return self._fabric.broadcast(value)


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one dtype, about BUCKET numbers together."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        full = sum(t.numel() for t in bucket) + tensor.numel() > BUCKET
        if bucket and (full or bucket[0].dtype != tensor.dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
