"""The gradients' norm cut off (--clip-norm), where each rank may have gradients of class weights that no other has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .class_rows import shard_of, sharded
from .collectives import connected

EPSILON = 1e-6
"""It is added to the norm, outside the root, as torch.nn.utils.clip_grad_norm_ does."""


@torch.no_grad()
def clip(trunk: nn.Module, loss: nn.Module, most: float) -> Tensor:
    """Multiply all gradients by min(1, most / (|g| + EPSILON)); return |g|, 0-D, the norm of all of them together.

    Each rank has the same gradients, but for the rows of class weights that are its own: their squares are summed over
    the ranks. Every rank calls it.
    """
    shard, rows = shard_of(loss), {id(parameter) for parameter in sharded(loss).values()}
    own: list[Tensor] = []
    alike: list[Tensor] = []
    for one in (*trunk.parameters(), *loss.parameters()):
        if one.grad is not None:
            (own if id(one) in rows else alike).append(one.grad)
    squares = _squares(own, next(loss.parameters()).device)
    if shard is not None:
        with connected():
            squares = shard.sum(squares)
    norm = (squares + _squares(alike, squares.device)).sqrt()
    factor = (most / (norm + EPSILON)).clamp(max=1.0)
    for gradient in (*own, *alike):
        gradient.mul_(factor.to(gradient.dtype))
    return norm


def _squares(gradients: Sequence[Tensor], device: torch.device) -> Tensor:
    """Return the sum of the gradients' squares, 0-D, in float64."""
    total = torch.zeros((), dtype=torch.float64, device=device)
    for gradient in gradients:
        total += torch.linalg.vector_norm(gradient).double() ** 2
    return total
