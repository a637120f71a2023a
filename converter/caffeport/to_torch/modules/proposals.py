"""Region proposals (see caffeport.operators.proposals), and what boxes with both end pixels share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...errors import InputShapeError
from .suppression import not_suppressed

if TYPE_CHECKING:
    from ...operators.anchors import Anchors
    from ...operators.proposals import Selection


class RegionProposals(nn.Module):
    """Give rows [0, x1, y1, x2, y2] and, with two tops, their scores of ``score_axes`` axes; without a gradient."""

    def __init__(self, anchors: Anchors, selection: Selection, tops: int, score_axes: int) -> None:
        super().__init__()
        self.anchors, self.selection, self.tops, self.score_axes = anchors, selection, tops, score_axes

    @torch.no_grad()
    def forward(self, scores: Tensor, deltas: Tensor, info: Tensor) -> Tensor | list[Tensor]:
        check_batch(scores)
        chosen, info = self.selection, info.reshape(-1)
        boxes = moved_anchors(self.anchors, deltas)
        limit = info[[1, 0, 1, 0]] - 1
        boxes = torch.maximum(torch.minimum(boxes, limit), limit.new_zeros(()))
        scores = scores[:, len(self.anchors) :].permute(0, 2, 3, 1).reshape(-1)
        scale = info[[3, 2]] if chosen.own_scales else info[2]
        large = (boxes[:, 2:] - boxes[:, :2] + 1 >= chosen.min_size * scale).all(1)
        if chosen.keep_small:
            scores = scores * large
        else:
            boxes, scores = boxes[large], scores[large]
        order = scores.sort(descending=True, stable=True).indices
        order = order[: chosen.pre_top_n] if chosen.pre_top_n > 0 else order
        if chosen.threshold is not None:
            kept = not_suppressed(boxes[order], chosen.threshold, overlaps, most=chosen.post_top_n)
            order = order[kept]
        elif chosen.post_top_n > 0:
            order = order[: chosen.post_top_n]
        boxes, scores = boxes[order], scores[order]
        rows = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)
        if not len(rows) and chosen.fallback is not None:
            rows = boxes.new_tensor([chosen.fallback])
        scores = scores.reshape(-1, 1) if self.score_axes == 2 else scores
        return [rows, scores] if self.tops > 1 else rows

    def extra_repr(self) -> str:
        return f"{len(self.anchors)} anchors, stride={self.anchors.stride}, {self.selection}"


def check_batch(scores: Tensor) -> None:
    """Raise InputShapeError for maps of several images."""
    if len(scores) != 1:
        raise InputShapeError(f"proposals are made for one image at a time, got a batch of {len(scores)}")


def moved_anchors(anchors: Anchors, deltas: Tensor) -> Tensor:
    """Return boxes (H W A, 4), the anchor fastest, that deltas (1, 4 A, H, W) make of the anchors in each cell."""
    height, width = deltas.shape[2:]
    deltas = deltas.permute(0, 2, 3, 1).reshape(height, width, len(anchors), 4)
    size = deltas.new_tensor(anchors.sizes)
    shift_y, shift_x = torch.meshgrid(
        *(torch.arange(n, device=deltas.device, dtype=deltas.dtype) * anchors.stride for n in (height, width)),
        indexing="ij",
    )
    shift = torch.stack([shift_x, shift_y], -1)[:, :, None]
    center = deltas[..., :2] * size + (shift + deltas.new_tensor(anchors.centers))
    half = deltas[..., 2:].exp() * size * 0.5
    return torch.cat([center - half, center + half], -1).reshape(-1, 4)


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Return intersection over union of every box (A, 4) with every one of ``others`` (B, 4); both end pixels count."""
    low = torch.maximum(boxes[:, None, :2], others[:, :2])
    high = torch.minimum(boxes[:, None, 2:], others[:, 2:])
    common = (high - low + 1).clamp_min(0).prod(-1)
    areas = [(array[:, 2:] - array[:, :2] + 1).prod(-1) for array in (boxes, others)]
    return common / (areas[0][:, None] + areas[1] - common)
