"""The losses that YOLO nets train with (see caffeport.operators.yolo_loss)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .gradients import given_gradient
from .yolo_detection import cells

if TYPE_CHECKING:
    from ...operators.yolo_loss import RegionLossParameter, Yolov3Parameter


def overlaps_around(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of every box (A, 4) with each of ``others`` (B, 4), all (x, y, w, h) around a center."""
    low = torch.maximum((boxes[:, :2] - boxes[:, 2:] / 2)[:, None], others[:, :2] - others[:, 2:] / 2)
    high = torch.minimum((boxes[:, :2] + boxes[:, 2:] / 2)[:, None], others[:, :2] + others[:, 2:] / 2)
    common = (high - low).clamp_min(0).prod(-1)
    return common / (boxes[:, 2:].prod(-1)[:, None] + others[:, 2:].prod(-1) - common)


def until_zero(labels: Tensor, column: int) -> Tensor:
    """The rows of (T, 5) before the first that has 0 in that column."""
    zeros = (labels[:, column] == 0).nonzero()
    return labels[: int(zeros[0])] if len(zeros) else labels


class _YoloLoss(nn.Module):
    """``anchors``: width and height of every box, in cells."""

    def __init__(self, anchors: list[list[float]], classes: int, thresh: float) -> None:
        super().__init__()
        self.anchors, self.classes, self.thresh = anchors, classes, thresh

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        numbers, place, size = cells(x.detach(), len(self.anchors))
        labels = label.detach().to(x.dtype).reshape(len(x), -1, 5)
        anchors = x.new_tensor(self.anchors)
        active = self.activated(numbers)
        center = (place + self.place_in_cell(active)) / size
        boxes = torch.cat([center, active[..., 2:4].exp() * anchors / size], -1)
        delta = torch.zeros_like(active)
        for image in range(len(x)):
            near = overlaps_around(boxes[image].reshape(-1, 4), until_zero(labels[image], 1)[:, 1:])
            far = ~(near > self.thresh).any(1).reshape(delta.shape[1:3])
            delta[image, ..., 4] = torch.where(far, self.no_object(active[image, ..., 4]), 0)
            for row in until_zero(labels[image], 3):
                cell = (row[1:3] * size).long().clamp_min(0)
                cell = torch.minimum(cell, size.long() - 1)
                self.place_label(delta[image], active[image], boxes[image], row, cell, size, anchors)
        height, width = x.shape[2:]
        slope = (delta * self.slope(active)).permute(0, 2, 3, 1).reshape(len(x), -1, height, width)
        return given_gradient(x, delta.square().sum() / len(x), slope / len(x))

    def activated(self, numbers: Tensor) -> Tensor:
        """Numbers (N, cells, boxes, 5 + classes) as the loss compares them."""
        raise NotImplementedError

    def place_in_cell(self, active: Tensor) -> Tensor:
        """Where the center is in its cell, of these numbers."""
        raise NotImplementedError

    def no_object(self, score: Tensor) -> Tensor:
        """d of the score of a box that should have no object."""
        raise NotImplementedError

    def place_label(
        self, delta: Tensor, active: Tensor, boxes: Tensor, row: Tensor, cell: Tensor, size: Tensor, anchors: Tensor
    ) -> None:
        """Set d of the boxes that stand for one label; all of one image."""
        raise NotImplementedError

    def slope(self, active: Tensor) -> Tensor | float:
        """What the gradient has beside d."""
        return 1.0

    def extra_repr(self) -> str:
        return f"{len(self.anchors)} boxes, {self.classes} classes, thresh={self.thresh}"


class RegionLoss(_YoloLoss):
    """``p``: region_loss_param."""

    def __init__(self, p: RegionLossParameter) -> None:
        anchors = [[p.biases[2 * i], p.biases[2 * i + 1]] for i in range(p.num)]
        super().__init__(anchors, p.num_class, p.thresh)
        self.p = p

    def activated(self, numbers: Tensor) -> Tensor:
        parts = [numbers[..., :4], numbers[..., 4:5].sigmoid(), numbers[..., 5:].softmax(-1)]
        return torch.cat(parts, -1)

    def place_in_cell(self, active: Tensor) -> Tensor:
        return active[..., :2].sigmoid()

    def no_object(self, score: Tensor) -> Tensor:
        return self.p.noobject_scale * score * score * (1 - score)

    def place_label(
        self, delta: Tensor, active: Tensor, boxes: Tensor, row: Tensor, cell: Tensor, size: Tensor, anchors: Tensor
    ) -> None:
        p, spot = self.p, int(cell[1] * size[0] + cell[0])
        shapes = (anchors / size) if p.bias_match else boxes[spot, :, 2:]
        shape = torch.cat([torch.zeros_like(row[1:3]), row[3:]])
        best = int(overlaps_around(torch.cat([torch.zeros_like(shapes), shapes], 1), shape[None])[:, 0].argmax())
        guess = active[spot, best]
        overlap = overlaps_around(boxes[spot, best][None], row[None, 1:])[0, 0]
        scale = p.coord_scale * (1.0 if p.rescore else 2 - row[3] * row[4])
        place = guess[:2].sigmoid()
        delta[spot, best, :2] = -scale * (row[1:3] * size - cell - place) * place * (1 - place)
        delta[spot, best, 2:4] = -scale * ((row[3:] * size / anchors[best]).log() - guess[2:4])
        goal = overlap if p.rescore else 1.0
        delta[spot, best, 4] = -p.object_scale * (goal - guess[4]) * guess[4] * (1 - guess[4])
        target = torch.zeros_like(guess[5:])
        target[int(row[0])] = 1
        delta[spot, best, 5:] = -p.class_scale * (target - guess[5:])


class Yolov3(_YoloLoss):
    """``p``: yolov3_param."""

    def __init__(self, p: Yolov3Parameter) -> None:
        self.all = [
            [p.biases[2 * i] / p.anchors_scale, p.biases[2 * i + 1] / p.anchors_scale]
            for i in range(len(p.biases) // 2)
        ]
        super().__init__([self.all[number] for number in p.mask[: p.num]], p.num_class, p.thresh)
        self.p = p

    def activated(self, numbers: Tensor) -> Tensor:
        return torch.cat([numbers[..., :2].sigmoid(), numbers[..., 2:4], numbers[..., 4:].sigmoid()], -1)

    def place_in_cell(self, active: Tensor) -> Tensor:
        return active[..., :2]

    def no_object(self, score: Tensor) -> Tensor:
        return score

    def place_label(
        self, delta: Tensor, active: Tensor, boxes: Tensor, row: Tensor, cell: Tensor, size: Tensor, anchors: Tensor
    ) -> None:
        p, spot = self.p, int(cell[1] * size[0] + cell[0])
        shapes = row.new_tensor(self.all) / size
        shape = torch.cat([torch.zeros_like(row[1:3]), row[3:]])
        shared = overlaps_around(torch.cat([torch.zeros_like(shapes), shapes], 1), shape[None])[:, 0]
        best, mask = int(shared.argmax()), p.mask[: p.num]
        if best in mask:
            best = mask.index(best)  # which the definition goes on to compare with numbers of biases
            self._assign(delta[spot, best], active[spot, best], row, cell, size, anchors[best])
        for number in range(len(self.all)):
            if number in mask and number != best and p.iou_thresh < 1 and shared[number] > p.iou_thresh:
                one = mask.index(number)
                self._assign(delta[spot, one], active[spot, one], row, cell, size, anchors[one])

    def _assign(self, delta: Tensor, guess: Tensor, row: Tensor, cell: Tensor, size: Tensor, anchor: Tensor) -> None:
        """Set d (5 + classes,) of one box that stands for the label ``row``."""
        p, label = self.p, int(row[0])
        scale = p.coord_scale * (2 - row[3] * row[4])
        delta[:2] = -scale * (row[1:3] * size - cell - guess[:2])
        delta[2:4] = -scale * ((row[3:] * size / anchor).log() - guess[2:4])
        delta[4] = -(1 - guess[4]) * (p.object_scale if p.use_logic_gradient else 1.0)
        rest, classes = delta[5:], guess[5:]
        target = torch.zeros_like(classes)
        target[label] = 1
        smooth = target * (1 - p.label_smooth_eps) + 0.5 * p.label_smooth_eps
        if rest[label] != 0:
            rest[label] = -p.class_scale * (smooth[label] - classes[label])
        elif p.use_focal_loss:
            score = classes[label] + 1e-15
            focus = -(1 - score) * (2 * score * score.log() + score - 1)
            rest[:] = -p.class_scale * (target - classes) * 0.5 * focus
        else:
            rest[:] = -p.class_scale * (smooth - classes)

    def slope(self, active: Tensor) -> Tensor | float:
        if not self.p.use_logic_gradient:
            return 1.0
        slope = active * (1 - active)
        slope[..., 2:4] = 1
        return slope


class YoloSeg(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor, label: Tensor, areas: Tensor | None = None) -> Tensor:
        delta = self.scale * (x.detach().sigmoid() - label)
        if areas is not None:
            area = areas.reshape(x.shape[:2])
            share = area.sum(0) / (x.shape[2] * x.shape[3] - area).sum(0)
            delta = torch.where(label > 0.5, delta * (2 - share)[:, None, None], delta)
        return given_gradient(x, delta.square().sum() / len(x), delta / len(x))
