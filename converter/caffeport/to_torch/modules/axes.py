"""Modules that turn, add, drop and repeat axes (see caffeport.operators.axes)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Reverse(nn.Module):
    def __init__(self, axes: list[int]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(self.axes)

    def extra_repr(self) -> str:
        return str(self.axes)


class Squeeze(nn.Module):
    def __init__(self, axes: list[int]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze(tuple(self.axes))

    def extra_repr(self) -> str:
        return str(self.axes)


class ExpandDims(nn.Module):
    """``places`` are those of the new axes in the result, in rising order."""

    def __init__(self, places: list[int]) -> None:
        super().__init__()
        self.places = places

    def forward(self, x: Tensor) -> Tensor:
        for place in self.places:
            x = x.unsqueeze(place)
        return x

    def extra_repr(self) -> str:
        return str(self.places)


class Stack(nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *x: Tensor) -> Tensor:
        return torch.stack(x, self.axis)


class Unstack(nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        parts = list(x.unbind(self.axis))
        return parts[0] if len(parts) == 1 else parts


class BroadcastTo(nn.Module):
    def __init__(self, shape: list[int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(self.shape).contiguous()

    def extra_repr(self) -> str:
        return str(self.shape)
