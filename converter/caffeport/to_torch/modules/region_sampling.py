"""Features read bilinearly between the places of a map (see caffeport.operators.region_sampling)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...operators.region_sampling import resize_matrix


class ROIAlign(nn.Module):
    def __init__(self, pooled: tuple[int, int], spatial_scale: float, pad_ratio: float) -> None:
        super().__init__()
        self.pooled, self.spatial_scale, self.pad_ratio = pooled, spatial_scale, pad_ratio

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        regions = regions.detach().reshape(-1, 5)
        low, high = regions[:, 1:3], regions[:, 3:]
        pad = (high - low + 1) * self.pad_ratio
        start = (low - pad) * self.spatial_scale - 0.5
        end = (high + pad) * self.spatial_scale - 0.5
        extent = end - start
        step = extent / extent.new_tensor(self.pooled[::-1])
        columns, rows = (
            start[:, axis, None] + step[:, axis, None] * torch.arange(bins + 1, device=x.device, dtype=x.dtype)
            for axis, bins in enumerate(self.pooled[::-1])
        )
        wide = (extent > 0).all(1)
        return sampled(x, regions[:, 0].long(), rows, columns) * wide[:, None, None, None]

    def extra_repr(self) -> str:
        return f"{self.pooled}, spatial_scale={self.spatial_scale}, pad_ratio={self.pad_ratio}"


def sampled(x: Tensor, images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return (R, C, I, J): the map of images (R) at rows (R, I) and columns (R, J), 0 beyond half a place outside."""
    height, width = x.shape[2:]
    flat = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    places, shares, inside = [], [], []
    for points, length in ((rows, height), (columns, width)):
        positions = points.clamp(0, length - 1)
        low = positions.floor()
        upper = positions - low
        places.append((low.long(), (low + 1).clamp_max(length - 1).long()))
        shares.append((1 - upper, upper))
        inside.append((points >= -0.5) & (points <= length - 0.5))
    start = (images * height * width)[:, None, None]
    covered = inside[0][:, :, None] & inside[1][:, None]
    total = x.new_zeros(())
    for row, down in zip(places[0], shares[0], strict=True):
        for column, across in zip(places[1], shares[1], strict=True):
            values = flat[start + (row * width)[:, :, None] + column[:, None]]
            total = total + values * (down[:, :, None] * across[:, None] * covered)[..., None]
    return total.permute(0, 3, 1, 2)


class MaskResize(nn.Module):
    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (
            torch.tensor(resize_matrix(old, new), dtype=x.dtype, device=x.device)
            for old, new in zip(x.shape[2:], (self.height, self.width), strict=True)
        )
        return rows @ x @ columns.T

    def extra_repr(self) -> str:
        return f"{self.height}, {self.width}"


class MaskPooling(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * mask
