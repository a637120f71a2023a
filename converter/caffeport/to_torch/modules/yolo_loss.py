"""The losses that YOLO nets train with (see caffeport.operators.yolo_loss)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .gradients import given_gradient
from .iou_losses import alike, overlaps_around, step_towards
from .yolo_detection import cells

if TYPE_CHECKING:
    from ...operators.yolo_loss import RegionLossParameter, Yolov3Parameter


def until_zero(labels: Tensor, column: int) -> Tensor:
    """Return the rows of (T, 5) before the first that has 0 in that column."""
    zeros = (labels[:, column] == 0).nonzero()
    return labels[: int(zeros[0])] if len(zeros) else labels


class _YoloLoss(nn.Module):
    """``anchors`` are the width and height of every box, in cells."""

    kind = "MSE"
    """The measure by which boxes are compared with labels."""

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
        delta, errors = torch.zeros_like(active), []
        for image in range(len(x)):
            near = alike(boxes[image].reshape(-1, 4), until_zero(labels[image], 1)[:, 1:], self.kind)
            far = ~(near > self.thresh).any(1).reshape(delta.shape[1:3])
            delta[image, ..., 4] = torch.where(far, self.no_object(active[image, ..., 4]), 0)
            for row in until_zero(labels[image], 3):
                cell = (row[1:3] * size).long().clamp_min(0)
                cell = torch.minimum(cell, size.long() - 1)
                errors += self.place_label(delta[image], active[image], boxes[image], row, cell, size, anchors)
        height, width = x.shape[2:]
        slope = (delta * self.slope(active, numbers)).permute(0, 2, 3, 1).reshape(len(x), -1, height, width)
        return given_gradient(x, self.value(delta, errors) / len(x), slope / len(x))

    def activated(self, numbers: Tensor) -> Tensor:
        """Return numbers (N, cells, boxes, 5 + classes) as the loss compares them."""
        raise NotImplementedError

    def place_in_cell(self, active: Tensor) -> Tensor:
        """Return where the center is in its cell, of these numbers."""
        raise NotImplementedError

    def no_object(self, score: Tensor) -> Tensor:
        """Return d of the score of a box that should have no object."""
        raise NotImplementedError

    def place_label(
        self, delta: Tensor, active: Tensor, boxes: Tensor, row: Tensor, cell: Tensor, size: Tensor, anchors: Tensor
    ) -> list[Tensor]:
        """Set d of the boxes that stand for one label, all of one image; returns what each lacks of being like it."""
        raise NotImplementedError

    def value(self, delta: Tensor, errors: list[Tensor]) -> Tensor:
        """Return the loss of the batch."""
        return delta.square().sum()

    def slope(self, active: Tensor, numbers: Tensor) -> Tensor | float:
        """Return what the gradient has beside d."""
        return 1.0

    def extra_repr(self) -> str:
        return f"{len(self.anchors)} boxes, {self.classes} classes, thresh={self.thresh}"


class RegionLoss(_YoloLoss):
    """``p`` is region_loss_param."""

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
    ) -> list[Tensor]:
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
        return []


class Yolov3(_YoloLoss):
    """``p`` is yolov3_param."""

    def __init__(self, p: Yolov3Parameter) -> None:
        self.all = [
            [p.biases[2 * i] / p.anchors_scale, p.biases[2 * i + 1] / p.anchors_scale]
            for i in range(len(p.biases) // 2)
        ]
        super().__init__([self.all[number] for number in p.mask[: p.num]], p.num_class, p.thresh)
        self.p, self.kind = p, p.iou_loss.name

    def activated(self, numbers: Tensor) -> Tensor:
        return torch.cat([numbers[..., :2].sigmoid(), numbers[..., 2:4], numbers[..., 4:].sigmoid()], -1)

    def place_in_cell(self, active: Tensor) -> Tensor:
        return active[..., :2]

    def no_object(self, score: Tensor) -> Tensor:
        return score

    def place_label(
        self, delta: Tensor, active: Tensor, boxes: Tensor, row: Tensor, cell: Tensor, size: Tensor, anchors: Tensor
    ) -> list[Tensor]:
        p, spot, errors = self.p, int(cell[1] * size[0] + cell[0]), []
        shapes = row.new_tensor(self.all) / size
        shape = torch.cat([torch.zeros_like(row[1:3]), row[3:]])
        shared = alike(torch.cat([torch.zeros_like(shapes), shapes], 1), shape[None], self.kind)[:, 0]
        best, mask = int(shared.argmax()), p.mask[: p.num]
        if shared[best] > 0 and best in mask:
            best = mask.index(best)  # which the definition goes on to compare with numbers of biases
            place = boxes[spot, best], row, cell, size, anchors[best]
            errors.append(self._assign(delta[spot, best], active[spot, best], *place))
        for number in range(len(self.all)):
            if number in mask and number != best and p.iou_thresh < 1 and shared[number] > p.iou_thresh:
                one = mask.index(number)
                place = boxes[spot, one], row, cell, size, anchors[one]
                errors.append(self._assign(delta[spot, one], active[spot, one], *place))
        return errors

    def _assign(
        self, delta: Tensor, guess: Tensor, box: Tensor, row: Tensor, cell: Tensor, size: Tensor, anchor: Tensor
    ) -> Tensor:
        """Set d (5 + classes,) of one box that stands for the label ``row``."""
        p, label = self.p, int(row[0])
        if self.kind == "MSE":
            scale = p.coord_scale * (2 - row[3] * row[4])
            delta[:2] = -scale * (row[1:3] * size - cell - guess[:2])
            delta[2:4] = -scale * ((row[3:] * size / anchor).log() - guess[2:4])
        else:
            step = step_towards(box, row[1:], self.kind)
            step[2:] *= guess[2:4].exp()
            step = (step * p.iou_normalizer).nan_to_num(0, 0, 0).clamp(-p.max_delta, p.max_delta)
            delta[:4] = (delta[:4] if p.accumulate else 0) - step
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
        kind = self.kind if self.kind in ("GIOU", "CIOU") else "DIOU"
        return 1 - alike(box[None], row[None, 1:], kind)[0, 0]

    def value(self, delta: Tensor, errors: list[Tensor]) -> Tensor:
        if self.kind == "MSE":
            return super().value(delta, errors)
        lacking = torch.stack(errors).mean() if errors else 0.0
        return delta[..., 4:].square().sum() + self.p.iou_normalizer * lacking

    def slope(self, active: Tensor, numbers: Tensor) -> Tensor | float:
        if not self.p.use_logic_gradient:
            return 1.0
        # Where boxes are not compared by MSE the definition forgets that the first two are no sigmoids any more.
        through = active if self.kind == "MSE" else torch.cat([numbers[..., :4], active[..., 4:]], -1)
        slope = through * (1 - through)
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
