"""Scale and Bias: a blob, or a second bottom, that multiplies the first or is added to it."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import BlobSpec, Operator, Shape, layer_type, nn
from .fillers import FillerParameter

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class ScaleParameter:
    axis: int = 1
    num_axes: int = 1
    filler: FillerParameter = field(default_factory=lambda: FillerParameter(value=1.0))
    bias_term: bool = False
    bias_filler: FillerParameter = field(default_factory=FillerParameter)
    min_value: float | None = None  # NormFace: the stored blob is clamped at forward
    max_value: float | None = None


class Broadcast(Operator):
    """The common base of Scale and Bias: a blob, or a second bottom, aligned with the first at ``axis``."""

    bottoms = (1, 2)

    def aligned(self, bottoms: list[Shape]) -> tuple[int, Shape]:
        """Return (axis, shape of the operand)."""
        shape = bottoms[0]
        if len(bottoms) == 2:
            # A scalar has no axis to align.
            axis = 0 if not bottoms[1] else self.axis(self.p.axis, len(shape))
            operand = bottoms[1]
        else:
            axis = 0 if self.p.num_axes == 0 else self.axis(self.p.axis, len(shape))
            if self.p.num_axes < -1:
                self.fail(f"expected num_axes of -1 or more, got {self.p.num_axes}")
            end = len(shape) if self.p.num_axes == -1 else axis + self.p.num_axes
            if end > len(shape):
                self.fail(f"num_axes {self.p.num_axes} from axis {axis} is too much for a bottom of {len(shape)} axes")
            operand = shape[axis:end]
        if shape[axis : axis + len(operand)] != operand:
            self.fail(f"bottom 1 is {operand}; expected {shape[axis : axis + len(operand)]} (axis {axis} of {shape})")
        return axis, operand

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.aligned(bottoms)
        return [bottoms[0]]

    def spread(self, bottoms: list[Shape]) -> Shape:
        """Return the operand's shape with ones after it, so that it broadcasts as Caffe aligns it."""
        axis, operand = self.aligned(bottoms)
        return (*operand, *[1] * (len(bottoms[0]) - axis - len(operand)))

    def onnx_operand(self, g: Emitter, x: tuple[Tensor, ...]) -> Tensor:
        """Return the second bottom, shaped to broadcast."""
        trailing = len(self.spread([bottom.shape for bottom in x])) - x[1].rank
        return g.unsqueeze(x[1], [x[1].rank + i for i in range(trailing)])


@layer_type("Scale")
class Scale(Broadcast):
    """y = x * scale (+ bias), broadcast from ``axis``"""

    schemas = {"scale_param": ScaleParameter}

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        _, operand = self.aligned(bottoms)
        specs = [] if len(bottoms) == 2 else [BlobSpec("weight", operand, self.p.filler)]
        return [*specs, BlobSpec("bias", operand, self.p.bias_filler)] if self.p.bias_term else specs

    def module(self, bottoms: list[Shape]) -> Any:
        bounds = (self.p.min_value, self.p.max_value)
        return nn.Scale(self.spread(bottoms), self.p.bias_term, bounds if bounds != (None, None) else None)

    def clamp(self, weight: np.ndarray) -> np.ndarray:
        if self.p.min_value is None and self.p.max_value is None:
            return weight
        return np.clip(weight, self.p.min_value, self.p.max_value)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        spread = self.spread([bottom.shape for bottom in x])
        if len(x) == 2:
            result = g.op("Mul", x[0], self.onnx_operand(g, x))
        else:
            result = g.op("Mul", x[0], g.blob(0, spread, self.clamp, "scale"))
        if self.p.bias_term:
            result = g.op("Add", result, g.blob(len(g.blobs()) - 1, spread, how="bias"))
        return result

    def channel_affine(self, bottom: Shape, blobs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        return _channel_affine(self, bottom, lambda: (self.clamp(blobs[0]), blobs[1] if self.p.bias_term else 0.0))


@schema
class BiasParameter:
    axis: int = 1
    num_axes: int = 1
    filler: FillerParameter = field(default_factory=FillerParameter)


@layer_type("Bias")
class Bias(Broadcast):
    """y = x + bias, broadcast from ``axis``"""

    schemas = {"bias_param": BiasParameter}

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        return [] if len(bottoms) == 2 else [BlobSpec("bias", self.aligned(bottoms)[1], self.p.filler)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Bias(self.spread(bottoms))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        operand = self.onnx_operand(g, x) if len(x) == 2 else g.blob(0, self.spread([x[0].shape]), how="bias")
        return g.op("Add", x[0], operand)

    def channel_affine(self, bottom: Shape, blobs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        return _channel_affine(self, bottom, lambda: (1.0, blobs[0]))


def _channel_affine(layer: Broadcast, bottom: Shape, operands: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the operands as one number a channel, if they lie on axis 1 or are scalars."""
    if layer.context.num_bottoms != 1 or len(bottom) < 2:
        return None
    axis, operand = layer.aligned([bottom])
    if operand and (axis != 1 or len(operand) != 1):
        return None
    scale, shift = operands()
    ones = np.ones(bottom[1])
    return ones * scale, ones * shift
