"""The losses that YOLO nets train with: sums of squares of the gradients that they define.

The definitions are those of eric612/MobileNet-YOLO, src/caffe/layers/region_loss_layer.cpp, yolov3_layer.cpp and
yolo_seg.cpp. Labels are (N, 1, T, 5), rows (class, x, y, w, h) in shares of the image, up to a row whose box is 0.
"""

from __future__ import annotations

import enum
from dataclasses import field
from typing import Any

import numpy as np

from ..formats.schema import schema
from .base import Shape, count, layer_type, nn
from .loss import Loss


class YoloLoss(Loss):
    """The base of losses that compare the boxes of every cell (N, num (5 + classes), H, W) with labels."""

    bottom_axes = ((4, 4), (1, None))

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        p = self.p
        channels = p.num * (5 + p.num_class)
        if bottoms[0][1] != channels:
            self.fail(f"expected {p.num} boxes of {5 + p.num_class} numbers, {channels} channels, got {bottoms[0][1]}")
        if bottoms[1][0] != bottoms[0][0] or count(bottoms[1], 1) % 5:
            self.fail(f"the labels are {bottoms[1]}; expected rows of 5 numbers for each of {bottoms[0][0]} images")
        return [()]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        if index == 0:
            return None
        labels = np.zeros((shape[0], count(shape, 1) // 5, 5))
        labels[:, :2, 0] = random.integers(0, self.p.num_class, labels[:, :2, 0].shape)
        labels[:, :2, 1:] = 0.2 + 0.5 * random.random(labels[:, :2, 1:].shape)
        return labels.reshape(shape)


@schema
class RegionLossParameter:
    side: int = 13  # the bottom's own is taken
    num_class: int = 20
    bias_match: int = 1
    coords: int = 4
    num: int = 5
    softmax: int = 1  # which the layer does not ask for, nor for jitter, absolute and random
    jitter: float = 0.2
    rescore: int = 1
    object_scale: float = 1.0
    class_scale: float = 1.0
    noobject_scale: float = 0.5
    coord_scale: float = 5.0
    absolute: int = 1
    thresh: float = 0.2
    random: int = 1
    biases: list[float] = field(default_factory=list)
    softmax_tree: str = ""
    class_map: str = ""


@layer_type("RegionLoss")
class RegionLoss(YoloLoss):
    """YOLOv2's loss: the sum of the squares of d / N, whose gradient is d / N; boxes as YoloDetectionOutput's.

    d of an object's score o = sigmoid is noobject_scale o o' (o' = o (1 - o)), 0 where the box overlaps one of the
    labels by more than thresh. For every label in turn the cell of its center, and there the box whose size (with
    bias_match: whose bias) is most like it: d is -s (t - g) of its numbers, t the label's place (times its slope) and
    logarithm of the size, s = coord_scale, times 2 - w h unless rescore; -object_scale (q - o) o' of the object, q = 1
    or with rescore the overlap; -class_scale (1 or 0 - p) of its classes' softmax p.
    """

    schemas = {"region_loss_param": RegionLossParameter}

    def setup(self) -> None:
        p = self.p
        if p.coords != 4:
            self.fail(f"expected 4 coords, got {p.coords}")
        if p.num < 1 or p.num_class < 1 or len(p.biases) < max(10, 2 * p.num):
            self.fail(f"expected biases, in pairs, for {max(5, p.num)} boxes, got {len(p.biases)} numbers")

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.RegionLoss(self.p)


class IouLoss(enum.Enum):
    IOU = 0
    GIOU = 1
    MSE = 2
    DIOU = 3
    CIOU = 4


@schema
class Yolov3Parameter:
    side: int = 13  # the bottom's own is taken
    num_class: int = 20
    num: int = 5
    object_scale: float = 1.0
    class_scale: float = 1.0
    noobject_scale: float = 0.5  # which the layer does not read
    coord_scale: float = 5.0
    thresh: float = 0.2
    anchors_scale: int = 32
    biases: list[float] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    use_logic_gradient: bool = False
    use_focal_loss: bool = False
    iou_loss: IouLoss = IouLoss.MSE
    iou_normalizer: float = 0.25  # this, max_delta and accumulate are for others than MSE
    iou_thresh: float = 0.5
    max_delta: float = 10.0
    accumulate: bool = True
    label_smooth_eps: float = 0.1


@layer_type("Yolov3")
class Yolov3(YoloLoss):
    """YOLOv3's loss at one scale: the sum of the squares of d / N; its gradient is d / N, with use_logic_gradient times
    the slope of the sigmoid that a number has gone through.

    Boxes are Yolov3DetectionOutput's, with the biases that ``mask`` names. d of an object's score o is o, 0 where the
    box overlaps one of the labels by more than thresh. For every label in turn, of all biases the one whose shape
    overlaps it most, if mask names it, and every other that mask names by more than iou_thresh: in the cell of its
    center d is -coord_scale (2 - w h) (t - g) of the box's numbers, -(1 - o) of the object (times object_scale with
    use_logic_gradient), -class_scale (t - p) of the classes p = sigmoid, whose targets t are 1 and 0, smoothed by
    label_smooth_eps to 1 - eps / 2 and eps / 2; a class that a label before was given keeps the others as they are.
    Versions before these two fields are ``label_smooth_eps: 0 iou_thresh: 1``. With another iou_loss than MSE boxes
    are compared by it; d of the box's numbers is darknet's step of that likeness times iou_normalizer, at most
    max_delta, added up where accumulate says so; and the loss has iou_normalizer times what the boxes lack of 1 on
    average in place of the squares of these d.
    """

    schemas = {"yolov3_param": Yolov3Parameter}

    def setup(self) -> None:
        p = self.p
        if p.num < 1 or p.num_class < 1 or len(p.biases) % 2 or len(p.mask) < p.num:
            self.fail(f"expected biases in pairs and a mask of {p.num}, got {len(p.biases)} and {len(p.mask)}")
        if any(not 0 <= number < len(p.biases) // 2 for number in p.mask):
            self.fail(f"expected a mask of numbers of {len(p.biases) // 2} biases, got {p.mask}")

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Yolov3(self.p)


@schema
class YoloSegParameter:
    num_class: int = 0
    object_scale: float = 5.0
    class_scale: float = 1.0  # this and use_logic_gradient are not read
    use_logic_gradient: bool = False
    use_hardsigmoid: bool = False


@layer_type("YoloSeg")
class YoloSeg(Loss):
    """MobileNet-YOLO's loss of masks: the sum of the squares of d / N with d = object_scale (sigmoid(x) - label).

    Its gradient is d / N. A third bottom (N, C), the area of every class, multiplies d where the label is above 0.5:
    with 2 - areas / (H W - areas), each summed over the batch.
    """

    schemas = {"yolo_seg_param": YoloSegParameter}
    bottoms = (2, 3)
    bottom_axes = ((4, 4), (4, 4), (2, None))

    def setup(self) -> None:
        if self.p.use_hardsigmoid:
            self.fail("use_hardsigmoid is not supported")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.same_shape(bottoms[:2])
        if len(bottoms) > 2 and count(bottoms[2]) != count(bottoms[0], 0, 2):
            self.fail(f"the areas are {bottoms[2]}; expected one for each class of {bottoms[0]}")
        return [()]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return random.integers(0, 2, shape) if index else None

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.YoloSeg(self.p.object_scale)
