"""Moving numbers without changing them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Concat(nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *x: Tensor) -> Tensor:
        return torch.cat(x, self.axis)


class Slice(nn.Module):
    def __init__(self, axis: int, points: list[int], parts: int) -> None:
        super().__init__()
        self.axis, self.points, self.parts = axis, points, parts

    def forward(self, x: Tensor) -> list[Tensor]:
        if self.points:
            return list(x.tensor_split(self.points, self.axis))
        return list(x.split(x.shape[self.axis] // self.parts, self.axis))


class Reshape(nn.Module):
    """Axes [start, end) become ``dims``; 0 copies the axis at that place."""

    def __init__(self, dims: list[int], start: int, end: int) -> None:
        super().__init__()
        self.dims, self.start, self.end = dims, start, end

    def forward(self, x: Tensor) -> Tensor:
        middle = [x.shape[self.start + i] if dim == 0 else dim for i, dim in enumerate(self.dims)]
        return x.reshape((*x.shape[: self.start], *middle, *x.shape[self.end :]))


class Crop(nn.Module):
    def __init__(self, offsets: dict[int, int]) -> None:
        super().__init__()
        self.offsets = offsets

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        for axis, offset in self.offsets.items():
            x = x.narrow(axis, offset, reference.shape[axis])
        return x


class Tile(nn.Module):
    def __init__(self, repeats: list[int]) -> None:
        super().__init__()
        self.repeats = repeats

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat(self.repeats)


class Permute(nn.Module):
    def __init__(self, order: list[int]) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order).contiguous()


class ShuffleChannel(nn.Module):
    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        folded = x.reshape(batch, self.group, channels // self.group, height, width)
        return folded.transpose(1, 2).reshape(batch, channels, height, width)


class Split(nn.Module):
    def __init__(self, copies: int) -> None:
        super().__init__()
        self.copies = copies

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        return x if self.copies == 1 else [x] * self.copies


class Silence(nn.Module):
    def forward(self, *x: Tensor) -> list[Tensor]:
        return []


class Parameter(nn.Module):
    """A learned blob as a top."""

    weight: Tensor

    def forward(self) -> Tensor:
        # A copy, so that writing to the top never changes the weight.
        return self.weight * 1
