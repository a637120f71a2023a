"""The last layers of YOLO nets, which decode boxes and keep the best.

The definitions are those of eric612/MobileNet-YOLO: src/caffe/layers/yolo_detection_output_layer.cpp and
yolov3_detection_output_layer.cpp. Both take a batch for one image: boxes of all its images suppress each other, and
every row says image 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import Operator, Shape, count, layer_type, nn
from .detection import onnx_detections, onnx_range

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class YoloDetectionOutputParameter:
    side: int = 13  # the bottom's own is taken
    num_classes: int | None = None
    num_box: int = 5
    coords: int = 4
    confidence_threshold: float = 0.01
    nms_threshold: float = 0.45
    biases: list[float] = field(default_factory=list)
    label_map_file: str = ""  # names of the classes, which no number depends on


@schema
class Yolov3DetectionOutputParameter:
    num_classes: int | None = None
    num_box: int = 3
    confidence_threshold: float = 0.01
    nms_threshold: float = 0.45
    biases: list[float] = field(default_factory=list)
    anchors_scale: list[int] = field(default_factory=list)
    mask_group_num: int = 2
    mask: list[int] = field(default_factory=list)
    gaussian_box: bool = False


def below(threshold: float) -> float:
    """Return the float before ``threshold``: what is above it is ``threshold`` or more."""
    return float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))


class YoloOutput(Operator):
    """Boxes of every cell and anchor, the best first, none of which overlaps one before by nms_threshold or more."""

    varying_axis = 2
    bottom_axes = ((4, 4),)

    def check(self, anchors: int) -> None:
        """Refuse thresholds and anchors that make no boxes."""
        p = self.p
        if (p.num_classes or 0) < 1:
            self.fail(f"expected num_classes of 1 or more, got {p.num_classes}")
        if p.num_box < 1 or len(p.biases) < 2 * anchors or len(p.biases) % 2:
            self.fail(f"expected biases in pairs, {anchors} of them or more, got {len(p.biases)} numbers")
        if not p.nms_threshold > 0:
            self.fail(f"expected a positive nms_threshold, got {p.nms_threshold}")

    @property
    def numbers(self) -> int:
        """Return the count of numbers of a box."""
        return 5 + self.p.num_classes

    def rows(self) -> int:
        """Return the number of rows that a box can give."""
        raise NotImplementedError

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        most = 0
        for bottom in bottoms:
            if bottom[1] != self.p.num_box * self.numbers:
                self.fail(
                    f"expected {self.p.num_box} boxes of {self.numbers} numbers, {self.p.num_box * self.numbers} "
                    f"channels, got {bottom[1]}"
                )
            if bottom[0] != bottoms[0][0]:
                self.fail(f"expected bottoms of one batch, got {bottom[0]} and {bottoms[0][0]} images")
            most += bottom[0] * count(bottom, 2) * self.p.num_box * self.rows()
        return [(1, 1, most, 7)]

    # ONNX

    def cells(self, g: Emitter, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (N, cells, boxes, numbers) of a bottom; each cell's place (cells, 1, 2), x before y; [W, H] as
        float."""
        boxes = g.op("Reshape", x, g.ints([0, self.p.num_box, self.numbers, -1]))
        boxes = g.op("Transpose", boxes, perm=[0, 3, 1, 2])
        if not x.dynamic & {2, 3}:
            height, width = x.shape[2:]
            places = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1)
            return boxes, g.const(places.reshape(-1, 1, 2)), g.const([width, height])
        size = g.slice(g.op("Shape", x), [0], [2], [4])
        columns = g.slice(size, [0], [1], [2])
        number = g.op("Transpose", onnx_range(g, g.reduce("ReduceProd", size, [0])), perm=[1, 0])
        place = g.op("Concat", g.op("Mod", number, columns), g.op("Div", number, columns), axis=1)
        return boxes, g.cast(g.unsqueeze(place, [1]), "float"), g.cast(g.reverse(size, [0]), "float")

    def best(self, g: Emitter, boxes: Tensor, labels: Tensor, scores: Tensor, images: Tensor) -> Tensor:
        """Return rows (1, 1, kept, 7) of candidates: boxes (K, 4) as center and size, labels and scores (K,).

        Suppression wants them best first, and its own result is in no order that can be relied on.
        """
        number = g.op("Shape", scores)
        scores, order = g.ops("TopK", 2, scores, number, axis=0)
        boxes, labels = g.op("Gather", boxes, order, axis=0), g.op("Gather", labels, order, axis=0)
        threshold = g.const([below(self.p.nms_threshold) if self.p.nms_threshold <= 1 else 1.0])  # its largest
        flat, alone = g.unsqueeze(boxes, [0]), g.unsqueeze(scores, [0, 1])
        chosen = g.op("NonMaxSuppression", flat, alone, number, threshold, center_point_box=1)
        chosen = g.slice(chosen, [1], [2], [3])
        ones = g.op("Expand", g.const(1.0), g.slice(g.op("Shape", chosen), [0], [0], [1]))
        mask = g.op("ScatterND", g.op("Expand", g.const(0.0), number), chosen, ones)
        indices = g.op("Reshape", g.op("NonZero", mask), g.ints([-1]))
        center, size = g.split(g.op("Gather", boxes, indices, axis=0), 1, [2, 2], 2)
        half = g.mul(size, 0.5)
        columns = [g.unsqueeze(g.op("Gather", column, indices, axis=0), [1]) for column in (labels, scores)]
        rows = g.op("Concat", *columns, g.op("Sub", center, half), g.op("Add", center, half), axis=1)
        rows = g.op("Pad", rows, g.ints([0, 1, 0, 0]), g.const(0.0))
        return onnx_detections(g, rows, images)

    def images(self, g: Emitter, x: Tensor) -> Tensor:
        """Return the number of images as a vector [N]."""
        return g.slice(g.op("Shape", x), [0], [0], [1])


def joined(g: Emitter, parts: Sequence[Tensor]) -> Tensor:
    """Return the parts one after another."""
    return parts[0] if len(parts) == 1 else g.op("Concat", *parts, axis=0)


@layer_type("YoloDetectionOutput")
class YoloDetectionOutput(YoloOutput):
    """Rows [0, label + 1, score, x1, y1, x2, y2] of YOLOv2: from (N, num_box (5 + classes), H, W), one or two of them.

    A box of a cell is at ((i + sigmoid(x)) / W, (j + sigmoid(y)) / H) with the size (exp(w) bias / W, exp(h) bias / H);
    its score is sigmoid(object) times the largest of the classes' softmax, and counts from confidence_threshold on.
    From the best on, a box stays that overlaps none before by nms_threshold or more, whatever the classes. Boxes are
    shares of the image and not clipped. Where nothing is left there is one row [image, -1 ...] for every image. The
    declared shape counts as many rows as there can be.
    """

    schemas = {"yolo_detection_output_param": YoloDetectionOutputParameter}
    bottoms = (1, 2)

    def setup(self) -> None:
        self.check(self.p.num_box)
        if self.p.coords != 4:
            self.fail(f"expected 4 coords, got {self.p.coords}")

    def rows(self) -> int:
        return 1

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        anchors = [(p.biases[2 * i], p.biases[2 * i + 1]) for i in range(p.num_box)]
        return nn.YoloDetectionOutput(anchors, p.num_classes, p.confidence_threshold, p.nms_threshold)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        p, parts = self.p, []
        anchors = g.const(np.reshape(p.biases[: 2 * p.num_box], (p.num_box, 2)))
        for bottom in x:
            numbers, place, size = self.cells(g, bottom)
            move, grow, thing, classes = g.split(numbers, 3, [2, 2, 1, p.num_classes], 4)
            center = g.op("Div", g.op("Add", place, g.op("Sigmoid", move)), size)
            extent = g.op("Div", g.op("Mul", g.op("Exp", grow), anchors), size)
            boxes = g.op("Reshape", g.op("Concat", center, extent, axis=3), g.ints([-1, 4]))
            share, label = g.ops("TopK", 2, g.op("Softmax", classes, axis=3), g.ints([1]), axis=3)
            score = g.op("Reshape", g.op("Mul", g.op("Sigmoid", thing), share), g.ints([-1]))
            parts.append((boxes, g.cast(g.op("Reshape", label, g.ints([-1])), "float"), score))
        boxes, labels, scores = (joined(g, column) for column in zip(*parts, strict=True))
        good = g.op("NonZero", g.op("Greater", scores, g.const(below(p.confidence_threshold))))
        good = g.op("Reshape", good, g.ints([-1]))
        boxes, labels, scores = (g.op("Gather", column, good, axis=0) for column in (boxes, labels, scores))
        return self.best(g, boxes, g.add(labels, 1), scores, self.images(g, x[0]))


@layer_type("Yolov3DetectionOutput")
class Yolov3DetectionOutput(YoloOutput):
    """Rows [0, label + 1, score, x1, y1, x2, y2] of YOLOv3: from (N, num_box (5 + classes), H, W), one for every scale.

    A box of a cell is at ((i + sigmoid(x)) / W, (j + sigmoid(y)) / H) with the size (exp(w) bias / (W scale), exp(h)
    bias / (H scale)); ``biases`` are pairs, of which ``mask`` names each scale's. It counts once for every class whose
    sigmoid times that of the object is above confidence_threshold. From the best on, a box stays that overlaps none
    before by nms_threshold or more, whatever the classes. With gaussian_box there are 9 + classes numbers: each
    coordinate's is followed by its uncertainty, whose mean takes from the object's. Boxes are shares of the image and
    not clipped. Where nothing is left there is one row [image, -1 ...] for every image. The declared shape counts as
    many rows as there can be.
    """

    schemas = {"yolov3_detection_output_param": Yolov3DetectionOutputParameter}
    bottoms = (1, None)

    def setup(self) -> None:
        p = self.p
        self.check(1)
        if p.mask_group_num != self.context.num_bottoms or len(p.anchors_scale) < self.context.num_bottoms:
            self.fail(
                f"expected mask_group_num and the number of anchors_scale to be that of the bottoms, "
                f"{self.context.num_bottoms}, got {p.mask_group_num} and {len(p.anchors_scale)}"
            )
        self.group = len(p.mask) // p.mask_group_num
        least = self.group * (p.mask_group_num - 1) + p.num_box
        if len(p.mask) < least or any(not 0 <= number < len(p.biases) // 2 for number in p.mask):
            self.fail(f"expected a mask of {least} or more numbers of {len(p.biases) // 2} biases, got {p.mask}")

    @property
    def numbers(self) -> int:
        return (9 if self.p.gaussian_box else 5) + self.p.num_classes

    def rows(self) -> int:
        return 1 if self.best_class_only else self.p.num_classes

    @property
    def best_class_only(self) -> bool:
        """Return whether a box can count for its best class alone: the same box again overlaps it altogether."""
        return self.p.nms_threshold < 1

    def anchors(self) -> list[np.ndarray]:
        """Return width and height (num_box, 2) of every bottom's boxes, in cells."""
        pairs = np.reshape(self.p.biases, (-1, 2))
        return [
            pairs[self.p.mask[self.group * i : self.group * i + self.p.num_box]] / self.p.anchors_scale[i]
            for i in range(self.context.num_bottoms)
        ]

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        anchors = [scale.tolist() for scale in self.anchors()]
        return nn.Yolov3DetectionOutput(anchors, p.num_classes, p.confidence_threshold, p.nms_threshold, p.gaussian_box)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        p, parts = self.p, []
        for bottom, anchors in zip(x, self.anchors(), strict=True):
            numbers, place, size = self.cells(g, bottom)
            move, grow, thing, classes = self._parts(g, numbers)
            center = g.op("Div", g.op("Add", place, move), size)
            extent = g.op("Div", g.op("Mul", g.op("Exp", grow), g.const(anchors)), size)
            boxes = g.op("Reshape", g.op("Concat", center, extent, axis=3), g.ints([-1, 4]))
            scores = g.op("Mul", g.op("Sigmoid", classes), thing)
            parts.append((boxes, g.op("Reshape", scores, g.ints([-1, p.num_classes]))))
        boxes, scores = (joined(g, column) for column in zip(*parts, strict=True))
        if self.best_class_only:
            scores, label = g.ops("TopK", 2, scores, g.ints([1]), axis=1)
            scores, label = (g.op("Reshape", part, g.ints([-1])) for part in (scores, label))
            good = g.op("NonZero", g.op("Greater", scores, g.const(p.confidence_threshold)))
            good = g.op("Reshape", good, g.ints([-1]))
            boxes, scores, label = (g.op("Gather", part, good, axis=0) for part in (boxes, scores, label))
            return self.best(g, boxes, g.add(g.cast(label, "float"), 1), scores, self.images(g, x[0]))
        good = g.op("NonZero", g.op("Greater", scores, g.const(p.confidence_threshold)))
        good = g.op("Transpose", good, perm=[1, 0])
        row, label = (g.op("Reshape", part, g.ints([-1])) for part in g.split(good, 1, [1, 1], 2))
        labels = g.add(g.cast(label, "float"), 1)
        boxes, scores = g.op("Gather", boxes, row, axis=0), g.op("GatherND", scores, good)
        return self.best(g, boxes, labels, scores, self.images(g, x[0]))

    def _parts(self, g: Emitter, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return (place in the cell, logarithm of the size, object's score, classes before their sigmoid)."""
        classes = self.p.num_classes
        if not self.p.gaussian_box:
            move, grow, thing, rest = g.split(numbers, 3, [2, 2, 1, classes], 4)
            return g.op("Sigmoid", move), grow, g.op("Sigmoid", thing), rest
        pairs, thing, rest = g.split(numbers, 3, [8, 1, classes], 3)
        means = g.slice(pairs, [3], [0], [8], 2)
        unsure = g.reduce("ReduceMean", g.op("Sigmoid", g.slice(pairs, [3], [1], [8], 2)), [3])
        move, grow = g.split(means, 3, [2, 2], 2)
        sure = g.op("Sub", g.const(1.0), unsure)
        return g.op("Sigmoid", move), grow, g.op("Mul", g.op("Sigmoid", thing), sure), rest
