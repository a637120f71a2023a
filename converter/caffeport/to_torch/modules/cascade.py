"""Cascade R-CNN's and MS-CNN's boxes (see caffeport.operators.cascade and map_boxes). No gradient passes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .suppression import not_suppressed

if TYPE_CHECKING:
    from ...operators.cascade import Spread
    from ...operators.map_boxes import Fields, MapSelection


class DecodeBBox(nn.Module):
    """``gt_iou_thr`` is None in the TEST phase, where every box is kept."""

    def __init__(self, spread: Spread, gt_iou_thr: float | None) -> None:
        super().__init__()
        self.spread, self.gt_iou_thr = spread, gt_iou_thr

    @torch.no_grad()
    def forward(self, deltas: Tensor, regions: Tensor, truth: Tensor | None = None) -> Tensor:
        regions = regions.reshape(-1, 5)
        boxes = decoded(deltas.reshape(-1, 8)[:, 4:], regions[:, 1:], self.spread)
        rows = torch.cat([regions[:, :1], boxes], 1)
        if self.gt_iou_thr is not None:
            mask = (boxes[:, 2:] >= boxes[:, :2]).all(1)
            if truth is not None:
                mask &= truth.reshape(len(rows), -1)[:, -1] < self.gt_iou_thr
            rows = rows[mask]
        return rows[:, :, None, None]

    def extra_repr(self) -> str:
        return str(self.spread)


def decoded(deltas: Tensor, regions: Tensor, spread: Spread) -> Tensor:
    """Return boxes (..., 4) that deltas make of regions (..., 4)."""
    deltas = deltas * deltas.new_tensor(spread.std) + deltas.new_tensor(spread.mean)
    low, high = regions[..., :2], regions[..., 2:]
    size = high - low + 1
    center = deltas[..., :2] * size + (low + high) * 0.5
    grown = size * deltas[..., 2:].exp() - 1
    first = center - grown * 0.5
    return torch.cat([first, first + grown], -1)


class ScaleRoute(nn.Module):
    def __init__(self, least: float, most: float, middle: float) -> None:
        super().__init__()
        self.least, self.most, self.middle = least, most, middle

    @torch.no_grad()
    def forward(self, *x: Tensor) -> Tensor | list[Tensor]:
        regions = x[0].reshape(-1, 5)
        sides = regions[:, 3:] - regions[:, 1:3]
        area = torch.where((sides >= 0).all(1), (sides + 1).prod(1), 0)
        scale = area.sqrt()
        chosen = ((scale >= self.least) & (scale < self.most)).nonzero()[:, 0]
        if not len(chosen):
            chosen = (scale * (1 / self.middle)).log().abs().argmin()[None]
        tops = [bottom[chosen].reshape(len(chosen), *(*bottom.shape[1:], 1, 1, 1)[:3]) for bottom in x]
        return tops[0] if len(tops) == 1 else tops

    def extra_repr(self) -> str:
        return f"{self.least} to {self.most}, middle {self.middle}"


def overlaps(boxes: Tensor, others: Tensor, mode: str, whole_pixels: bool) -> Tensor:
    """Return what each box (A, 4) shares with each other (B, 4) over the union (IOU), the smaller (IOMU) or the first
    (IOFU).

    whole_pixels: widths are x2 - x1 + 1, and boxes that only touch, or are the wrong way round, share nothing.
    """
    low = torch.maximum(boxes[:, None, :2], others[:, :2])
    high = torch.minimum(boxes[:, None, 2:], others[:, 2:])
    extra = 1.0 if whole_pixels else 0.0
    common = (high - low + extra).prod(-1)
    shares = high > low
    if whole_pixels:  # Caffe lets columns touch, but not rows
        shares = torch.stack([high[..., 0] >= low[..., 0], shares[..., 1]], -1)
    valid = [(array[:, 2:] >= array[:, :2] if whole_pixels else array[:, 2:] > array[:, :2]).all(1)
             for array in (boxes, others)]  # fmt: skip
    common = torch.where(shares.all(-1) & valid[0][:, None] & valid[1], common, 0)
    first, second = ((array[:, 2:] - array[:, :2] + extra).prod(1) for array in (boxes, others))
    first = first[:, None].expand_as(common)
    below = {"IOU": first + second - common, "IOMU": torch.minimum(first, second), "IOFU": first}[mode]
    return torch.where(common > 0, common / below, 0)


def paired_overlaps(low: Tensor, size: Tensor, other: Tensor, other_size: Tensor, whole_pixels: bool) -> Tensor:
    """Return the overlap (intersection over union) of boxes (..., 2) with those of the same place; 0 where one has no
    area.

    whole_pixels: sizes count both end pixels, and boxes have to share a pixel.
    """
    extra = 1.0 if whole_pixels else 0.0
    ends = torch.minimum(low + size - extra, other + other_size - extra)
    common = ends - torch.maximum(low, other)
    shares = (common >= 0 if whole_pixels else common > 0) & (size > 0) & (other_size > 0)
    shared = torch.where(shares.all(-1), (common + extra).prod(-1), 0.0)
    union = size.prod(-1) + other_size.prod(-1) - shared
    return torch.where(shared > 0, shared / union, 0.0)


class FrcnnOutput(nn.Module):
    """``suppression`` is (conf_thr, iou_thr, nms_type, max_det_num)."""

    def __init__(self, spread: Spread, class_aware: bool, suppression: tuple[float, float, str, int]) -> None:
        super().__init__()
        self.spread, self.class_aware, self.suppression = spread, class_aware, suppression

    @torch.no_grad()
    def forward(self, scores: Tensor, deltas: Tensor, regions: Tensor, size: Tensor) -> Tensor:
        confidence, threshold, mode, most = self.suppression
        rows = len(scores)
        scores, regions, size = scores.reshape(rows, -1), regions.reshape(rows, -1)[:, 1:5], size.reshape(-1)
        boxes = decoded(deltas.reshape(rows, -1, 4), regions[:, None], self.spread)
        boxes = torch.cat([boxes[..., :2].clamp_min(0), torch.minimum(boxes[..., 2:], size[[1, 0]])], -1)
        parts = []
        for label in range(1, scores.shape[1]):
            chosen = (scores[:, label] >= confidence).nonzero()[:, 0]
            chosen = chosen[scores[chosen, label].sort(descending=True, stable=True).indices]
            own = boxes[chosen, label if self.class_aware else 1]
            indices = not_suppressed(own, threshold, partial(overlaps, mode=mode, whole_pixels=True))
            score = scores[chosen[indices], label, None]
            image, name = torch.zeros_like(score), torch.full_like(score, label)
            parts.append(torch.cat([image, own[indices], name, score], 1))
        detections = torch.cat(parts)
        if most and len(detections) > most:
            best = detections[:, 6].sort(descending=True, stable=True).indices[:most]
            detections = detections[best.sort().values]
        first = detections.new_tensor([[0.0, *[-1.0] * 6]])
        return torch.cat([first, detections])[:, :, None, None]

    def extra_repr(self) -> str:
        return f"class_aware={self.class_aware}, {self.suppression}"


class _MapBoxes(nn.Module):
    def __init__(self, fields: Sequence[Fields], selection: MapSelection, tops: int) -> None:
        super().__init__()
        self.fields, self.selection, self.tops = fields, selection, tops

    def corners(self, deltas: Tensor, fields: Fields) -> Tensor:
        """Return the clipped boxes (N, G H W, 4) of deltas (N, G, 4, H, W)."""
        chosen, stride = self.selection, fields.stride
        height, width = deltas.shape[3:]
        deltas = deltas.permute(0, 1, 3, 4, 2)  # (N, G, H, W, 4)
        deltas = deltas * deltas.new_tensor(chosen.spread.std) + deltas.new_tensor(chosen.spread.mean)
        move, grow = (part.clamp(-bound, bound) for part, bound in zip(deltas.split(2, -1), chosen.bounds, strict=True))
        size = deltas.new_tensor(fields.sizes)[:, None, None]
        rows, columns = (
            (torch.arange(n, device=deltas.device, dtype=deltas.dtype) + 0.5) * stride for n in (height, width)
        )
        middle = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
        grown = size * grow.exp()
        low = move * size + middle - grown * 0.5
        limit = deltas.new_tensor([width * stride, height * stride])
        if chosen.whole_pixels:
            high = torch.minimum(low + grown - 1, limit)
            low = low.clamp_min(0)
        else:
            low = low.clamp_min(0)
            high = low + torch.minimum(grown, limit - low)
        return torch.cat([low, high], -1).reshape(len(deltas), -1, 4)

    def rows(self, boxes: Tensor, scores: Tensor) -> Tensor | list[Tensor]:
        """Return the tops, from boxes (N, K, 4) and scores (N, K) of all maps."""
        chosen, parts = self.selection, []
        sides = boxes[..., 2:] - boxes[..., :2] + (1.0 if chosen.whole_pixels else 0.0)
        valid = (sides >= chosen.min_size).all(-1) & (scores >= chosen.least_score)
        for image in range(len(boxes)):
            order = valid[image].nonzero()[:, 0]
            order = order[scores[image, order].sort(descending=True, stable=True).indices]
            order = order[: chosen.most[0] or None]
            measure = partial(overlaps, mode=chosen.nms_type, whole_pixels=chosen.whole_pixels)
            order = order[not_suppressed(boxes[image, order], chosen.threshold, measure, most=chosen.most[1])]
            score = scores[image, order, None]
            parts.append(torch.cat([torch.full_like(score, image), boxes[image, order], score], 1))
        rows = torch.cat(parts)
        tops = [rows[:, :5], rows]
        if not len(rows):
            tops = [boxes.new_tensor([[0.0, 1, 1, 10, 10]]), boxes.new_zeros(1, 6)]
        tops = [top[:, :, None, None] for top in tops]
        return tops if self.tops > 1 else tops[0]

    def extra_repr(self) -> str:
        return f"{self.fields}, {self.selection}"


class BoxGroupOutput(_MapBoxes):
    @torch.no_grad()
    def forward(self, *x: Tensor) -> Tensor | list[Tensor]:
        boxes, scores = [], []
        for fields, prob, deltas in zip(self.fields, x[::2], x[1::2], strict=True):
            group = len(fields.sizes)
            boxes.append(self.corners(deltas.reshape(-1, group, *deltas.shape[1:]), fields))
            scores.append((1 - prob[:, 0]).reshape(len(prob) // group, -1))
        return self.rows(torch.cat(boxes, 1), torch.cat(scores, 1))


class BoxOutput(_MapBoxes):
    @torch.no_grad()
    def forward(self, *x: Tensor) -> Tensor | list[Tensor]:
        boxes, scores = [], []
        for fields, bottom in zip(self.fields, x, strict=True):
            boxes.append(self.corners(bottom[:, None, -4:], fields))
            scores.append((bottom[:, 1:-4].amax(1) - bottom[:, 0]).reshape(len(bottom), -1))
        # Backwards, so that of equal scores the last comes first.
        return self.rows(torch.cat(boxes, 1).flip(1), torch.cat(scores, 1).flip(1))
