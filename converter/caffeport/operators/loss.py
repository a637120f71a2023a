"""BVLC Caffe's losses, and Accuracy. They compute in torch and train; an ONNX export refuses them."""

from __future__ import annotations

import enum
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import CaffemodelError
from ..formats.schema import schema
from .activation import SoftmaxParameter, check_softmax
from .base import NoParameters, Normalization, Operator, Role, Shape, count, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


class Loss(Operator):
    """A scalar from predictions and labels; its first top has loss_weight 1 unless the text says otherwise."""

    role = Role.LOSS
    full_precision = True
    onnx_support = "no (training)"
    bottoms = (2, 2)
    bottom_axes: ClassVar[tuple[tuple[int, int | None], ...]] = ((1, None),)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        if bottoms[0][:1] != bottoms[1][:1]:
            self.fail(f"expected as many labels as predictions, got {bottoms[1]} for {bottoms[0]}")
        return [()] * self.context.num_tops

    def normalization(self, default: Normalization) -> Normalization:
        """Return loss_param's normalization; its older ``normalize`` means VALID or BATCH_SIZE."""
        loss = self.context.loss
        if loss.normalization is not None:
            return loss.normalization
        if loss.normalize is not None:
            return Normalization.VALID if loss.normalize else Normalization.BATCH_SIZE
        return default

    def divisor(self, default: Normalization) -> str | float:
        """Return the divisor of the sum: a normalization's name, or the number of PRE_FIXED, which is 1 at least."""
        chosen = self.normalization(default)
        if chosen is not Normalization.PRE_FIXED:
            return chosen.name
        fixed = self.context.loss.pre_fixed_normalizer
        if not math.isfinite(fixed):
            self.fail(f"expected a finite pre_fixed_normalizer, got {fixed}")
        return max(fixed, 1.0)

    def sample_labels(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        """Return labels 0 and 1, as far as ``classes`` allows."""
        return random.integers(0, 2, shape) if index == 1 else None

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        g.refuse(f"it is a {self.role.value} layer")


def check_labels(layer: Operator, predictions: Shape, labels: Shape, axis: int) -> None:
    """Refuse anything but one label for every prediction: all axes but the class axis."""
    expected = count(predictions) // predictions[axis]
    if count(labels) != expected:
        layer.fail(
            f"expected {expected} labels for predictions {predictions} with classes on axis {axis}, got {labels}"
        )


class ClassLoss(Loss):
    """The base of losses of scores, with classes on the parameter ``axis`` and a label for every other position."""

    def classes(self, bottoms: list[Shape]) -> int | None:
        return bottoms[0][self.axis(self.p.axis, len(bottoms[0]))]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return self.sample_labels(index, shape, random)


class RowLoss(Loss):
    """The base of losses of rows of scores, all axes but the first, with a label for each row."""

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        if count(bottoms[1]) != bottoms[0][0]:
            self.fail(f"expected a label for each of {bottoms[0][0]} rows of {bottoms[0]}, got {bottoms[1]}")
        return [()]

    def classes(self, bottoms: list[Shape]) -> int | None:
        return count(bottoms[0], 1)

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return self.sample_labels(index, shape, random)


@layer_type("SoftmaxWithLoss", "SoftmaxWithLossOHEM")
class SoftmaxWithLoss(ClassLoss):
    """-log softmax(x)[label], summed and divided as loss_param.normalization says (default VALID).

    A second top gives the probabilities, a third the loss of each label, 0 for ignored ones, without a gradient
    (daijifeng001/caffe-rfcn ``softmax_loss_layer.cpp``; intel/caffe calls that layer SoftmaxWithLossOHEM). The third
    has four axes, as R-FCN's labels have and what it is added to; in Caffe it has just those of the labels.
    """

    schemas = {"softmax_param": SoftmaxParameter}
    tops = (1, 3)

    def setup(self) -> None:
        check_softmax(self, self.p)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        check_labels(self, bottoms[0], bottoms[1], self.axis(self.p.axis, len(bottoms[0])))
        each = (*bottoms[1], 1, 1, 1)[: max(4, len(bottoms[1]))]
        return [(), bottoms[0], each][: self.context.num_tops]

    def module(self, bottoms: list[Shape]) -> Any:
        axis = self.axis(self.p.axis, len(bottoms[0]))
        divisor = self.divisor(Normalization.VALID)
        return nn.SoftmaxWithLoss(axis, self.context.loss.ignore_label, divisor, self.context.num_tops)


@schema
class InfogainLossParameter:
    source: str = ""
    axis: int = 1


@layer_type("InfogainLoss")
class InfogainLoss(ClassLoss):
    """-sum_k H[label, k] log softmax(x)_k; H is the third bottom, or the binaryproto file ``source``"""

    schemas = {"infogain_loss_param": InfogainLossParameter, "softmax_param": SoftmaxParameter}
    bottoms = (2, 3)
    tops = (1, 2)

    def setup(self) -> None:
        if self.context.num_bottoms == 2 and not self.p.source:
            self.fail("expected a third bottom with the infogain matrix, or its file as source")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        axis = self.axis(self.p.axis, len(bottoms[0]))
        check_labels(self, bottoms[0], bottoms[1], axis)
        classes = bottoms[0][axis]
        if len(bottoms) > 2 and count(bottoms[2]) != classes * classes:
            self.fail(f"expected an infogain matrix of {classes} x {classes}, got {bottoms[2]}")
        return [(), bottoms[0]][: self.context.num_tops]

    def module(self, bottoms: list[Shape]) -> Any:
        axis = self.axis(self.p.axis, len(bottoms[0]))
        matrix = None
        if len(bottoms) == 2:
            from ..formats.caffemodel import read_binaryproto

            if not Path(self.p.source).is_file():
                raise CaffemodelError(f'layer "{self.name}" ({self.type}): source "{self.p.source}" is not here')
            matrix = read_binaryproto(self.p.source).reshape(bottoms[0][axis], bottoms[0][axis])
        divisor = self.divisor(Normalization.VALID)
        ignore = self.context.loss.ignore_label
        return nn.InfogainLoss(axis, ignore, divisor, self.context.num_tops, matrix)


@layer_type("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(Loss):
    """-(t log sigmoid(x) + (1 - t) log(1 - sigmoid(x))), summed and divided by the batch size by default.

    A third bottom weighs the terms; then the sum of the weights divides (daijifeng001/caffe-mnc
    ``sigmoid_cross_entropy_loss_layer.cpp``).
    """

    schemas = {"sigmoid_param": NoParameters}
    bottoms = (2, 3)
    tops = (1, 2)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        for title, bottom in zip(("target", "weight"), bottoms[1:], strict=False):
            if count(bottoms[0]) != count(bottom):
                self.fail(f"expected a {title} for every prediction, got {bottom} for {bottoms[0]}")
        return [(), bottoms[0]][: self.context.num_tops]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return random.random(shape) if index else None

    def module(self, bottoms: list[Shape]) -> Any:
        divisor = self.divisor(Normalization.BATCH_SIZE)
        ignore = self.context.loss.ignore_label
        return nn.SigmoidCrossEntropyLoss(ignore, divisor, self.context.num_tops)


@layer_type("MultinomialLogisticLoss")
class MultinomialLogisticLoss(RowLoss):
    """-log(max(p[label], 1e-20)), averaged over the batch; p are probabilities"""

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.MultinomialLogisticLoss()


@layer_type("EuclideanLoss")
class EuclideanLoss(Loss):
    """sum (a - b)^2 / (2 N)"""

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        if count(bottoms[0], 1) != count(bottoms[1], 1):
            self.fail(f"expected bottoms of one size, got {bottoms[0]} and {bottoms[1]}")
        return super().top_shapes(bottoms)

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.EuclideanLoss()


class HingeNorm(enum.Enum):
    L1 = 1
    L2 = 2


@schema
class HingeLossParameter:
    norm: HingeNorm = HingeNorm.L1


@layer_type("HingeLoss")
class HingeLoss(RowLoss):
    """sum max(0, 1 + s x)^p / N, s = -1 for the label's entry and 1 for the others, p = 1 (L1) or 2 (L2)"""

    schemas = {"hinge_loss_param": HingeLossParameter}

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.HingeLoss(self.p.norm.value)


@schema
class ContrastiveLossParameter:
    margin: float = 1.0
    legacy_version: bool = False


@layer_type("ContrastiveLoss")
class ContrastiveLoss(Loss):
    """sum (y d^2 + (1 - y) max(margin - d, 0)^2) / (2 N), d = |a - b|; legacy_version: max(margin - d^2, 0)"""

    schemas = {"contrastive_loss_param": ContrastiveLossParameter}
    bottoms = (3, 3)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.same_shape(bottoms[:2])
        if count(bottoms[2]) != bottoms[0][0]:
            self.fail(f"expected a label for every pair, got {bottoms[2]} for {bottoms[0]}")
        return [()]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return random.integers(0, 2, shape) if index == 2 else None

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.ContrastiveLoss(self.p.margin, self.p.legacy_version)


@schema
class AccuracyParameter:
    top_k: int = 1
    axis: int = 1
    ignore_label: int | None = None
    min_is_better: bool = False  # NormFace: for distances


@layer_type("Accuracy")
class Accuracy(ClassLoss):
    """The share of labels whose score is among the top_k; a second top gives it for every class"""

    schemas = {"accuracy_param": AccuracyParameter}
    role = Role.METRIC
    tops = (1, 2)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        axis = self.axis(self.p.axis, len(bottoms[0]))
        check_labels(self, bottoms[0], bottoms[1], axis)
        if not 1 <= self.p.top_k <= bottoms[0][axis]:
            self.fail(f"expected a top_k from 1 to {bottoms[0][axis]}, got {self.p.top_k}")
        return [(), (bottoms[0][axis],)][: self.context.num_tops]

    def module(self, bottoms: list[Shape]) -> Any:
        axis = self.axis(self.p.axis, len(bottoms[0]))
        return nn.Accuracy(axis, self.p.top_k, self.p.ignore_label, self.p.min_is_better, self.context.num_tops)
