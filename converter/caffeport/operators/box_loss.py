"""Losses of boxes, and the mining of hard examples, as Fast R-CNN, R-FCN and their kin train."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import Normalization, Operator, Shape, layer_type, nn
from .loss import Loss

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


def four_axes(shape: Shape) -> Shape:
    """Return the shape as Caffe's num, channels, height and width read it: axes that are not there are 1."""
    return (*shape, 1, 1, 1, 1)[:4]


@schema
class SmoothL1LossParameter:
    sigma: float = 1.0


@layer_type("SmoothL1Loss", "SmoothL1LossOHEM")
class SmoothL1Loss(Loss):
    """sum w_out f(w_in (a - b)) / D, f(d) = (sigma d)^2 / 2 where |d| < 1 / sigma^2, else |d| - 1 / (2 sigma^2).

    Bottoms: a, b, then w_in, then w_out. D is the number of rows, a's first axis (rbgirshick/caffe-fast-rcnn,
    microsoft/caffe ``smooth_L1_loss_layer.cpp``), unless the layer is R-FCN's: of the type SmoothL1LossOHEM, with a
    normalization in loss_param and no w_out, or with three bottoms and a second top. Then it is as loss_param says, by
    default the rows times the places (daijifeng001/caffe-rfcn). A second top is the loss of each place, without a
    gradient.

    The layers of three bottoms leave w_in out of their gradient, f'(w_in (a - b)) / D, which makes no difference where
    it is 0 or 1; exact_gradients gives the derivative.
    """

    schemas = {"smooth_l1_loss_param": SmoothL1LossParameter}
    bottoms = (2, 4)
    tops = (1, 2)

    def setup(self) -> None:
        if not 0 < self.p.sigma < math.inf:
            self.fail(f"expected a positive sigma, got {self.p.sigma}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        shapes = [four_axes(bottom) for bottom in bottoms]
        if any(len(bottom) > 4 for bottom in bottoms) or any(shape != shapes[0] for shape in shapes):
            self.fail("expected bottoms of one shape and 4 axes at most, got " + " and ".join(map(str, bottoms)))
        rows, _, height, width = shapes[0]
        return [(), (rows, 1, height, width)][: self.context.num_tops]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return random.integers(0, 2, shape) if index > 1 else None

    def rows_divide(self) -> bool:
        """Return whether the sum is divided by the number of rows, whatever loss_param says."""
        loss, bottoms = self.context.loss, self.context.num_bottoms
        has_normalization = loss.normalization is not None or loss.normalize is not None
        mined = self.type == "SmoothL1LossOHEM" or (bottoms == 3 and self.context.num_tops == 2)
        return not mined and (not has_normalization or bottoms == 4)

    def module(self, bottoms: list[Shape]) -> Any:
        divisor = "BATCH_SIZE" if self.rows_divide() else self.divisor(Normalization.VALID)
        exact = bool(self.context.options.get("exact_gradients"))
        return nn.SmoothL1Loss(self.p.sigma, divisor, self.context.num_tops, exact)


@schema
class BoxAnnotatorOHEMParameter:
    roi_per_img: int = 0
    ignore_label: int = -1


@layer_type("BoxAnnotatorOHEM")
class BoxAnnotatorOHEM(Operator):
    """Labels, and weights of the boxes, of the roi_per_img regions of each image with the largest loss.

    Bottoms: regions (R, 5), losses (R, 1), labels (R, 1), weights (R, C), each with places (H, W) behind. The others
    get ignore_label and weights of 0. Equal losses are taken in order, which Caffe leaves open. No gradient passes.
    daijifeng001/caffe-rfcn ``box_annotator_ohem_layer.cu``.
    """

    schemas = {"box_annotator_ohem_param": BoxAnnotatorOHEMParameter}
    bottoms = (4, 4)
    tops = (2, 2)
    bottom_axes = ((1, 4),)
    onnx_support = "no (training)"

    def setup(self) -> None:
        if self.p.roi_per_img < 1:
            self.fail(f"expected a positive roi_per_img, got {self.p.roi_per_img}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        regions, losses, labels, weights = map(four_axes, bottoms)
        rows, places = regions[0], regions[2:]
        for title, shape, channels in (
            ("regions", regions, 5),
            ("losses", losses, 1),
            ("labels", labels, 1),
            ("weights", weights, weights[1]),
        ):
            if shape != (rows, channels, *places):
                self.fail(f"expected {title} of {(rows, channels, *places)}, got {shape}")
        return [(rows, 1, *places), (rows, weights[1], *places)]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        if index == 0:
            return np.concatenate([np.zeros((shape[0], 1)), random.random((shape[0], 4))], 1).reshape(shape)
        return random.random(shape) if index == 1 else random.integers(0, 2, shape)

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.BoxAnnotatorOHEM(self.p.roi_per_img, self.p.ignore_label)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        g.refuse("it chooses examples to train on")
