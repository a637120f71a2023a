"""SSD's modules, whose source goes into the written file as it stands here."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PriorBox(nn.Module):
    """SSD's default boxes (1, 2, 4 P) of a feature map, and their variances.

    A cell has for each of ``min_sizes`` a square, for the size between it and its
    ``max_sizes`` another, and for each of ``ratios`` an upright and a flat box.
    ``image`` and ``step``, (height, width), are None where forward's inputs tell them.
    """

    def __init__(
        self,
        min_sizes: list[float],
        max_sizes: list[float],
        ratios: list[float],
        flip: bool = True,
        clip: bool = False,
        offset: float = 0.5,
        variance: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2),
        image: tuple[int, int] | None = None,
        step: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.clip, self.offset, self.variance = clip, offset, variance
        self.image, self.step = image, step
        self.shapes: list[tuple[float, float]] = []
        for index, size in enumerate(map(int, min_sizes)):
            self.shapes.append((size, size))
            if max_sizes:
                between = (size * int(max_sizes[index])) ** 0.5
                self.shapes.append((between, between))
            for root in (ratio**0.5 for ratio in ratios):
                self.shapes.append((size / root, size * root))
                self.shapes += [(size * root, size / root)] if flip else []

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        height, width = self.image or image.shape[2:]
        rows, columns = x.shape[2:]
        down, across = self.step or (height / rows, width / columns)
        y = (torch.arange(rows, dtype=torch.float64) + self.offset) * down
        z = (torch.arange(columns, dtype=torch.float64) + self.offset) * across
        center = torch.stack(torch.meshgrid(z, y, indexing="xy"), -1)[:, :, None]
        half = torch.tensor(self.shapes, dtype=torch.float64).flip(1) / 2
        corners = torch.cat([center - half, center + half], -1)
        corners = corners / torch.tensor([width, height, width, height])
        if self.clip:
            corners = corners.clamp(0, 1)
        variance = torch.tensor(self.variance, dtype=torch.float64).expand_as(corners)
        return torch.stack([corners.flatten(), variance.flatten()])[None].to(x)


class DetectionOutput(nn.Module):
    """SSD's last layer: rows (1, 1, K, 7) of image, label, score and box's corners.

    Each class but the ``background`` keeps its ``top_k`` best scores above
    ``confidence``, of which no two overlap by more than ``overlap`` (times ``eta``
    after each box while above 0.5); an image keeps the best ``keep_top_k``; -1: all.
    """

    def __init__(
        self,
        num_classes: int,
        background: int = 0,
        code_type: str = "CENTER_SIZE",
        variance_in_target: bool = False,
        confidence: float = 0.01,
        overlap: float = 0.45,
        eta: float = 1.0,
        top_k: int = -1,
        keep_top_k: int = -1,
    ) -> None:
        super().__init__()
        self.num_classes, self.background = num_classes, background
        self.code_type, self.variance_in_target = code_type, variance_in_target
        self.confidence, self.overlap, self.eta = confidence, overlap, eta
        self.top_k, self.keep_top_k = top_k, keep_top_k

    def forward(self, loc: Tensor, conf: Tensor, prior: Tensor) -> Tensor:
        corners, variance = prior[0].reshape(2, -1, 4)
        loc = loc.reshape(len(loc), len(corners), -1, 4).transpose(1, 2)
        if not self.variance_in_target:
            loc = loc * variance
        boxes = self._decoded(loc, corners).expand(-1, self.num_classes, -1, -1)
        scores = conf.reshape(len(conf), len(corners), -1).transpose(1, 2)
        rows = []
        for image in range(len(scores)):
            label, place = self._chosen(boxes[image], scores[image])
            score, box = scores[image, label, place], boxes[image, label, place]
            front = [torch.full_like(score, image), label.to(score), score]
            rows.append(torch.cat([torch.stack(front, 1), box], 1))
        top = torch.cat(rows)
        if not len(top):
            top = conf.new_full((len(conf), 7), -1.0)
            top[:, 0] = torch.arange(len(conf))
        return top[None, None]

    def _decoded(self, loc: Tensor, corners: Tensor) -> Tensor:
        if self.code_type == "CORNER":
            return corners + loc
        low, high = corners.chunk(2, -1)
        size = high - low
        if self.code_type == "CORNER_SIZE":
            return corners + loc * size.repeat(1, 2)
        move, grow = loc.chunk(2, -1)
        center, half = move * size + (low + high) / 2, grow.exp() * size / 2
        return torch.cat([center - half, center + half], -1)

    def _chosen(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        labels, places = [], []
        for number in range(self.num_classes):
            if number == self.background:
                continue
            place = (scores[number] > self.confidence).nonzero()[:, 0]
            order = scores[number, place].sort(descending=True, stable=True).indices
            place = place[order[: self.top_k if self.top_k >= 0 else None]]
            place = place[self._apart(boxes[number, place])]
            labels.append(torch.full_like(place, number))
            places.append(place)
        label, place = torch.cat(labels), torch.cat(places)
        if 0 <= self.keep_top_k < len(label):
            order = scores[label, place].sort(descending=True, stable=True).indices
            best = order[: self.keep_top_k].sort().values
            label, place = label[best], place[best]
        return label, place

    def _apart(self, boxes: Tensor) -> list[int]:
        """Indices of the boxes, best first, that overlap none before by too much."""
        chosen: list[int] = []
        limit = self.overlap
        worst = boxes.new_zeros(len(boxes))
        for index, box in enumerate(boxes):
            if worst[index] > limit:
                continue
            chosen.append(index)
            worst = torch.maximum(worst, _overlaps(box, boxes))
            if self.eta < 1 and limit > 0.5:
                limit *= self.eta
        return chosen


def _overlaps(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of a box with every other."""
    low = torch.maximum(box[:2], others[:, :2])
    high = torch.minimum(box[2:], others[:, 2:])
    common = (high - low).clamp_min(0).prod(-1)
    area = (others[:, 2:] - others[:, :2]).prod(-1)
    union = (box[2:] - box[:2]).prod() + area - common
    return torch.where(common > 0, common / union, 0)
