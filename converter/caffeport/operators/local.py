"""Local: a convolution with weights of its own at every place, as in DeepFace.

Definition: happynear/caffe-windows src/caffe/layers/local_layer.cpp, the same in melgor/caffe and other forks.
"""

from __future__ import annotations

import math
from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import MAX_INT, BlobSpec, Operator, Shape, layer_type, nn
from .fillers import FillerParameter

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class LocalParameter:
    num_output: int = 0
    bias_term: bool = True
    pad: int = 0
    kernel_size: int = 0
    stride: int = 1
    weight_filler: FillerParameter = field(default_factory=FillerParameter)
    bias_filler: FillerParameter = field(default_factory=FillerParameter)


@layer_type("Local")
class Local(Operator):
    """y[m, p] = sum over k of W[m, 0, k, p] * x at the k-th number of the window at place p, + b[0, 0, m, p].

    Channels first, then rows and columns, as in Im2col; W is (num_output, 1, channels * kernel_size^2, places).
    """

    schemas = {"local_param": LocalParameter}
    bottom_axes = ((4, 4),)

    def setup(self) -> None:
        p = self.p
        if p.num_output < 1:
            self.fail(f"expected a num_output of 1 or more, got {p.num_output}")
        if not all(1 <= n <= MAX_INT for n in (p.kernel_size, p.stride)) or not 0 <= p.pad <= MAX_INT:
            self.fail(
                f"expected a kernel_size and a stride of 1 or more and a pad of 0 or more, "
                f"got {p.kernel_size}, {p.stride} and {p.pad}"
            )

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        p, (batch, channels, *size) = self.p, bottoms[0]
        if min(size) < p.kernel_size:
            self.fail(f"a kernel_size of {p.kernel_size} does not fit a bottom of {bottoms[0]}")
        self.check_padded((batch, channels, *(n + 2 * p.pad for n in size)))
        places = tuple((n + 2 * p.pad - p.kernel_size) // p.stride + 1 for n in size)
        self.check_padded((p.num_output, channels * p.kernel_size**2, *places))
        return [(batch, p.num_output, *places)]

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        p, places = self.p, math.prod(self.top_shapes(bottoms)[0][2:])
        specs = [BlobSpec("weight", (p.num_output, 1, bottoms[0][1] * p.kernel_size**2, places), p.weight_filler)]
        if p.bias_term:
            specs.append(BlobSpec("bias", (1, 1, p.num_output, places), p.bias_filler))
        return specs

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        return math.prod(tops[0]) * bottoms[0][1] * self.p.kernel_size**2

    def module(self, bottoms: list[Shape]) -> Any:
        p, shapes = self.p, [spec.shape for spec in self.blob_specs(bottoms)]
        return nn.Local(shapes, self.top_shapes(bottoms)[0][2:], p.kernel_size, p.stride, p.pad)

    def onnx(self, g: Emitter, *x: Tensor) -> Any:
        p, sides = self.p, [0, 0, self.p.pad, self.p.pad]
        outputs, *places = self.top_shapes([(x[0].shape[0], x[0].static(1), x[0].static(2), x[0].static(3))])[0][1:]
        spans = [(n - 1) * p.stride + 1 for n in places]
        padded = g.pad(x[0], sides, sides)
        numbers = []
        for row in range(p.kernel_size):
            for column in range(p.kernel_size):
                number = g.slice(padded, [2, 3], [row, column], [row + spans[0], column + spans[1]], p.stride)
                numbers.append(g.unsqueeze(number, [2]))
        columns = numbers[0] if len(numbers) == 1 else g.op("Concat", *numbers, axis=2)
        length, count = x[0].shape[1] * p.kernel_size**2, math.prod(places)
        # Five axes to three: the 0 of Reshape is the batch, of any size.
        columns = g.op("Transpose", g.op("Reshape", columns, g.ints([0, length, count])), perm=[2, 0, 1])
        weight = g.blob(
            0, (count, length, outputs), lambda w: np.ascontiguousarray(w[:, 0].transpose(2, 1, 0)), "local"
        )
        y = g.op("Transpose", g.op("MatMul", columns, weight), perm=[1, 2, 0])
        y = g.op("Reshape", y, g.ints([0, outputs, *places]))
        if not p.bias_term:
            return y
        shape = (1, outputs, *places)
        return g.op("Add", y, g.blob(1, shape, lambda b: b.reshape(shape), "local"))
