"""Fully connected layers: InnerProduct (with NormFace's forms of it) and Embed."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import BlobSpec, InPlace, Operator, Shape, count, layer_type, nn
from .fillers import FillerParameter

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor

NORMALIZE_EPS = 1e-6
"""It stands under the root, w / sqrt(sum w^2 + eps), as in the NormFace fork's CPU code; normalize_eps sets another."""


@schema
class InnerProductParameter:
    num_output: int = 0
    bias_term: bool = True
    weight_filler: FillerParameter = field(default_factory=FillerParameter)
    bias_filler: FillerParameter = field(default_factory=FillerParameter)
    axis: int = 1
    transpose: bool = False
    normalize: bool = False  # NormFace: weight rows of unit length
    normalize_eps: float = NORMALIZE_EPS


def unit_rows(weight: np.ndarray, eps: float) -> np.ndarray:
    """Return rows divided by sqrt(sum of squares + eps)."""
    norm = np.sqrt((weight.astype(np.float64) ** 2).sum(axis=1, keepdims=True) + eps)
    return (weight / norm).astype(np.float32)


def onnx_unit_rows(g: Emitter, shape: Shape, eps: float, transposed: bool = False) -> Tensor:
    """Return the layer's weight (blob 0) with its rows, or columns, of unit length; shared by layers of the same
    eps."""

    def change(weight: np.ndarray) -> np.ndarray:
        return unit_rows(weight.T, eps).T if transposed else unit_rows(weight, eps)

    return g.blob(0, shape, change, "unit" if eps == NORMALIZE_EPS else f"unit_{eps:g}")


@layer_type("InnerProduct")
class InnerProduct(Operator):
    """y = x W^T + b over the axes from ``axis`` on, flattened to K.

    W is (num_output, K), or (K, num_output) with ``transpose``. In the NormFace fork a second bottom is
    the weight (its first axis the outputs) and a third the bias; ``normalize`` acts on a learned
    weight only: each row of W is divided by sqrt(sum w^2 + normalize_eps).
    """

    in_place = InPlace.OVERWRITTEN
    schemas = {"inner_product_param": InnerProductParameter}
    bottoms = (1, 3)
    bottom_axes = ((1, None), (1, None), (0, None))

    def setup(self) -> None:
        if self.context.num_bottoms == 1 and self.p.num_output < 1:
            self.fail(f"expected a num_output of 1 or more, got {self.p.num_output}")

    @property
    def plain(self) -> bool:
        """Return whether y = x W^T + b is all that the layer does, with blobs of its own."""
        return self.context.num_bottoms == 1 and not self.p.normalize

    def sizes(self, bottoms: list[Shape]) -> tuple[int, int, int]:
        """Return (axis, K, outputs)."""
        axis = self.axis(self.p.axis, len(bottoms[0]))
        size = count(bottoms[0], axis)
        if len(bottoms) == 1:
            return axis, size, self.p.num_output
        return axis, size, count(bottoms[1]) // size if self.p.transpose else bottoms[1][0]

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        axis, size, outputs = self.sizes(bottoms)
        if len(bottoms) > 1:
            if count(bottoms[1]) != outputs * size:
                self.fail(f"bottom 1, the weight, has {count(bottoms[1])} numbers; expected {outputs} x {size}")
            if len(bottoms) > 2 and count(bottoms[2]) != outputs:
                self.fail(f"bottom 2, the bias, has {count(bottoms[2])} numbers; expected {outputs}")
        return [(*bottoms[0][:axis], outputs)]

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        _, size, outputs = self.sizes(bottoms)
        bias = BlobSpec("bias", (outputs,), self.p.bias_filler)
        if len(bottoms) > 1:
            return [bias] if len(bottoms) == 2 and self.p.bias_term else []
        shape = (size, outputs) if self.p.transpose else (outputs, size)
        specs = [BlobSpec("weight", shape, self.p.weight_filler)]
        return [*specs, bias] if self.p.bias_term else specs

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        return count(tops[0]) * self.sizes(bottoms)[1]

    def is_linear(self) -> bool:
        """Return whether torch's Linear, behind a flatten, does the same on the same blobs."""
        return self.plain and not self.p.transpose

    def flatten_axis(self, bottoms: list[Shape]) -> int | None:
        axis = self.axis(self.p.axis, len(bottoms[0]))
        return axis if self.is_linear() and axis + 1 < len(bottoms[0]) else None

    def module(self, bottoms: list[Shape]) -> Any:
        if self.is_linear():
            _, size, outputs = self.sizes(bottoms)
            return nn.Linear(size, outputs, bias=self.p.bias_term)
        names = [spec.name for spec in self.blob_specs(bottoms)]
        shapes = {spec.name: spec.shape for spec in self.blob_specs(bottoms)}
        eps = self.p.normalize_eps if self.p.normalize and len(bottoms) == 1 else None
        return nn.InnerProduct(names, shapes, self.axis(self.p.axis, len(bottoms[0])), self.p.transpose, eps)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        axis, size, outputs = self.sizes([bottom.shape for bottom in x])
        flat = g.flatten_to_2d(x[0], axis)
        operands, trans_b = self._onnx_operands(g, x, size, outputs)
        product = g.op("Gemm", flat, *operands, transB=trans_b)
        return product if axis == 1 else g.reshape(product, g.tops[0])

    def _onnx_operands(self, g: Emitter, x: tuple[Tensor, ...], size: int, outputs: int) -> tuple[list[Tensor], int]:
        trans_b = int(not self.p.transpose)
        if len(x) > 1:
            weight, shape = x[1], (size, outputs) if self.p.transpose else (outputs, size)
            if x[1].shape != shape:
                for i in range(x[1].rank):
                    x[1].static(i)
                weight = g.op("Reshape", weight, g.ints(list(shape)))
            bias = [g.op("Reshape", x[2], g.ints([-1]))] if len(x) > 2 else g.blobs()
            return [weight, *bias], trans_b
        if self.p.normalize:
            shape = (size, outputs) if self.p.transpose else (outputs, size)
            weight = onnx_unit_rows(g, shape, self.p.normalize_eps, self.p.transpose)
            return [weight, *([g.blob(1)] if self.p.bias_term else [])], trans_b
        return g.blobs(), trans_b

    def can_absorb(self, top: Shape) -> bool:
        return self.plain and len(top) == 2 and self.axis(self.p.axis, len(top)) == 1

    def absorb(self, top: Shape, blobs: list[np.ndarray], scale: np.ndarray, shift: np.ndarray) -> list[np.ndarray]:
        weight = blobs[0] * (scale[None, :] if self.p.transpose else scale[:, None])
        return [weight, shift + (blobs[1] * scale if len(blobs) > 1 else 0)]

    def can_absorb_before(self, bottom: Shape, shifts: bool) -> bool:
        return self.plain and len(bottom) > 1 and self.axis(self.p.axis, len(bottom)) == 1

    def absorb_before(
        self, bottom: Shape, blobs: list[np.ndarray], scale: np.ndarray, shift: np.ndarray
    ) -> list[np.ndarray]:
        weight = np.asarray(blobs[0].T if self.p.transpose else blobs[0], np.float64)
        scales, shifts = (np.repeat(numbers, count(bottom, 2)) for numbers in (scale, shift))
        changed = weight * scales
        return [changed.T if self.p.transpose else changed, weight @ shifts + (blobs[1] if len(blobs) > 1 else 0)]


@schema
class EmbedParameter:
    num_output: int = 0
    input_dim: int = 0
    bias_term: bool = True
    weight_filler: FillerParameter = field(default_factory=FillerParameter)
    bias_filler: FillerParameter = field(default_factory=FillerParameter)


@layer_type("Embed")
class Embed(Operator):
    """y = W[x] + b; W is (input_dim, num_output), x holds indices as floats"""

    schemas = {"embed_param": EmbedParameter}

    def setup(self) -> None:
        if self.p.num_output < 1 or self.p.input_dim < 1:
            self.fail(f"expected num_output and input_dim of 1 or more, got {self.p.num_output} and {self.p.input_dim}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return [(*bottoms[0], self.p.num_output)]

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        specs = [BlobSpec("weight", (self.p.input_dim, self.p.num_output), self.p.weight_filler)]
        if self.p.bias_term:
            specs.append(BlobSpec("bias", (self.p.num_output,), self.p.bias_filler))
        return specs

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return random.integers(0, self.p.input_dim, shape)

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Embed(self.p.input_dim, self.p.num_output, self.p.bias_term)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        rows = g.op("Gather", g.blob(0), g.cast(x[0], "int64"), axis=0)
        return g.op("Add", rows, g.blob(1)) if self.p.bias_term else rows
