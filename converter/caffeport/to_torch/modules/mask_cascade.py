"""Multi-task Network Cascades and CTPN (see caffeport.operators.mask_cascade and text_proposals)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...operators.text_proposals import text_anchors
from .proposals import check_batch
from .region_pooling import rounded
from .region_sampling import sampled


class ROIWarping(nn.Module):
    def __init__(self, pooled: tuple[int, int], spatial_scale: float) -> None:
        super().__init__()
        self.pooled, self.spatial_scale = pooled, spatial_scale

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        regions = regions.detach().reshape(-1, 5)
        corners = rounded(regions[:, 1:] * self.spatial_scale)
        size = (corners[:, 2:] - corners[:, :2]).clamp_min(0)
        warped = [
            self._warped(x, regions[i, 0].long(), corners[i], size[i]) for i in range(len(regions))
        ]  # one by one: the samples of all regions would fill the memory
        return torch.cat(warped) if warped else x.new_zeros(0, x.shape[1], *self.pooled)

    def _warped(self, x: Tensor, image: Tensor, corners: Tensor, size: Tensor) -> Tensor:
        points, counted = [], []
        for axis, bins in ((1, self.pooled[0]), (0, self.pooled[1])):
            place, inside = _samples(size[axis], bins)
            point = corners[axis] + place * (size[axis] / bins)
            points.append(point)
            counted.append(inside & (point >= -0.5) & (point <= x.shape[2 if axis else 3] - 0.5))
        values = sampled(x, image[None], points[0].reshape(1, -1), points[1].reshape(1, -1))
        values = values.reshape(1, x.shape[1], *points[0].shape, *points[1].shape)
        covered = counted[0][:, :, None, None] & counted[1]
        best = values.masked_fill(~covered, float("-inf")).amax((3, 5))
        return torch.where(covered.any(3).any(1), best, 0.0)

    def extra_repr(self) -> str:
        return f"{self.pooled}, spatial_scale={self.spatial_scale}"


def _samples(size: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Return (places in bins (bins, S), which of them belong to their bin), stepped as Caffe's loop steps."""
    steps = int((size / bins).ceil())
    first = torch.arange(bins, device=size.device, dtype=size.dtype)
    step = size.new_tensor(1.0) / steps if steps else size.new_tensor(1e30)
    places = [first]
    for _ in range(max(steps, 1)):
        places.append(places[-1] + step)
    place = torch.stack(places, 1)
    return place, place <= first[:, None] + 1


class StageBridge(nn.Module):
    @torch.no_grad()
    def forward(self, regions: Tensor, deltas: Tensor, scores: Tensor, info: Tensor) -> Tensor:
        rows = len(regions)
        regions, info = regions.reshape(rows, 5), info.reshape(-1)
        best = first_largest(scores.reshape(rows, -1))
        deltas = deltas.reshape(rows, -1, 4)[torch.arange(rows, device=deltas.device), best]
        low, high = regions[:, 1:3], regions[:, 3:]
        size = high - low + 1
        center = deltas[:, :2] * size + (low + size * 0.5)
        half = deltas[:, 2:].exp() * size * 0.5
        boxes = torch.minimum(torch.cat([center - half, center + half], 1), info[[1, 0, 1, 0]] - 1).clamp_min(0)
        return torch.cat([torch.zeros_like(regions[:, :1]), boxes], 1)


def first_largest(scores: Tensor) -> Tensor:
    """Return the first index of the largest number of each row."""
    return (scores == scores.amax(1, keepdim=True)).int().argmax(1)


class TextProposals(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    @torch.no_grad()
    def forward(self, scores: Tensor, deltas: Tensor, info: Tensor) -> list[Tensor]:
        check_batch(scores)
        anchors, (height, width) = deltas.new_tensor(text_anchors()), deltas.shape[2:]
        count = len(anchors)
        deltas = deltas.permute(0, 2, 3, 1).reshape(height, width, count, 2)
        rows, columns = (
            torch.arange(n, device=deltas.device, dtype=deltas.dtype) * self.stride for n in (height, width)
        )
        tall = anchors[:, 3] - anchors[:, 1] + 1
        stretched = deltas[..., 1].exp() * tall
        middle = rows[:, None, None] + (anchors[:, 1] + anchors[:, 3]) / 2
        top = deltas[..., 0] * tall + middle - stretched * 0.5
        left, right = ((columns[:, None] + anchors[:, i]).expand_as(top) for i in (0, 2))
        boxes = torch.stack([left, top, right, top + stretched], -1).reshape(-1, 4)
        limit = info.reshape(-1)[[1, 0, 1, 0]] - 1
        boxes = torch.minimum(boxes, limit).clamp_min(0)
        return [boxes, scores[:, count:].permute(0, 2, 3, 1).reshape(-1, 1)]

    def extra_repr(self) -> str:
        return f"stride={self.stride}"
