"""Some places of an axis (see caffeport.operators.indexing)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ...operators.indexing import Span


class Gather(nn.Module):
    def __init__(self, indices: list[int], layout: tuple[int, ...], axis: int) -> None:
        super().__init__()
        self.indices, self.layout, self.axis = indices, layout, axis

    def forward(self, x: Tensor) -> Tensor:
        top = x.index_select(self.axis, torch.tensor(self.indices, device=x.device))
        return top.reshape(*x.shape[: self.axis], *self.layout, *x.shape[self.axis + 1 :])

    def extra_repr(self) -> str:
        return f"{self.indices}, axis={self.axis}"


class Spans(nn.Module):
    """A span of every axis."""

    def __init__(self, spans: list[Span]) -> None:
        super().__init__()
        self.spans = spans

    def forward(self, x: Tensor) -> Tensor:
        for axis in reversed(range(x.dim())):
            span = self.spans[axis]
            if not span.whole:
                first, count, step = span.of(x.shape[axis])
                places = torch.arange(count, device=x.device) * step + first
                x = x.index_select(axis, places)
                x = x.squeeze(axis) if span.single else x
        return x

    def extra_repr(self) -> str:
        return str(self.spans)
