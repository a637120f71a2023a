"""SSD's default boxes and its last layer (see caffeport.operators.detection)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from .detection_sources import in_order
from .suppression import not_suppressed

if TYPE_CHECKING:
    from ...operators.detection_sources import Sources
    from ...operators.prior_box import PriorBoxes


class PriorBox(nn.Module):
    """The boxes depend on the two sizes alone; those of the last sizes are kept."""

    def __init__(self, boxes: PriorBoxes) -> None:
        super().__init__()
        self.boxes = boxes
        self._made: tuple[object, np.ndarray] | None = None

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        sizes = (x.shape[2], x.shape[3]), (image.shape[2], image.shape[3])
        if self._made is None or self._made[0] != sizes:
            self._made = sizes, self.boxes.blob(*sizes)
        return torch.tensor(self._made[1], dtype=x.dtype, device=x.device)

    def extra_repr(self) -> str:
        return str(self.boxes)


class DetectionOutput(nn.Module):
    """``code``: (code_type, variance_encoded_in_target); ``suppression``: (confidence_threshold, top_k,
    nms_threshold, eta); a negative top_k or keep_top_k keeps all. ``labels``: the classes but the background.
    ``arms``: (how many bottoms of RefineDet's first stage there are, objectness_score).

    Gradients reach the scores and boxes that are kept.
    """

    def __init__(
        self,
        sources: Sources,
        labels: list[int],
        share_location: bool,
        code: tuple[str, bool],
        suppression: tuple[float, int, float, float],
        keep_top_k: int,
        arms: tuple[int, float],
    ) -> None:
        super().__init__()
        self.sources, self.arms, self.objectness = sources, *arms
        self.num_classes, self.labels, self.share_location = sources.classes, labels, share_location
        self.code, self.suppression, self.keep_top_k = code, suppression, keep_top_k

    def forward(self, *bottoms: Tensor) -> Tensor:
        loc, conf, prior = in_order(self.sources, bottoms)
        arms = bottoms[3 : 3 + self.arms]
        corners, variance = prior[0].reshape(2, -1, 4)
        loc = loc.reshape(len(loc), len(corners), -1, 4).transpose(1, 2)  # (N, 1 or C, P, 4)
        if len(arms) > 1:
            corners = decoded(arms[1].reshape(len(loc), 1, -1, 4), corners, variance, *self.code)
        boxes = decoded(loc, corners, variance, *self.code)
        boxes = boxes.expand(-1, self.num_classes, -1, -1)
        scores = conf.reshape(len(conf), -1, self.num_classes).transpose(1, 2)  # (N, C, P)
        if arms:
            nothing = (torch.arange(self.num_classes, device=conf.device) == 0).to(conf.dtype)[:, None]
            weak = arms[0].reshape(len(conf), 1, -1, 2)[..., 1] < self.objectness
            scores = torch.where(weak, nothing, scores)
        rows = []
        for image in range(len(scores)):
            label, place = self._chosen(boxes[image].detach().cpu(), scores[image].detach().cpu())
            label, place = label.to(conf.device), place.to(conf.device)
            front = torch.stack([torch.full_like(label, image), label], 1).to(conf.dtype)
            columns = scores[image, label, place][:, None], boxes[image, label, place]
            rows.append(torch.cat([front, *columns], 1))
        top = torch.cat(rows)
        if not len(top):
            top = conf.new_full((len(conf), 7), -1.0)
            top[:, 0] = torch.arange(len(conf))
        return top[None, None]

    def _chosen(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return (labels, priors) that one image keeps, ordered by label and falling score."""
        confidence, top_k, threshold, eta = self.suppression
        labels, places = [], []
        for number in self.labels:
            candidates = (scores[number] > confidence).nonzero()[:, 0]
            order = scores[number, candidates].sort(descending=True, stable=True).indices
            candidates = candidates[order[: top_k if top_k >= 0 else None]]
            survivors = candidates[not_suppressed(boxes[number, candidates], threshold, overlaps, eta=eta)]
            labels.append(torch.full_like(survivors, number))
            places.append(survivors)
        label, place = torch.cat(labels), torch.cat(places)
        if 0 <= self.keep_top_k < len(label):
            best = scores[label, place].sort(descending=True, stable=True).indices[: self.keep_top_k]
            best = best.sort().values
            label, place = label[best], place[best]
        return label, place

    def extra_repr(self) -> str:
        return f"{self.num_classes} classes, {self.code[0]}, keep_top_k={self.keep_top_k}"


def decoded(loc: Tensor, corners: Tensor, variance: Tensor, code_type: str, in_target: bool) -> Tensor:
    """Return the boxes that offsets (..., P, 4) make of the priors ``corners`` (P, 4)."""
    if not in_target:
        loc = loc * variance
    if code_type == "CORNER":
        return corners + loc
    low, high = corners.chunk(2, -1)
    size = high - low
    if code_type == "CORNER_SIZE":
        return corners + loc * size.repeat(1, 2)
    move, grow = loc.chunk(2, -1)
    center, half = move * size + (low + high) / 2, grow.exp() * size / 2
    return torch.cat([center - half, center + half], -1)


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Return intersection over union of every box (A, 4) with every one of ``others`` (B, 4)."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    common = (torch.minimum(high, others[:, 2:]) - torch.maximum(low, others[:, :2])).clamp_min(0).prod(-1)
    union = (high - low).prod(-1) + (others[:, 2:] - others[:, :2]).prod(-1) - common
    return torch.where(common > 0, common / union, 0)
