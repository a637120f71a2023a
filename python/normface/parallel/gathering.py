"""The whole batch, from the ranks' samples: as many as each has, or none.

R ranks, N samples in all, n of them on a rank, D features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import TrainingError
from ..losses.checks import INTEGERS
from ..losses.class_shard import ClassShard

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def gathered(
    shard: ClassShard, embeddings: Tensor, labels: Tensor, sample_weight: Tensor | None, size: int, averaged: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return all ranks' embeddings (N, D), labels (N,) and sample weights (N,) or None, in the ranks' order.

    size: D; averaged: what comes of the embeddings' gradients is averaged over the ranks, where it is to be summed.

    Raises TrainingError on every rank where one rank's samples are none, or not of the same kind as the others'.
    """
    problem = _problem(embeddings, labels, sample_weight, size)
    if shard.size == 1:  # nobody to ask, and no device to wait for
        if problem:
            raise TrainingError(problem)
        return embeddings, labels, sample_weight
    facts = torch.zeros(5, dtype=torch.int64, device=embeddings.device)
    if not problem:
        grad = embeddings.requires_grad and torch.is_grad_enabled()
        kind = DTYPES.index(embeddings.dtype)
        facts = facts.new_tensor([len(embeddings), grad, sample_weight is not None, kind, 1])
    table = shard.gather(facts).tolist()
    if problem:
        raise TrainingError(problem)
    for rank, theirs in enumerate(table):
        if not theirs[4]:
            raise TrainingError(f"rank {rank} was given no samples that fit; its own error says why")
        if theirs[2:4] != table[0][2:4]:
            raise TrainingError(
                f"ranks 0 and {rank} were given samples of two kinds: expected sample weights on all or none, and "
                f"embeddings of one dtype, got {_words(table[0])} and {_words(theirs)}"
            )
    counts = [theirs[0] for theirs in table]
    if any(theirs[1] for theirs in table) and not embeddings.requires_grad:
        embeddings = embeddings.detach().requires_grad_()  # as all of the others do: they wait for its gradient
    whole: Tensor = _Gathered.apply(shard, counts, shard.size if averaged else 1, embeddings)
    weights = None if sample_weight is None else _rows(shard, counts, sample_weight.to(embeddings.device))
    return whole, _rows(shard, counts, labels.to(embeddings.device, torch.int64)), weights


class _Gathered(torch.autograd.Function):
    """The rows of all ranks; the gradient, which all have alike, is that of this rank's rows, times ``factor``."""

    @staticmethod
    def forward(ctx: Any, shard: ClassShard, counts: list[int], factor: int, own: Tensor) -> Tensor:
        first = sum(counts[: shard.rank])
        ctx.rows, ctx.factor = slice(first, first + counts[shard.rank]), factor
        return _rows(shard, counts, own)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None, Tensor]:
        return None, None, None, gradient[ctx.rows] * ctx.factor


def _rows(shard: ClassShard, counts: list[int], own: Tensor) -> Tensor:
    padded = own.new_zeros(max(counts), *own.shape[1:])
    padded[: len(own)] = own.detach()
    return torch.cat([part[:count] for part, count in zip(shard.gather(padded), counts, strict=True)])


def _problem(embeddings: Tensor, labels: Tensor, sample_weight: Tensor | None, size: int) -> str:
    """Return what is wrong with a rank's samples, before anything is sent; the losses check their values."""
    if embeddings.dim() != 2 or embeddings.shape[1] != size or embeddings.dtype not in DTYPES:
        return f"expected floating-point embeddings (N, {size}), got {tuple(embeddings.shape)} of {embeddings.dtype}"
    if labels.shape != embeddings.shape[:1] or labels.dtype not in INTEGERS:
        return f"expected {len(embeddings)} whole-number labels, got {tuple(labels.shape)} of {labels.dtype}"
    if sample_weight is not None and sample_weight.shape != labels.shape:
        return f"expected a sample_weight of {len(embeddings)} numbers, got {tuple(sample_weight.shape)}"
    return ""


def _words(facts: list[int]) -> str:
    return f"{DTYPES[facts[3]]} {'with' if facts[2] else 'without'} sample weights"
