"""Pooling over regions (see caffeport.operators.region_pooling). No gradient reaches the regions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def rounded(x: Tensor) -> Tensor:
    """Round halves away from 0, as C's round; in float64, where adding a half is exact."""
    wide = x.double()
    return (wide.sign() * (wide.abs() + 0.5).floor()).to(x.dtype)


class ROIPooling(nn.Module):
    def __init__(self, pooled: tuple[int, int], spatial_scale: float, pad_ratio: float = 0.0) -> None:
        super().__init__()
        self.pooled, self.spatial_scale, self.pad_ratio = pooled, spatial_scale, pad_ratio

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        regions = regions.detach().reshape(-1, 5)
        pad = (regions[:, 3:] - regions[:, 1:3] + 1) * self.pad_ratio
        corners = torch.cat([regions[:, 1:3] - pad, regions[:, 3:] + pad], 1)
        corners = rounded(corners * self.spatial_scale)
        size = (corners[:, 2:] - corners[:, :2] + 1).clamp_min(1)
        rows = self._edges(corners[:, 1], size[:, 1], self.pooled[0], x.shape[2])
        columns = self._edges(corners[:, 0], size[:, 0], self.pooled[1], x.shape[3])
        pooled = [_pooled(x[int(n)], rows[i], columns[i]) for i, n in enumerate(regions[:, 0].tolist())]
        return torch.stack(pooled) if pooled else x.new_zeros(0, x.shape[1], *self.pooled)

    def _edges(self, start: Tensor, size: Tensor, bins: int, limit: int) -> Tensor:
        """Return (R, bins, 2): first row (or column) of each bin, and the one after its last."""
        bin_size = (size / bins)[:, None]
        index = torch.arange(bins + 1, device=size.device, dtype=size.dtype)
        edges = torch.stack([(index[:-1] * bin_size).floor(), (index[1:] * bin_size).ceil()], 2)
        return (edges + start[:, None, None]).clamp(0, limit).long()

    def extra_repr(self) -> str:
        return f"{self.pooled}, spatial_scale={self.spatial_scale}"


def _pooled(plane: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return maxima (C, bins, bins) of one image (C, H, W); the gradient goes to the first maximum, as in Caffe."""
    places, inside = zip(*(_places(edges) for edges in (rows, columns)), strict=True)
    tall, wide = places[0].shape[1], places[1].shape[1]
    if not tall or not wide:
        return plane.new_zeros(len(plane), len(rows), len(columns))
    down, across = (place.clamp_max(plane.shape[i + 1] - 1) for i, place in enumerate(places))
    values = plane[:, down[:, :, None, None], across]
    covered = inside[0][:, :, None, None] & inside[1]
    values = values.masked_fill(~covered, float("-inf"))  # (C, bins, tall, bins, wide)
    values = values.transpose(2, 3).reshape(len(plane), len(rows), len(columns), tall * wide)
    best = values.max(3).values
    filled = covered.any(3).any(1)
    return torch.where(filled, best, 0)


def _places(edges: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of each bin, all bins as long as the longest, and which of them belong to it."""
    length = int((edges[:, 1] - edges[:, 0]).max().clamp_min(0))
    places = edges[:, :1] + torch.arange(length, device=edges.device)
    return places, places < edges[:, 1:]


class PSROIPooling(nn.Module):
    def __init__(self, output_dim: int, group_size: int, spatial_scale: float) -> None:
        super().__init__()
        self.output_dim, self.group_size, self.spatial_scale = output_dim, group_size, spatial_scale

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        regions, group = regions.detach().reshape(-1, 5), self.group_size
        start = rounded(regions[:, 1:3]) * self.spatial_scale
        end = (rounded(regions[:, 3:]) + 1) * self.spatial_scale
        bin_size = ((end - start).clamp_min(0.1) / group)[:, :, None]
        index = torch.arange(group + 1, device=x.device, dtype=x.dtype)
        low = (index[:-1] * bin_size + start[:, :, None]).floor()  # (R, 2, G): x, y
        high = (index[1:] * bin_size + start[:, :, None]).ceil()
        columns, rows = (_covered(low[:, i], high[:, i], x.shape[3 - i]) for i in (0, 1))
        images = regions[:, :1].long() == torch.arange(len(x), device=x.device)
        maps = x.reshape(len(x), self.output_dim, group, group, *x.shape[2:])
        own_rows = images[:, None, :, None] * rows[:, :, None]
        total = torch.einsum("ndijhw,rinh->rdijw", maps, own_rows)
        total = torch.einsum("rdijw,rjw->rdij", total, columns)
        area = rows.sum(2)[:, :, None] * columns.sum(2)[:, None]
        return total / area.clamp_min(1)[:, None]

    def extra_repr(self) -> str:
        return f"{self.output_dim}, group_size={self.group_size}, spatial_scale={self.spatial_scale}"


def _covered(low: Tensor, high: Tensor, length: int) -> Tensor:
    """Return (R, G, length): 1 where the bin [low, high) covers the place."""
    places = torch.arange(length, device=low.device, dtype=low.dtype)
    return ((low[:, :, None] <= places) & (places < high[:, :, None])).to(low.dtype)
