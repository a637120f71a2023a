"""Picking entries and images."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ArgMax(nn.Module):
    def __init__(self, axis: int | None, top_k: int, out_max_val: bool, rank: int) -> None:
        super().__init__()
        self.axis, self.top_k, self.out_max_val, self.rank = axis, top_k, out_max_val, rank

    def forward(self, x: Tensor) -> Tensor:
        axis = 1 if self.axis is None else self.axis
        if self.axis is None:
            x = x.reshape(x.shape[0], -1)
        # A stable sort of the reversed axis puts the larger index first among equal numbers.
        values, places = x.flip(axis).sort(dim=axis, descending=True, stable=True)
        values = values.narrow(axis, 0, self.top_k)
        indices = (x.shape[axis] - 1 - places.narrow(axis, 0, self.top_k)).to(x.dtype)
        if self.axis is not None:
            return values if self.out_max_val else indices
        rows = torch.stack([indices, values] if self.out_max_val else [indices], 1)
        return rows.reshape(*rows.shape, *[1] * (self.rank - 3))


class BatchReindex(nn.Module):
    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        return x.index_select(0, index.long())


class Filter(nn.Module):
    def forward(self, *x: Tensor) -> Tensor | list[Tensor]:
        rows = x[-1].reshape(-1).nonzero()[:, 0]
        tops = [bottom.index_select(0, rows) for bottom in x[:-1]]
        return tops[0] if len(tops) == 1 else tops
