"""The likeness of boxes, and the gradients that MobileNet-YOLO writes for it (src/caffe/layers/yolov3_layer.cpp).

Boxes are (x, y, w, h) around their center. The measures are those of the papers on GIoU (arXiv 1902.09630) and on DIoU
and CIoU (1911.08287); the gradients are darknet's, which leaves out factors that the derivatives have.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def overlaps_around(boxes: Tensor, others: Tensor) -> Tensor:
    """Return intersection over union of every box (A, 4) with each of ``others`` (B, 4)."""
    low = torch.maximum((boxes[:, :2] - boxes[:, 2:] / 2)[:, None], others[:, :2] - others[:, 2:] / 2)
    high = torch.minimum((boxes[:, :2] + boxes[:, 2:] / 2)[:, None], others[:, :2] + others[:, 2:] / 2)
    common = (high - low).clamp_min(0).prod(-1)
    return common / (boxes[:, 2:].prod(-1)[:, None] + others[:, 2:].prod(-1) - common)


def alike(boxes: Tensor, others: Tensor, kind: str) -> Tensor:
    """Compare every box (A, 4) with each of ``others`` (B, 4): 1 for the same; ``kind`` is GIOU, DIOU, CIOU, or the
    overlap."""
    overlap = overlaps_around(boxes, others)
    if kind not in ("GIOU", "DIOU", "CIOU"):
        return overlap
    low = torch.minimum((boxes[:, :2] - boxes[:, 2:] / 2)[:, None], others[:, :2] - others[:, 2:] / 2)
    high = torch.maximum((boxes[:, :2] + boxes[:, 2:] / 2)[:, None], others[:, :2] + others[:, 2:] / 2)
    if kind == "GIOU":
        around = (high - low).prod(-1)
        areas = boxes[:, 2:].prod(-1)[:, None] + others[:, 2:].prod(-1)
        return overlap - (around - areas / (1 + overlap)) / around
    apart = (boxes[:, None, :2] - others[:, :2]).square().sum(-1) / (high - low).square().sum(-1)
    if kind == "DIOU":
        return overlap - apart**0.6
    shape = _angle(others)[None] - _angle(boxes)[:, None]
    shape = 4 / math.pi**2 * shape.square()
    return overlap - (apart + shape / (1 - overlap + shape + 1e-6) * shape)


def _angle(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] / boxes[:, 3]).atan()


def step_towards(box: Tensor, goal: Tensor, kind: str) -> Tensor:
    """Return darknet's slope of the likeness along (x, y, w, h) of ``box``, both (4,)."""
    low, high = box[:2] - box[2:] / 2, box[:2] + box[2:] / 2
    goal_low, goal_high = goal[:2] - goal[2:] / 2, goal[:2] + goal[2:] / 2
    inner = torch.minimum(high, goal_high) - torch.maximum(low, goal_low)
    outer = torch.maximum(high, goal_high) - torch.minimum(low, goal_low)
    area, common = box[2:].prod(), inner.prod()
    union = area + goal[2:].prod() - common
    cross_box, cross_inner, cross_outer = box[2:].flip(0), inner.flip(0), outer.flip(0)
    # Along the low and the high sides, x before y: of the intersection, the union and the box around both.
    inner_low, inner_high = -cross_inner * (low > goal_low), cross_inner * (high < goal_high)
    union_low, union_high = -cross_box - inner_low, cross_box - inner_high
    slope_low = (union * inner_low - common * union_low) / union**2
    slope_high = (union * inner_high - common * union_high) / union**2
    if not union > 0:
        slope_low, slope_high = torch.zeros_like(low), torch.zeros_like(low)
    apart = bool((inner <= 0).any())
    if kind == "GIOU":
        around = outer.prod()
        outer_low, outer_high = -cross_outer * (low < goal_low), cross_outer * (high > goal_high)
        extra_low = (around * union_low - union * outer_low) / around**2
        extra_high = (around * union_high - union * outer_high) / around**2
        slope_low = extra_low if apart else slope_low + extra_low
        slope_high = extra_high if apart else slope_high + extra_high
    step = torch.cat([slope_low + slope_high, slope_high - slope_low])
    if kind not in ("DIOU", "CIOU"):
        return step
    distance, diagonal = (box[:2] - goal[:2]).square().sum(), outer.square().sum()
    beyond = (high > goal_high).to(box.dtype) - (low < goal_low).to(box.dtype)
    widened = ((high > goal_high).to(box.dtype) + (low < goal_low).to(box.dtype)) / 2
    move = (2 * (goal[:2] - box[:2]) * diagonal - 2 * outer * beyond * distance) / diagonal**2
    grow = 2 * outer * widened * distance / diagonal**2
    if kind == "CIOU":
        angle = _angle(goal[None])[0] - _angle(box[None])[0]
        shape = 4 / math.pi**2 * angle.square()
        weight = shape / (1 - common / union + shape + 1e-6)
        turn = 8 / math.pi**2 * angle * box[2:].flip(0) * box.new_tensor([1.0, -1.0])
        grow = grow + weight * turn
    extra = torch.cat([move, grow])
    return extra if apart else step + extra
