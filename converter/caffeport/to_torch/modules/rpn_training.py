"""The anchors and regions that Faster R-CNN trains on (see caffeport.operators.rpn_training). No gradient passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .detection_training import drawn
from .proposals import check_batch, overlaps

if TYPE_CHECKING:
    from ...operators.anchors import Anchors
    from ...operators.rpn_training import AnchorChoice, RegionChoice

STD = (0.1, 0.1, 0.2, 0.2)
"""The configuration's standard deviations of box targets; its means are 0."""


class AnchorTarget(nn.Module):
    def __init__(self, anchors: Anchors, choice: AnchorChoice) -> None:
        super().__init__()
        self.anchors, self.choice = anchors, choice

    @torch.no_grad()
    def forward(self, scores: Tensor, truth: Tensor, info: Tensor, *_: Tensor) -> list[Tensor]:
        check_batch(scores)
        choice, (height, width) = self.choice, scores.shape[2:]
        truth, info = truth.reshape(len(truth), -1).double(), info.reshape(-1).double()
        boxes = self._anchors(height, width, info)
        inside = (boxes[:, :2] >= -choice.border).all(1) & (boxes[:, 2:] < info[[1, 0]] + choice.border).all(1)
        places = inside.nonzero()[:, 0]
        own = boxes[places]
        label, match = self._labels(own, truth)
        target = box_targets(own, truth[match, :4]) if len(own) else own
        if choice.normalize:
            target = target / target.new_tensor(STD)
        positive, negative = label == 1, label == 0
        weight = torch.zeros_like(label, dtype=torch.double)
        if choice.positive_weight < 0:
            weight[label >= 0] = 1.0 / (label >= 0).sum().double()
        else:
            weight[positive] = choice.positive_weight / positive.sum().double()
            weight[negative] = (1 - choice.positive_weight) / negative.sum().double()
        columns = torch.cat([target, positive[:, None].expand(-1, 4), weight[:, None].expand(-1, 4)], 1)
        every = boxes.new_zeros(len(boxes), 12)
        every[places] = columns
        labels = torch.full_like(every[:, 0], -1.0)
        labels[places] = label.double()
        count = len(self.anchors)
        labels = labels.reshape(1, height, width, count).permute(0, 3, 1, 2).reshape(1, 1, -1, width)
        maps = [part.reshape(1, height, width, 4 * count).permute(0, 3, 1, 2) for part in every.split(4, 1)]
        return [part.to(scores.dtype) for part in (labels, *maps)]

    def _anchors(self, height: int, width: int, like: Tensor) -> Tensor:
        """Return corners (H W A, 4) of all anchors."""
        size, center = like.new_tensor(self.anchors.sizes), like.new_tensor(self.anchors.centers)
        first = torch.cat([center - size / 2, center + size / 2 - 1], 1)
        rows, columns = (torch.arange(n, device=like.device) * self.anchors.stride for n in (height, width))
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        return (torch.stack([x, y, x, y], -1)[:, :, None] + first).reshape(-1, 4)

    def _labels(self, boxes: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Return (1, 0 or -1 for each box; the true box that it overlaps most)."""
        choice = self.choice
        label = torch.full((len(boxes),), -1, device=boxes.device)
        if not len(boxes) or not len(truth):
            return label, label.clamp_min(0)
        shared = overlaps(boxes, truth[:, :4])
        most, match = shared.max(1)
        background = most < choice.negative_overlap
        if not choice.clobber_positives:
            label[background] = 0
        label[(shared == shared.amax(0)).any(1) | (most >= choice.positive_overlap)] = 1
        if choice.clobber_positives:
            label[background] = 0
        wanted = int(choice.fg_fraction * choice.batch_size)
        for value in (1, 0):
            places = (label == value).nonzero()[:, 0]
            if len(places) > wanted:
                label[places] = -1
                label[drawn(places, wanted)] = value
            wanted = choice.batch_size - int((label == 1).sum())
        return label, match

    def extra_repr(self) -> str:
        return f"{len(self.anchors)} anchors, {self.choice}"


def box_targets(boxes: Tensor, truth: Tensor) -> Tensor:
    """Return the deltas (R, 4) that make the true boxes of the boxes; widths are x2 - x1 + 1."""
    sizes = [array[:, 2:] - array[:, :2] + 1 for array in (boxes, truth)]
    centers = [array[:, :2] + 0.5 * size for array, size in zip((boxes, truth), sizes, strict=True)]
    return torch.cat([(centers[1] - centers[0]) / sizes[0], (sizes[1] / sizes[0]).log()], 1)


class RegionTarget(nn.Module):
    def __init__(self, choice: RegionChoice) -> None:
        super().__init__()
        self.choice = choice

    @torch.no_grad()
    def forward(self, regions: Tensor, truth: Tensor) -> list[Tensor]:
        choice, dtype = self.choice, regions.dtype
        truth = truth.reshape(len(truth), 5)
        own = torch.cat([truth.new_zeros(len(truth), 1), truth[:, :4]], 1)
        rows = torch.cat([regions.reshape(-1, 5), own])
        most, match = overlaps(rows[:, 1:].double(), truth[:, :4].double()).max(1)
        positives = (most >= choice.fg_thresh).nonzero()[:, 0]
        negatives = ((most < choice.bg_thresh_hi) & (most >= choice.bg_thresh_lo)).nonzero()[:, 0]
        if choice.batch_size > 0:
            positives = drawn(positives, round(choice.fg_fraction * choice.batch_size))
            negatives = drawn(negatives, choice.batch_size - len(positives))
        chosen = torch.cat([positives, negatives])
        rows, match = rows[chosen], match[chosen]
        label = truth[match, 4]
        label[len(positives) :] = 0
        target = box_targets(rows[:, 1:], truth[match, :4])
        if choice.normalize:
            target = target / target.new_tensor(STD)
        first = (label.clamp_max(1) if choice.agnostic else label).long()[:, None] * 4
        places = first + torch.arange(4, device=rows.device)
        positive = (label > 0)[:, None]
        targets = rows.new_zeros(len(rows), 4 * choice.classes).scatter(1, places, torch.where(positive, target, 0.0))
        weights = torch.zeros_like(targets).scatter(1, places, positive.expand(-1, 4).to(dtype))
        return [top[:, :, None, None] for top in (rows, label[:, None], targets, weights, weights.clone())]

    def extra_repr(self) -> str:
        return str(self.choice)
