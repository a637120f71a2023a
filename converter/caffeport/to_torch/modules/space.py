"""Resizes, and numbers moved between space and channels or batch (see caffeport.operators.resize and space)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from ...operators.resize import ResizeSize


class ResizeNearest(nn.Module):
    """Copy pixels by one of the fork's rules; ``first`` is the first spatial axis."""

    def __init__(self, rule: str, size: ResizeSize, first: int) -> None:
        super().__init__()
        self.rule, self.size, self.first = rule, size, first

    def forward(self, x: Tensor) -> Tensor:
        from ...operators.resize import nearest_places

        old = tuple(x.shape[self.first : self.first + len(self.size.fixed)])
        for axis, (size, top) in enumerate(zip(old, self.size.of(old), strict=True), self.first):
            places = nearest_places(self.rule, size, top)
            x = x.index_select(axis, torch.as_tensor(places, device=x.device))
        return x

    def extra_repr(self) -> str:
        return f"{self.rule}, {self.size}"


class ResizeLinear(nn.Module):
    """Interpolate linearly along every spatial axis, one after another."""

    def __init__(self, rule: str, size: ResizeSize, first: int) -> None:
        super().__init__()
        self.rule, self.size, self.first = rule, size, first

    def _place(self, size: int, top: int, x: Tensor) -> Tensor:
        i = torch.arange(top, dtype=x.dtype, device=x.device)
        if self.rule == "align_corners" and top > 1:
            return i * ((size - 1) / (top - 1))
        if self.rule == "half_pixel_centers" or (self.rule == "pytorch_half_pixel" and top > 1):
            return (i + 0.5) * (size / top) - 0.5
        return i * (size / top)  # for a top of one pixel, the first

    def forward(self, x: Tensor) -> Tensor:
        old = tuple(x.shape[self.first : self.first + len(self.size.fixed)])
        for axis, (size, top) in enumerate(zip(old, self.size.of(old), strict=True), self.first):
            place = self._place(size, top, x)
            low = place.floor()
            share = (place - low).reshape(-1, *[1] * (x.dim() - axis - 1))
            below = x.index_select(axis, low.long().clamp(0, size - 1))
            above = x.index_select(axis, place.ceil().long().clamp(0, size - 1))
            x = below + (above - below) * share
        return x

    def extra_repr(self) -> str:
        return f"{self.rule}, {self.size}"


class DepthToSpace(nn.Module):
    """Channels in the order row, column, channel; they are the last axis or axis 1."""

    def __init__(self, block: int, last: bool) -> None:
        super().__init__()
        self.block, self.last = block, last

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2) if self.last else x
        x = x.unflatten(1, (self.block, self.block, -1)).permute(0, 3, 4, 1, 5, 2)
        x = x.flatten(4, 5).flatten(2, 3)
        return x.permute(0, 2, 3, 1) if self.last else x

    def extra_repr(self) -> str:
        return f"{self.block}, {'NHWC' if self.last else 'NCHW'}"


class SpaceToDepth(nn.Module):
    """Undo what DepthToSpace does."""

    def __init__(self, block: int, last: bool) -> None:
        super().__init__()
        self.block, self.last = block, last

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2) if self.last else x
        x = x.unflatten(3, (-1, self.block)).unflatten(2, (-1, self.block))
        x = x.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
        return x.permute(0, 2, 3, 1) if self.last else x

    def extra_repr(self) -> str:
        return f"{self.block}, {'NHWC' if self.last else 'NCHW'}"


class SpaceToBatch(nn.Module):
    def __init__(self, blocks: list[int], before: list[int], after: list[int]) -> None:
        super().__init__()
        self.blocks, self.before, self.after = blocks, before, after

    def forward(self, x: Tensor) -> Tensor:
        axes = len(self.blocks)
        pads = [0, 0] * (x.dim() - 1 - axes)
        for before, after in zip(reversed(self.before), reversed(self.after), strict=True):
            pads += [before, after]
        x = F.pad(x, pads)
        rest = x.dim() - 1 - axes
        for axis in reversed(range(axes)):
            x = x.unflatten(axis + 1, (-1, self.blocks[axis]))
        order = [*range(2, 2 * axes + 1, 2), 0, *range(1, 2 * axes, 2), *range(2 * axes + 1, 2 * axes + 1 + rest)]
        return x.permute(order).flatten(0, axes)

    def extra_repr(self) -> str:
        return f"{self.blocks}, {self.before}, {self.after}"


class BatchToSpace(nn.Module):
    def __init__(self, blocks: list[int], before: list[int], after: list[int]) -> None:
        super().__init__()
        self.blocks, self.before, self.after = blocks, before, after

    def forward(self, x: Tensor) -> Tensor:
        axes, rank = len(self.blocks), x.dim()
        x = x.unflatten(0, (*self.blocks, x.shape[0] // math.prod(self.blocks)))
        order = [axes]
        for axis in range(axes):
            order += [axes + 1 + axis, axis]
        x = x.permute(*order, *range(2 * axes + 1, axes + rank))
        for axis in range(axes):
            x = x.flatten(axis + 1, axis + 2)
        for axis, (before, after) in enumerate(zip(self.before, self.after, strict=True), 1):
            x = x.narrow(axis, before, x.shape[axis] - before - after)
        return x

    def extra_repr(self) -> str:
        return f"{self.blocks}, {self.before}, {self.after}"
