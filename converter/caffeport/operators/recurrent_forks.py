"""Lstm of the fork of CTPN, and ContinuationIndicator, which feeds BVLC's LSTM in forks for text lines.

Definitions: tianzhi0549/CTPN caffe/src/caffe/layers/lstm_layer.cpp (junhyukoh/caffe-lstm's), and
continuation_indicator_layer.cpp of xmfbit/warpctc-caffe, which yalecyu/crnn.caffe is built on.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import MAX_INT, BlobSpec, Operator, Shape, count, layer_type, nn
from .fillers import FillerParameter

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor

ONNX_GATES = [0, 2, 1, 3]
"""The layer's gates i, f, o, g in the order of ONNX's LSTM: i, o, f, c."""


@schema
class LstmParameter:
    num_output: int = 0
    clipping_threshold: float = 0.0
    weight_filler: FillerParameter = field(default_factory=FillerParameter)
    bias_filler: FillerParameter = field(default_factory=FillerParameter)


@layer_type("Lstm")
class Lstm(Operator):
    """Gates i, f, o, g: c = f c + i g, h = o tanh(c), from W_h h + W_x x + b, over x (T, N, ...); states start at zero.

    A second bottom of T N numbers is 0 where a sequence starts. Caffe carries the states from one forward to the
    next where that bottom is given, which its zeros undo. In training the gradient of each gate's sum is cut to
    clipping_threshold either way, if that is above 0.
    """

    schemas = {"lstm_param": LstmParameter}
    bottoms = (1, 2)
    bottom_axes = ((3, None), (1, None))

    def setup(self) -> None:
        if self.p.num_output < 1:
            self.fail(f"expected a num_output of 1 or more, got {self.p.num_output}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        steps = bottoms[0][:2]
        if len(bottoms) > 1 and count(bottoms[1]) != count(steps):
            self.fail(f"expected a number for each of {steps[0]} steps of {steps[1]} sequences, got {bottoms[1]}")
        return [(*steps, self.p.num_output)]

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        rows, weight = 4 * self.p.num_output, self.p.weight_filler
        return [
            BlobSpec("weight_x", (rows, count(bottoms[0], 2)), weight),
            BlobSpec("weight_h", (rows, self.p.num_output), weight),
            BlobSpec("bias", (rows,), self.p.bias_filler),
        ]

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        weights = sum(count(spec.shape) for spec in self.blob_specs(bottoms)[:2])
        return weights * count(bottoms[0], 0, 2)

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return None if index == 0 else (random.random(shape) > 0.2).astype(np.float32)

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Lstm(self.p.clipping_threshold)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        if len(x) > 1:
            return self._onnx_scan(g, *x)
        hidden = self.p.num_output
        rows = x[0] if x[0].rank == 3 else g.op("Reshape", x[0], g.ints([0, 0, count(x[0].shape, 2)]))

        def ordered(blob: np.ndarray) -> np.ndarray:
            return blob.reshape(4, hidden, -1)[ONNX_GATES].reshape(1, 4 * hidden, -1)

        def biases(blob: np.ndarray) -> np.ndarray:
            return np.concatenate([ordered(blob)[:, :, 0], np.zeros((1, 4 * hidden))], 1)

        blobs = [
            g.blob(0, (1, 4 * hidden, count(x[0].shape, 2)), ordered, "lstm"),
            g.blob(1, (1, 4 * hidden, hidden), ordered, "lstm"),
            g.blob(2, (1, 8 * hidden), biases, "lstm"),
        ]
        return g.op("Squeeze", g.op("LSTM", rows, *blobs, hidden_size=hidden), g.ints([1]))

    def _onnx_scan(self, g: Emitter, x: Tensor, cont: Tensor) -> Tensor:
        """Emit a Scan over time, whose states a zero in ``cont`` clears."""
        hidden, sequences = self.p.num_output, x.static(1)
        inputs = g.op("Gemm", g.op("Reshape", x, g.ints([-1, count(x.shape, 2)])), g.blob(0), g.blob(2), transB=1)
        inputs = g.op("Reshape", inputs, g.ints([-1, sequences, 4 * hidden]))
        here = g.op("Reshape", cont, g.ints([-1, sequences, 1]))
        here = g.cast(g.cast(here, "bool"), "float")

        def step(states: list[Tensor], slices: list[Tensor]) -> list[Tensor]:
            gates, starts = slices
            old, carried = (g.op("Mul", state, starts) for state in states)
            gates = g.op("Add", g.op("Gemm", old, g.blob(1), transB=1), gates)
            i, f, o, new = g.split(gates, 1, [hidden] * 4, 4)
            i, f, o = (g.op("Sigmoid", gate) for gate in (i, f, o))
            cell = g.op("Add", g.op("Mul", f, carried), g.op("Mul", i, g.op("Tanh", new)))
            top = g.op("Mul", o, g.op("Tanh", cell))
            return [top, cell, g.op("Identity", top)]  # a graph may not name one value as two outputs

        first = {f"state{i}": g.const(np.zeros((sequences, hidden))) for i in range(2)}
        return g.scan(step, first, {"step": inputs, "cont": here})[-1]


@schema
class ContinuationIndicatorParameter:
    time_step: int = 0
    batch_size: int = 0
    flag: bool = False


@layer_type("ContinuationIndicator")
class ContinuationIndicator(Operator):
    """(time_step, batch_size) of ones, the first row zeros: every sequence starts at the first step.

    With ``flag`` the first row is ones too; with a bottom, those of its columns where the bottom is 1.
    """

    schemas = {"continuation_indicator_param": ContinuationIndicatorParameter}
    bottoms = (0, 1)

    def setup(self) -> None:
        for name in ("time_step", "batch_size"):
            if not 1 <= getattr(self.p, name) <= MAX_INT:
                self.fail(f"expected a {name} of 1 or more, got {getattr(self.p, name)}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        if bottoms and count(bottoms[0]) != self.p.batch_size:
            self.fail(f"expected a number for each of {self.p.batch_size} sequences, got {bottoms[0]}")
        top = (self.p.time_step, self.p.batch_size)
        self.check_padded(top)
        return [top]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.ContinuationIndicator(self.p.time_step, self.p.batch_size, self.p.flag)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        top = np.ones((self.p.time_step, self.p.batch_size))
        if not self.p.flag and not x:
            top[0] = 0
        if not x or self.p.flag:
            return g.op("Identity", g.const(top))
        distance = g.op("Abs", g.add(g.op("Reshape", x[0], g.ints([1, -1])), -1.0))
        # 0.01 away from 1 counts as 1.
        first = g.cast(g.op("Not", g.op("Greater", distance, g.const(0.01))), "float")
        return first if self.p.time_step == 1 else g.op("Concat", first, g.const(top[1:]), axis=0)
