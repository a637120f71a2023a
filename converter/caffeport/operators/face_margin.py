"""Margins on the score of the label's class: SphereFace, L-Softmax and NormFace's variants. They need labels."""

from __future__ import annotations

import enum
from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import BlobSpec, Operator, Shape, count, layer_type, nn
from .face import LabelSpecific, wants_derivative
from .fillers import FillerParameter

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


class Margin(enum.Enum):
    SINGLE = 0
    DOUBLE = 1
    TRIPLE = 2
    QUADRUPLE = 3


@schema
class LargeMarginInnerProductParameter:
    num_output: int = 0
    type: Margin = Margin.SINGLE
    weight_filler: FillerParameter = field(default_factory=FillerParameter)
    axis: int = 1
    base: float = 1.0
    gamma: float = 0.0
    power: float = 1.0
    iteration: int = 0
    lambda_min: float = 0.0


@schema
class MarginInnerProductParameter(LargeMarginInnerProductParameter):
    exact_gradient: bool = False


@layer_type("MarginInnerProduct")
class MarginInnerProduct(Operator):
    """x . w_j / |w_j|, but at the label (|x| psi(theta) + lambda |x| cos theta) / (1 + lambda) (SphereFace).

    psi(theta) = (-1)^k cos(m theta) - 2k for theta in [k pi / m, (k + 1) pi / m]; m is 1 to 4 (SINGLE, ...,
    QUADRUPLE). lambda = max(lambda_min, base (1 + gamma t)^-power), t the training passes from ``iteration``
    on, the first one counted; a second top gives it. Liu et al. 2017.

    The fork stores the unit rows as the weight at every pass; here the weight stays and its gradient is that
    of the rows. In the fork this is g^T x, without the margin, and the two parts of |x| psi's gradient in x
    are scaled to coefficients of length 1; exact_gradient (in the text, or exact_gradients for the whole net)
    gives the derivative.
    """

    schemas = {"margin_inner_product_param": MarginInnerProductParameter}
    full_precision = True
    bottoms = (2, 2)
    tops = (1, 2)
    onnx_support = "no (training)"
    unit = True

    def setup(self) -> None:
        if self.p.num_output < 1:
            self.fail(f"expected a num_output of 1 or more, got {self.p.num_output}")
        self.exact = wants_derivative(self)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        axis = self.axis(self.p.axis, len(bottoms[0]))
        rows = count(bottoms[0], 0, axis)
        if count(bottoms[1]) != rows:
            self.fail(f"expected {rows} labels for a bottom {bottoms[0]} and axis {axis}, got {bottoms[1]}")
        return [(*bottoms[0][:axis], self.p.num_output), (1,)][: self.context.num_tops]

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        size = count(bottoms[0], self.axis(self.p.axis, len(bottoms[0])))
        return [BlobSpec("weight", (self.p.num_output, size), self.p.weight_filler)]

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        return count(tops[0]) * self.blob_specs(bottoms)[0].shape[1]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return random.integers(0, min(2, self.p.num_output), shape) if index == 1 else None

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        axis = self.axis(p.axis, len(bottoms[0]))
        return nn.MarginInnerProduct(
            p.type.value + 1, axis, p.base, p.gamma, p.power, p.lambda_min, p.iteration,
            self.unit, self.exact or not self.unit, self.context.num_tops,
        )  # fmt: skip

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        g.refuse("it needs labels")


@layer_type("LargeMarginInnerProduct")
class LargeMarginInnerProduct(MarginInnerProduct):
    """x . w_j, but at the label (|w| |x| psi(theta) + lambda x . w) / (1 + lambda) (L-Softmax, Liu et al. 2016).

    psi and lambda as in MarginInnerProduct; the weight is not normalised. The fork's gradient is the derivative.
    """

    schemas = {"largemargin_inner_product_param": LargeMarginInnerProductParameter}
    unit = False


@schema
class LabelSpecificRescaleParameter:
    positive_weight: float = 1.0
    negative_weight: float = 1.0
    positive_lower_bound: float = 0.0  # of no effect in the fork
    negative_upper_bound: float = 0.0  # of no effect in the fork
    rescale_test: bool = False
    for_ip: bool = False
    positive_weight_base: float | None = None
    gamma: float = 0.0
    power: float = 1.0
    positive_weight_min: float | None = None
    positive_weight_max: float | None = None
    iteration: int = 0
    bias_fix: bool = False
    power_on_positive: bool = False
    do_backward: bool = True


@layer_type("LabelSpecificRescale")
class LabelSpecificRescale(LabelSpecific):
    """w+ x_y for the label's class y (with bias_fix w+ x_y + 1 - w+), w- x_j for the others; TRAIN phase only.

    for_ip leaves x_y alone unless it is positive. positive_weight_base: in training w+ = base (1 + gamma t)^-power
    within positive_weight_min and _max, t counted from ``iteration`` on, the first pass included. A second top
    gives w+. rescale_test: acts in the TEST phase too, with positive_weight. do_backward: false lets the gradient pass
    as it is (the fork's branch experiment).
    """

    schemas = {"label_specific_rescale_param": LabelSpecificRescaleParameter}
    tops = (1, 2)
    in_test = "rescale_test"

    def setup(self) -> None:
        for name in ("positive_lower_bound", "negative_upper_bound"):
            if getattr(self.p, name):
                self.fail(f"{name} is not supported (the fork has the field but no code for it)")
        if self.p.power_on_positive:
            self.fail("power_on_positive is not supported (the fork's CPU and GPU code mean different things by it)")

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        return nn.LabelSpecificRescale(
            p.positive_weight, p.negative_weight, p.rescale_test, p.for_ip, p.bias_fix,
            p.positive_weight_base, p.gamma, p.power, p.positive_weight_min, p.positive_weight_max, p.iteration,
            not p.do_backward, self.context.num_tops,
        )  # fmt: skip


class MarginKind(enum.Enum):
    HARD = 0
    SOFT = 1


@schema
class LabelSpecificMarginParameter:
    margin_base: float | None = None
    margin_max: float | None = None
    power: float = 1.0
    gamma: float = 1.0
    iteration: int = 0
    reset_margin: bool = False
    margin_on_test: bool = False
    auto_tune: bool = False
    type: MarginKind = MarginKind.HARD
    pass_bp: bool = False
    exact_gradient: bool = True


@layer_type("LabelSpecificMargin")
class LabelSpecificMargin(LabelSpecific):
    """cos(theta + m) = x_y cos m - sqrt(1 - x_y^2 + 1e-12) sin m for the label's class y, m in degrees; only in TRAIN.

    m is the layer's blob (1,). With margin_base it is margin_base + (1 + gamma t)^power - 1 at training pass t,
    the first one being ``iteration``; margin_max bounds it either way. A second top gives m. (The default
    gamma 1 and power 1 add a degree a pass.) margin_on_test, for which the fork has no code: acts in the TEST
    phase too, with the m of the blob. pass_bp (the fork's branch experiment): the gradient passes as it is.

    The gradient is the derivative, cos m + cot(theta) sin m, with a sin(theta) of at least 1e-3. Beyond
    theta + m = pi the score is x_y - m sin m, as ArcFace's authors have it (Deng et al. 2019, ``easy_margin`` off), so
    that it falls with theta all the way. With exact_gradient: false both are as in the fork's first version: a minus
    for the plus, as its author corrected in 2017, and cos(theta + m) all the way; exact_gradients for the whole net
    overrules that. (On a GPU the fork also cuts x_y to +-0.9999 and the gradient to [0, 2].)
    """

    schemas = {"label_specific_margin_param": LabelSpecificMarginParameter}
    tops = (1, 2)
    in_test = "margin_on_test"

    def setup(self) -> None:
        if self.p.type is MarginKind.SOFT:
            self.fail("type SOFT is not supported (the fork has it on GPU only)")
        for name in ("auto_tune", "reset_margin"):
            if getattr(self.p, name):
                self.fail(f"{name} is not supported (the fork's CPU code has the field but does nothing with it)")

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        return [BlobSpec("margin", (1,), FillerParameter(value=self.p.margin_base or 0.0), trained=False)]

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        return nn.LabelSpecificMargin(
            p.margin_base, p.margin_max, p.gamma, p.power, p.iteration, p.margin_on_test,
            wants_derivative(self), p.pass_bp, self.context.num_tops,
        )  # fmt: skip
