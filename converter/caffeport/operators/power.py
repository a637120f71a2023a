"""Powers, exponentials and logarithms of one blob, behind a scale and a shift: Power, Exp and Log."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import InPlace, Operator, Shape, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class PowerParameter:
    power: float = 1.0
    scale: float = 1.0
    shift: float = 0.0


@layer_type("Power")
class Power(Operator):
    """(shift + scale * x) ^ power; a constant where scale * power is 0"""

    in_place = InPlace.OTHER_GRADIENT
    schemas = {"power_param": PowerParameter}

    def constant(self) -> float | None:
        if self.p.scale * self.p.power != 0:
            return None
        with np.errstate(all="ignore"):  # NaN and infinity as C's pow has them, where math.pow raises
            return float(np.power(self.p.shift, self.p.power))

    def module(self, bottoms: list[Shape]) -> Any:
        constant = self.constant()
        return nn.Power(self.p.power, self.p.scale, self.p.shift) if constant is None else nn.Constant(constant)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        constant = self.constant()
        if constant is not None:
            return g.op("Expand", g.const(constant), g.op("Shape", x[0]))
        inner = g.add(g.mul(x[0], self.p.scale), self.p.shift)
        if self.p.power == 1:
            return inner if inner is not x[0] else g.op("Identity", inner)
        return g.op("Pow", inner, g.const(self.p.power))

    def channel_affine(self, bottom: Shape, blobs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        if self.p.power != 1 or self.constant() is not None or len(bottom) < 2:
            return None
        ones = np.ones(bottom[1])
        return ones * self.p.scale, ones * self.p.shift


@schema
class ExpParameter:
    base: float = -1.0
    scale: float = 1.0
    shift: float = 0.0


def _log_base(layer: Operator, base: float) -> float:
    if base != -1 and base <= 0:
        layer.fail(f"expected a base above 0, or -1 for e, got {base}")
    return 1.0 if base == -1 else math.log(base)


@layer_type("Exp")
class Exp(Operator):
    """base ^ (shift + scale * x), base -1 meaning e"""

    schemas = {"exp_param": ExpParameter}

    def setup(self) -> None:
        log_base = _log_base(self, self.p.base)
        with np.errstate(over="ignore"):  # infinity, as in Caffe, where math.exp raises
            self.inner, self.outer = log_base * self.p.scale, float(np.exp(log_base * self.p.shift))

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Exp(self.inner, self.outer)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.mul(g.op("Exp", g.mul(x[0], self.inner)), self.outer)


@layer_type("Log")
class Log(Operator):
    """log_base(shift + scale * x), base -1 meaning e"""

    in_place = InPlace.OTHER_GRADIENT
    schemas = {"log_param": ExpParameter}

    def setup(self) -> None:
        log_base = _log_base(self, self.p.base)
        if log_base == 0:
            self.fail("a logarithm to base 1 does not exist")
        self.factor = 1.0 / log_base

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Log(self.p.scale, self.p.shift, self.factor)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.mul(g.op("Log", g.add(g.mul(x[0], self.p.scale), self.p.shift)), self.factor)
