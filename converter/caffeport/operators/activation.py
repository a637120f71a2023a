"""Elementwise functions of one blob, and Softmax and Dropout, which keep their bottom's shape too."""

from __future__ import annotations

import math
from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import Word, schema
from .base import BlobSpec, InPlace, NoParameters, Operator, Phase, Shape, layer_type, nn
from .fillers import FillerParameter
from .onnx_target import Target
from .quantization import FixedPoint, refuse_fixed_point

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class ReLUParameter(FixedPoint):
    negative_slope: float = 0.0
    engine: Word = Word()
    # Synopsys' fork: bounds of the result; 0 is none.
    relu6: bool = False
    maximum: float = 0.0
    minimum: float = 0.0


@schema
class EngineParameter:
    engine: Word = Word()


@layer_type("ReLU")
class ReLU(Operator):
    """max(x, 0) + negative_slope * min(x, 0); Synopsys' fork also bounds it (relu6, maximum, minimum)"""

    schemas = {"relu_param": ReLUParameter}

    def setup(self) -> None:
        p = self.p
        refuse_fixed_point(self, p)
        highest = [6.0] * p.relu6 + [p.maximum] * (p.maximum > 0)
        self.high, self.low = min(highest, default=None), p.minimum or None

    def module(self, bottoms: list[Shape]) -> Any:
        if (self.high, self.low) != (None, None):
            plain = self.high == 6 and self.low is None and not self.p.negative_slope
            return nn.ReLU6() if plain else nn.BoundedReLU(self.p.negative_slope, self.low, self.high)
        return nn.LeakyReLU(self.p.negative_slope) if self.p.negative_slope else nn.ReLU()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        slope = self.p.negative_slope
        top = g.op("LeakyRelu", x[0], alpha=slope) if slope else g.op("Relu", x[0])
        if (self.high, self.low) == (None, None):
            return top
        # Two nodes, since the lower bound wins where it is above the upper one.
        top = top if self.high is None else g.op("Min", top, g.const(self.high))
        return top if self.low is None else g.op("Max", top, g.const(self.low))


@layer_type("ReLU6")
class ReLU6(Operator):
    """min(max(x, 0), 6), of MobileNet forks"""

    schemas = {"relu6_param": EngineParameter}

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.ReLU6()  # whose gradient at 0 and at 6 is 0, as the forks' layer has it

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Clip", x[0], g.const(0.0), g.const(6.0))


@schema
class PReLUParameter:
    filler: FillerParameter = field(default_factory=lambda: FillerParameter(value=0.25))
    channel_shared: bool = False


@layer_type("PReLU")
class PReLU(Operator):
    """max(x, 0) + slope_c * min(x, 0), a slope per channel (axis 1) or one for all"""

    schemas = {"prelu_param": PReLUParameter}
    bottom_axes = ((2, None),)

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        return [BlobSpec("weight", () if self.p.channel_shared else bottoms[0][1:2], self.p.filler)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.PReLU(1 if self.p.channel_shared else bottoms[0][1])

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        if self.p.channel_shared and g.target is not Target.PLAIN:  # a part of the convolution before it
            return g.op("LeakyRelu", x[0], alpha=float(g.blob_numbers(0).reshape(())))
        slope = (1,) if self.p.channel_shared else (x[0].shape[1], *[1] * (x[0].rank - 2))
        if g.target.splits_prelu and x[0].rank == 4:  # the blocked layout is that of images
            return self._onnx_split(g, x[0])
        return g.op("PRelu", x[0], g.blob(0, slope))

    def _onnx_split(self, g: Emitter, x: Tensor) -> Tensor:
        """Emit max(x, 0) - slope * max(-x, 0): one of the two is 0, so no number differs from PRelu's.

        Factors have a number for every channel, which ONNX Runtime takes for a convolution of each channel, as it
        does not take one number for all; and this is the form that OpenVINO knows for PRelu's.
        """
        channels = (x.shape[1], 1, 1)
        below = g.op("Relu", g.op("Mul", x, g.const(np.full(channels, -1.0))))

        def negated(weight: np.ndarray) -> np.ndarray:
            return -weight.reshape(channels)

        scaled = g.op("Mul", below, g.blob(0, channels, negated, "negated"))
        return g.op("Add", g.op("Relu", x), scaled)


@schema
class ELUParameter:
    alpha: float = 1.0


@layer_type("ELU")
class ELU(Operator):
    """x if x > 0 else alpha * (exp(x) - 1)"""

    schemas = {"elu_param": ELUParameter}

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.ELU(self.p.alpha)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Elu", x[0], alpha=self.p.alpha)


@layer_type("Sigmoid")
class Sigmoid(Operator):
    """1 / (1 + exp(-x))"""

    schemas = {"sigmoid_param": EngineParameter}

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Sigmoid()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Sigmoid", x[0])


@layer_type("TanH")
class TanH(Operator):
    """tanh(x)"""

    schemas = {"tanh_param": EngineParameter}

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Tanh()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Tanh", x[0])


@layer_type("AbsVal")
class AbsVal(Operator):
    """abs(x)"""

    in_place = InPlace.REFUSED
    schemas = {"absval_param": NoParameters}

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.AbsVal()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Abs", x[0])


@layer_type("BNLL")
class BNLL(Operator):
    """log(1 + exp(x))"""

    in_place = InPlace.OTHER_GRADIENT
    schemas = {"bnll_param": NoParameters}

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Softplus()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Softplus", x[0])


@schema
class ThresholdParameter:
    threshold: float = 0.0


@layer_type("Threshold")
class Threshold(Operator):
    """1 where x > threshold, else 0"""

    schemas = {"threshold_param": ThresholdParameter}

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Threshold(self.p.threshold)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.cast(g.op("Greater", x[0], g.const(self.p.threshold)), "float")


@schema
class ClipParameter:
    min: float | None = None
    max: float | None = None


@layer_type("Clip")
class Clip(Operator):
    """max(min(x, max), min): min where that is above max"""

    in_place = InPlace.OTHER_GRADIENT
    schemas = {"clip_param": ClipParameter}

    def setup(self) -> None:
        if self.p.min is None or self.p.max is None:
            self.fail("clip_param needs min and max")
        if math.isnan(self.p.min) or math.isnan(self.p.max):
            self.fail(f"expected numbers for min and max, got {self.p.min} and {self.p.max}")
        self.bounds = self.p.min, max(self.p.min, self.p.max)
        """Of torch's and ONNX's clamps, which give max, not min, where min is above it."""

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Clip(*self.bounds)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Clip", x[0], *map(g.const, self.bounds))


@schema
class SwishParameter:
    beta: float = 1.0


@layer_type("Swish")
class Swish(Operator):
    """x * sigmoid(beta * x)"""

    schemas = {"swish_param": SwishParameter}

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Swish(self.p.beta)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Mul", x[0], g.op("Sigmoid", g.mul(x[0], self.p.beta)))


@layer_type("HardSwish")
class HardSwish(Operator):
    """x * min(max(x + 3, 0), 6) / 6, of MobileNetV3 forks"""

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Hardswish()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        clipped = g.op("Clip", g.add(x[0], 3.0), g.const(0.0), g.const(6.0))
        return g.mul(g.op("Mul", x[0], clipped), 1 / 6)


@schema
class SoftmaxParameter:
    axis: int = 1
    engine: Word = Word()
    normalize_type: str = "Softmax"  # of an early state of the NormFace fork


@layer_type("Softmax")
class Softmax(Operator):
    """exp(x) / sum of exp(x) along axis"""

    schemas = {"softmax_param": SoftmaxParameter}

    def setup(self) -> None:
        check_softmax(self, self.p)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.axis(self.p.axis, len(bottoms[0]))
        return [bottoms[0]]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Softmax(self.axis(self.p.axis, len(bottoms[0])))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Softmax", x[0], axis=self.axis(self.p.axis, x[0].rank))


def check_softmax(layer: Operator, p: SoftmaxParameter) -> None:
    if p.normalize_type != "Softmax":
        layer.fail(f'normalize_type "{p.normalize_type}" is not supported; expected "Softmax"')


@schema
class DropoutParameter:
    scale_train: bool = True
    dropout_ratio: float = 0.5
    sample_weights_test: bool = False  # caffe-segnet: draw in the TEST phase too


@layer_type("Dropout")
class Dropout(Operator):
    """x * mask / (1 - ratio) while training, x otherwise.

    With scale_train false (rbgirshick/caffe-fast-rcnn ``dropout_layer.cpp``) x * mask while training, x * (1 - ratio)
    otherwise.
    """

    schemas = {"dropout_param": DropoutParameter}
    random = True

    def setup(self) -> None:
        if not 0 <= self.p.dropout_ratio < 1:
            self.fail(f"expected a dropout_ratio from 0 to below 1, got {self.p.dropout_ratio}")
        if self.p.sample_weights_test and self.phase is Phase.TEST:
            self.fail(
                "sample_weights_test draws other numbers in every TEST pass (Bayesian SegNet), which no conversion "
                "can be compared with; take it out of the text for the net without drawing"
            )

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Dropout(self.p.dropout_ratio) if self.p.scale_train else nn.UnscaledDropout(self.p.dropout_ratio)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return x[0] if self.p.scale_train else g.op("Mul", x[0], g.const(1 - self.p.dropout_ratio))

    def channel_affine(self, bottom: Shape, blobs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        if self.p.scale_train or len(bottom) < 2:
            return None
        return np.full(bottom[1], 1 - self.p.dropout_ratio), np.zeros(bottom[1])
