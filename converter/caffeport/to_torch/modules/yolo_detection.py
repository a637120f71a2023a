"""The last layers of YOLO nets (see caffeport.operators.yolo_detection)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .detection import overlaps
from .suppression import not_suppressed


def cells(x: Tensor, anchors: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return (N, cells, anchors, numbers) of (N, anchors x numbers, H, W); each cell's place (cells, 1, 2), x before y;
    [W, H]."""
    height, width = x.shape[2:]
    numbers = x.reshape(len(x), anchors, -1, height * width).permute(0, 3, 1, 2)
    rows, columns = torch.meshgrid(
        torch.arange(height, device=x.device), torch.arange(width, device=x.device), indexing="ij"
    )
    place = torch.stack([columns, rows], -1).reshape(-1, 1, 2).to(x.dtype)
    return numbers, place, x.new_tensor([width, height])


def best_rows(boxes: Tensor, labels: Tensor, scores: Tensor, threshold: float, images: int) -> Tensor:
    """Return rows (1, 1, kept, 7) of candidates: boxes (K, 4) as center and size, labels and scores (K,)."""
    order = scores.detach().sort(descending=True, stable=True).indices
    center, half = boxes[order, :2], boxes[order, 2:] / 2
    corners = torch.cat([center - half, center + half], 1)
    # What overlaps by the threshold itself goes too: by more than the float before it.
    limit = float(np.nextafter(np.float32(threshold), np.float32(0)))
    indices = not_suppressed(corners, limit, overlaps)
    if not len(indices):
        nothing = boxes.new_full((images, 7), -1.0)
        nothing[:, 0] = torch.arange(images)
        return nothing[None, None]
    chosen = order[indices]
    front = torch.stack([torch.zeros_like(scores[chosen]), labels[chosen].to(scores.dtype) + 1, scores[chosen]], 1)
    return torch.cat([front, corners[indices]], 1)[None, None]


class YoloDetectionOutput(nn.Module):
    """``anchors`` are the width and height of every box, in cells."""

    def __init__(self, anchors: list[tuple[float, float]], classes: int, confidence: float, threshold: float) -> None:
        super().__init__()
        self.anchors, self.classes, self.confidence, self.threshold = anchors, classes, confidence, threshold

    def forward(self, *bottoms: Tensor) -> Tensor:
        parts = []
        for x in bottoms:
            numbers, place, size = cells(x, len(self.anchors))
            center = (place + numbers[..., :2].sigmoid()) / size
            extent = numbers[..., 2:4].exp() * x.new_tensor(self.anchors) / size
            share, label = numbers[..., 5:].softmax(-1).max(-1)
            score = numbers[..., 4].sigmoid() * share
            parts.append((torch.cat([center, extent], -1).reshape(-1, 4), label.flatten(), score.flatten()))
        boxes, labels, scores = (torch.cat(column) for column in zip(*parts, strict=True))
        good = scores >= self.confidence
        return best_rows(boxes[good], labels[good], scores[good], self.threshold, len(bottoms[0]))

    def extra_repr(self) -> str:
        return f"{len(self.anchors)} boxes, {self.classes} classes"


class Yolov3DetectionOutput(nn.Module):
    """``anchors`` are, for every scale, the width and height of every box, in cells."""

    def __init__(
        self, anchors: list[list[list[float]]], classes: int, confidence: float, threshold: float, gaussian: bool
    ) -> None:
        super().__init__()
        self.anchors, self.classes, self.confidence, self.threshold = anchors, classes, confidence, threshold
        self.gaussian = gaussian

    def forward(self, *bottoms: Tensor) -> Tensor:
        parts = []
        for x, anchors in zip(bottoms, self.anchors, strict=True):
            numbers, place, size = cells(x, len(anchors))
            if self.gaussian:
                means, unsure = numbers[..., :8:2], numbers[..., 1:8:2].sigmoid().mean(-1)
                thing, classes = numbers[..., 8].sigmoid() * (1 - unsure), numbers[..., 9:]
            else:
                means, thing, classes = numbers[..., :4], numbers[..., 4].sigmoid(), numbers[..., 5:]
            center = (place + means[..., :2].sigmoid()) / size
            extent = means[..., 2:].exp() * x.new_tensor(anchors) / size
            scores = classes.sigmoid() * thing[..., None]
            parts.append((torch.cat([center, extent], -1).reshape(-1, 4), scores.reshape(-1, self.classes)))
        boxes, scores = (torch.cat(column) for column in zip(*parts, strict=True))
        if self.threshold < 1:  # the same box for another class overlaps it altogether
            best, label = scores.max(1)
            good = best > self.confidence
            return best_rows(boxes[good], label[good], best[good], self.threshold, len(bottoms[0]))
        row, label = (scores > self.confidence).nonzero(as_tuple=True)
        return best_rows(boxes[row], label, scores[row, label], self.threshold, len(bottoms[0]))

    def extra_repr(self) -> str:
        return f"{len(self.anchors)} scales, {self.classes} classes"
