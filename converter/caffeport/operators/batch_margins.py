"""Margins that follow from the other classes' scores, of NormFace's fork (happynear/caffe-windows)."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import BlobSpec, Shape, count, layer_type, nn
from .face import LabelSpecific, wants_derivative
from .fillers import FillerParameter
from .scale import ScaleParameter

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


class BatchMargin(LabelSpecific):
    """What the layers below share: they act in TRAIN only, a second top reports, a third bottom may hold scales."""

    tops = (1, 2)
    reported = 1

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        scores = super().top_shapes(bottoms[:2])[0]
        if count(scores, 1) < 2:
            self.fail(f"expected scores of 2 classes or more, got {scores}")
        if len(bottoms) > 2 and count(bottoms[2]) != scores[0]:
            self.fail(f"expected {scores[0]} scales as bottom 2, got {bottoms[2]}")
        return [scores, (self.reported,)][: self.context.num_tops]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        if index == 2:
            return random.uniform(1, 20, shape)
        return super().sample_bottom(index, shape, random)


@schema
class LabelSpecificHardMarginParameter:
    positive_weight: float = 0.5
    exact_gradient: bool = False


@layer_type("LabelSpecificHardMargin")
class LabelSpecificHardMargin(BatchMargin):
    """w x_y + (1 - w) times the mean of the others' scores, for the label's class y; only in TRAIN.

    Branch experiment. The fork passes the gradient as it is; exact_gradient (in the text, or exact_gradients for the
    whole net) gives the derivative. A second top is the mean of what was added, times 180 / pi.
    """

    schemas = {"label_specific_hard_margin_param": LabelSpecificHardMarginParameter}

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.HardMargin(self.p.positive_weight, wants_derivative(self), self.context.num_tops)


@schema
class RadialRemovalMarginParameter:
    scale: float = 30.0  # of no published number or default


@layer_type("RadialRemovalMargin")
class RadialRemovalMargin(BatchMargin):
    """The mean of the others' scores with the weights exp(s x), for the label's score; only in TRAIN.

    Branch experiment. s is ``scale``, or the third bottom's number of the sample. The gradient passes as it is. A
    second top holds four means: of the label's scores, the largest others, the margins and the soft maxima.
    """

    schemas = {"radial_removal_margin_param": RadialRemovalMarginParameter}
    bottoms = (2, 3)
    reported = 4

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.RadialRemovalMargin(self.p.scale, self.context.num_tops)


@schema
class LabelSpecificAffineParameter:
    scale_base: float = 1.0
    scale_gamma: float = 0.0
    scale_power: float = 1.0
    scale_min: float = 1.0
    scale_max: float = 1.0
    transform_test: bool = False
    iteration: int = 0
    bias_base: float = 0.0
    bias_gamma: float = 0.0
    bias_power: float = 1.0
    bias_min: float = 0.0
    bias_max: float = 0.0
    power_base: float = 1.0
    power_gamma: float = 0.0
    power_power: float = -1.0
    power_min: float = 1.0
    power_max: float = 1.0
    auto_tune: bool = False
    reset: bool = False  # the schedule sets the blob at every pass
    original_bp: bool = False
    scale_factor: float = 30.0  # of no effect without auto_tune
    protect_low_bound: bool = False  # of no effect in the fork


@layer_type("LabelSpecificAffine")
class LabelSpecificAffine(LabelSpecific):
    """s x_y^p for the label's class y where x_y > 0, plus b where that is above -b; only in TRAIN.

    Branch experiment, the GPU's code: the CPU's has another function under the name. At training pass t, the first one
    being ``iteration``, s is scale_base (1 + scale_gamma t)^scale_power within its bounds, p the same of the power_
    fields, b is bias_base + (1 + bias_gamma t)^bias_power - 1 within its bounds. The blob and a second top hold the
    three. original_bp passes the gradient as it is.
    """

    schemas = {"label_specific_affine_param": LabelSpecificAffineParameter}
    tops = (1, 2)

    def setup(self) -> None:
        if self.p.auto_tune:
            self.fail("auto_tune is not supported (it does not work, says the fork)")
        if self.p.transform_test:
            self.fail("transform_test is not supported (the fork passes scores through in TEST whatever it says)")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return [super().top_shapes(bottoms)[0], (3,)][: self.context.num_tops]

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        return [BlobSpec("numbers", (3,), FillerParameter(value=1.0), trained=False)]

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        return nn.LabelSpecificAffine(
            (p.scale_base, p.scale_gamma, p.scale_power, p.scale_min, p.scale_max),
            (p.bias_base, p.bias_gamma, p.bias_power, p.bias_min, p.bias_max),
            (p.power_base, p.power_gamma, p.power_power, p.power_min, p.power_max),
            p.iteration, p.original_bp, self.context.num_tops,
        )  # fmt: skip


@schema
class MarginScaleParameter(ScaleParameter):
    """scale_param as GlobalLSEMargin reads it."""

    filler: FillerParameter = field(default_factory=lambda: FillerParameter(value=30.0))


@layer_type("GlobalLSEMargin")
class GlobalLSEMargin(BatchMargin):
    """s x, in TRAIN with x - m for the label's score; s is a blob or the third bottom, m > 0 follows the scores.

    Branch ms (AM-Softmax's ``auto`` text). Every training pass m, the second blob, becomes 0.9 m + 0.1 (u - v), at
    first u - v: v is the mean over the samples of log(sum exp(s x)) / s over the other classes, u = 1 - exp(t - d^2)
    for the mean t of log(1 - x_y) and its standard deviation times n / (n - 1), d. scale_param's filler (30 without
    one) and bounds are s's. A second top holds the mean s, u, v and m. The gradient takes m for a constant.
    """

    schemas = {"scale_param": MarginScaleParameter}
    bottoms = (2, 3)
    reported = 4
    onnx_support = "yes"

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        nought = FillerParameter(value=0.0)
        return [BlobSpec("scale", (1,), self.p.filler), BlobSpec("margin", (1,), nought, trained=False)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.GlobalLSEMargin((self.p.min_value, self.p.max_value), self.context.num_tops)

    def has_onnx(self) -> bool:
        return self.context.num_tops == 1

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        if self.context.num_tops > 1:
            g.refuse("its second top is for training")
        if len(x) > 2:
            return g.op("Mul", x[0], g.op("Reshape", x[2], g.ints([-1, *[1] * (x[0].rank - 1)])))
        return g.op("Mul", x[0], g.blob(0, (1,), self.bounded, "bounded"))

    def bounded(self, scale: np.ndarray) -> np.ndarray:
        if self.p.min_value is None and self.p.max_value is None:
            return scale
        return np.clip(scale, self.p.min_value, self.p.max_value)
