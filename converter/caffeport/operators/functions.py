"""Elementwise functions of forks, one number in and one out.

Definitions: foss-for-synopsys-dwc-arc-processors/synopsys-caffe, src/caffe/layers; SeLu: the layer of that name of
several forks (selu_layer.cpp); HSigmoid: MobileNetV3 forks (hsigmoid_layer.cpp).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..formats.schema import schema
from .base import NoParameters, Operator, Shape, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@layer_type("Mish")
class Mish(Operator):
    """x * tanh(log(1 + exp(x)))"""

    schemas = {"mish_param": NoParameters}

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Mish()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Mul", x[0], g.op("Tanh", g.op("Softplus", x[0])))


@schema
class SeLUParameter:
    lambda_: float = 1.050700987
    alpha: float = 1.67326324


@layer_type("SeLU", "SeLu", "SELU")
class SeLU(Operator):
    """lambda x if x > 0, else lambda alpha (exp(x) - 1)"""

    schemas = {"selu_param": SeLUParameter}

    def module(self, bottoms: list[Shape]) -> Any:
        if self.p == SeLUParameter():
            return nn.SELU()
        return nn.ScaledELU(self.p.lambda_, self.p.alpha)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Selu", x[0], alpha=self.p.alpha, gamma=self.p.lambda_)


@schema
class HardSigmoidParameter:
    alpha: float = 0.2
    beta: float = 0.5


@layer_type("HardSigmoid")
class HardSigmoid(Operator):
    """min(max(alpha x + beta, 0), 1)"""

    schemas = {"hard_sigmoid_param": HardSigmoidParameter}

    def slope(self) -> tuple[float, float]:
        return self.p.alpha, self.p.beta

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.HardSigmoid(*self.slope())

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        alpha, beta = self.slope()
        return g.op("Clip", g.add(g.mul(x[0], alpha), beta), g.const(0.0), g.const(1.0))


@layer_type("HSigmoid")
class HSigmoid(Operator):
    """min(max(x + 3, 0), 6) / 6, of MobileNetV3 forks"""

    schemas = {"hsigmoid_param": NoParameters}

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Hardsigmoid()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.mul(g.op("Clip", g.add(x[0], 3.0), g.const(0.0), g.const(6.0)), 1 / 6)


@layer_type("HardTanH")
class HardTanH(Operator):
    """min(max(x, -1), 1)"""

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Hardtanh()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Clip", x[0], g.const(-1.0), g.const(1.0))


@layer_type("Softplus")
class Softplus(Operator):
    """log(1 + exp(x))"""

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Softplus()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Softplus", x[0])


@layer_type("Softsign")
class Softsign(Operator):
    """x / (1 + |x|)"""

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Softsign()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Softsign", x[0])


@schema
class ThresholdedReLUParameter:
    alpha: float = 1.0


@layer_type("ThresholdedReLU")
class ThresholdedReLU(Operator):
    """x where x > alpha, else 0"""

    schemas = {"thresholded_relu_param": ThresholdedReLUParameter}

    def setup(self) -> None:
        if math.isnan(self.p.alpha):
            self.fail("expected an alpha that is a number, got nan")

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.ThresholdedReLU(self.p.alpha)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("ThresholdedRelu", x[0], alpha=self.p.alpha)


@schema
class ScaledTanHParameter:
    alpha: float | None = None
    beta: float | None = None


@layer_type("ScaledTanH")
class ScaledTanH(Operator):
    """alpha * tanh(beta * x)"""

    schemas = {"scaled_tanh_param": ScaledTanHParameter}

    def setup(self) -> None:
        if self.p.alpha is None or self.p.beta is None:
            self.fail("scaled_tanh_param needs alpha and beta")

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.ScaledTanH(self.p.alpha, self.p.beta)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.mul(g.op("Tanh", g.mul(x[0], self.p.beta)), self.p.alpha)


@schema
class LogSoftmaxParameter:
    axis: int = 1


@layer_type("LogSoftmax")
class LogSoftmax(Operator):
    """x - log of the sum of exp(x) along axis; the fork's is no lower than log(1e-45), about -103.28"""

    schemas = {"log_softmax_param": LogSoftmaxParameter}

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.axis(self.p.axis, len(bottoms[0]))
        return [bottoms[0]]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.LogSoftmax(self.axis(self.p.axis, len(bottoms[0])))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("LogSoftmax", x[0], axis=self.axis(self.p.axis, x[0].rank))


class Elementwise(Operator):
    """A function that torch and ONNX have under one name."""

    kind = ""

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Elementwise(self.kind.lower())

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op(self.kind, x[0])


@layer_type("Floor")
class Floor(Elementwise):
    """The largest whole number that is no more than x"""

    kind = "Floor"


@layer_type("Ceil")
class Ceil(Elementwise):
    """The least whole number that is no less than x"""

    kind = "Ceil"


@layer_type("Round")
class Round(Elementwise):
    """The nearest whole number, the even one of two"""

    kind = "Round"


@layer_type("Atan")
class Atan(Elementwise):
    """The arc tangent"""

    kind = "Atan"


@layer_type("Sin")
class Sin(Elementwise):
    """The sine"""

    kind = "Sin"
