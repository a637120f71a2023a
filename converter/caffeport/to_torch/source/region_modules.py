"""Pooling over regions, whose source goes into the written file as it stands here."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ROIPooling(nn.Module):
    """Maxima (R, C, h, w) of ``pooled`` bins of every region of x (N, C, H, W).

    A region (R, 5) is its image's number and its corners x, y, x, y in pixels of the
    image, of which ``spatial_scale`` makes pixels of x; a bin without a pixel is 0.
    """

    def __init__(self, pooled: tuple[int, int], spatial_scale: float) -> None:
        super().__init__()
        self.pooled, self.spatial_scale = pooled, spatial_scale

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        regions = regions.reshape(-1, 5)
        corners = rounded(regions[:, 1:] * self.spatial_scale)
        size = (corners[:, 2:] - corners[:, :2] + 1).clamp_min(1)
        rows = self._covered(corners[:, 1], size[:, 1], self.pooled[0], x.shape[2])
        columns = self._covered(corners[:, 0], size[:, 0], self.pooled[1], x.shape[3])
        top = x.new_zeros(len(regions), x.shape[1], *self.pooled)
        for index, image in enumerate(regions[:, 0].long().tolist()):
            empty = ~rows[index][:, :, None]
            best = x[image][:, None].masked_fill(empty, float("-inf")).amax(2)
            best = best[:, :, None].masked_fill(~columns[index], float("-inf")).amax(3)
            top[index] = best.masked_fill(best == float("-inf"), 0)
        return top

    def _covered(self, start: Tensor, size: Tensor, bins: int, length: int) -> Tensor:
        """(R, bins, length): whether a bin has the row, or the column."""
        edges = torch.arange(bins + 1).to(size) * (size / bins)[:, None]
        low = (edges[:, :-1].floor() + start[:, None])[:, :, None]
        high = (edges[:, 1:].ceil() + start[:, None])[:, :, None]
        place = torch.arange(length).to(size)
        return (low <= place) & (place < high)


class PSROIPooling(nn.Module):
    """Means (R, output_dim, G, G) of G x G bins of regions, each of its own channels.

    A region (R, 5) is its image's number and its corners x, y, x, y in pixels of the
    image, of which ``spatial_scale`` makes pixels of x; a bin without a pixel is 0.
    """

    def __init__(self, output_dim: int, group_size: int, spatial_scale: float) -> None:
        super().__init__()
        self.output_dim, self.group_size = output_dim, group_size
        self.spatial_scale = spatial_scale

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        regions, group = regions.reshape(-1, 5), self.group_size
        start = rounded(regions[:, 1:3]) * self.spatial_scale
        end = (rounded(regions[:, 3:]) + 1) * self.spatial_scale
        bin_size = ((end - start).clamp_min(0.1) / group)[:, :, None]
        index = torch.arange(group + 1).to(x)
        low = (index[:-1] * bin_size + start[:, :, None]).floor()[..., None]
        high = (index[1:] * bin_size + start[:, :, None]).ceil()[..., None]
        columns, rows = (
            ((low[:, i] <= place) & (place < high[:, i])).to(x)
            for i, place in enumerate(torch.arange(n).to(x) for n in x.shape[:1:-1])
        )
        maps = x.reshape(len(x), self.output_dim, group, group, *x.shape[2:])
        maps = maps[regions[:, 0].long()]
        total = torch.einsum("rdijhw,rih,rjw->rdij", maps, rows, columns)
        area = rows.sum(2)[:, :, None] * columns.sum(2)[:, None]
        return total / area.clamp_min(1)[:, None]


def rounded(x: Tensor) -> Tensor:
    """The nearest whole number; halves go away from 0."""
    wide = x.double()
    return (wide.sign() * (wide.abs() + 0.5).floor()).to(x.dtype)
