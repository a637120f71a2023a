"""RNN and LSTM: blobs are (T, N, ...), and ``cont`` (T, N) is 0 where a sequence starts."""

from __future__ import annotations

from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..formats.schema import schema
from .base import BlobSpec, Operator, Shape, count, layer_type, nn
from .fillers import FillerParameter

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class RecurrentParameter:
    num_output: int = 0
    weight_filler: FillerParameter = field(default_factory=FillerParameter)
    bias_filler: FillerParameter = field(default_factory=FillerParameter)
    debug_info: bool = False
    expose_hidden: bool = False


class Recurrent(Operator):
    """Bottoms: x, cont, an optional static input (N, ...), and with expose_hidden the first states.

    States start at zero on every call; Caffe carries them from one forward to the next, which ``cont``
    undoes at each start of a sequence.
    """

    schemas = {"recurrent_param": RecurrentParameter}
    bottoms = (2, 5)
    tops = (1, 3)
    bottom_axes = ((3, None), (2, 2), (1, None))
    states = 1  # hidden; LSTM has the cell too
    gates = 1
    onnx_gates: ClassVar[tuple[int, ...]] = (0,)
    """The gates in ONNX's order."""

    def setup(self) -> None:
        if self.p.num_output < 1:
            self.fail(f"expected a num_output of 1 or more, got {self.p.num_output}")
        exposed = self.states if self.p.expose_hidden else 0
        self.has_static = self.context.num_bottoms - 2 - exposed == 1
        if self.context.num_bottoms - 2 - exposed not in (0, 1):
            self.fail(f"expected {2 + exposed} or {3 + exposed} bottoms, got {self.context.num_bottoms}")
        if self.context.num_tops != 1 + exposed:
            self.fail(f"expected {1 + exposed} tops, got {self.context.num_tops}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        x, cont = bottoms[:2]
        if cont != x[:2]:
            self.fail(f"expected x (T, N, ...) and cont (T, N), got {x} and {cont}")
        if self.has_static and bottoms[2][0] != x[1]:
            self.fail(f"expected a static input for {x[1]} sequences, got {bottoms[2]}")
        state = (1, x[1], self.p.num_output)
        for bottom in bottoms[2 + self.has_static :]:
            if bottom != state:
                self.fail(f"expected first states {state}, got {bottom}")
        return [(*x[:2], self.p.num_output), *[state] * (self.context.num_tops - 1)]

    def input_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        rows, weight = self.gates * self.p.num_output, self.p.weight_filler
        specs = [
            BlobSpec("weight_x", (rows, count(bottoms[0], 2)), weight),
            BlobSpec("bias", (rows,), self.p.bias_filler),
        ]
        if self.has_static:
            specs.append(BlobSpec("weight_static", (rows, count(bottoms[2], 1)), weight))
        return [*specs, BlobSpec("weight_h", (rows, self.p.num_output), weight)]

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        return self.input_specs(bottoms)

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        steps = bottoms[0][0] * bottoms[0][1]
        return sum(count(spec.shape) for spec in self.blob_specs(bottoms) if len(spec.shape) > 1) * steps

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return sample_continuation(shape, random) if index == 1 else None

    def onnx(self, g: Emitter, *x: Tensor) -> list[Tensor]:
        """Emit ONNX's own RNN or LSTM where no sequence starts but at the first step, else a Scan over time.

        The body of the Scan gets the states, one step of x already multiplied, and of cont.
        """
        if self._starts_once(x[0], x[1]) and not self.has_static:
            return self._onnx_whole(g, *x)
        hidden, sequences = self.p.num_output, x[0].static(1)
        # (T * N, I) -> (T, N, rows)
        flat = g.op("Reshape", x[0], g.ints([-1, count(x[0].shape, 2)]))
        inputs = g.op("Gemm", flat, g.blob(0), g.blob(1), transB=1)
        inputs = g.op("Reshape", inputs, g.ints([-1, sequences, self.gates * hidden]))
        if self.has_static:
            static = g.op("Gemm", g.op("Flatten", x[2], axis=1), g.blob(2), transB=1)
            inputs = g.op("Add", inputs, static)  # broadcast over time
        cont = g.unsqueeze(x[1], [2])
        if self.p.expose_hidden:
            first = [g.op("Squeeze", bottom, g.ints([0])) for bottom in x[2 + self.has_static :]]
        else:
            first = [g.const(np.zeros((sequences, hidden))) for _ in range(self.states)]
        states = {f"state{i}": state for i, state in enumerate(first)}
        *last, output = g.scan(partial(self.onnx_step, g), states, {"step": inputs, "cont": cont})
        return [output, *(g.unsqueeze(state, [0]) for state in last)] if self.p.expose_hidden else [output]

    def _starts_once(self, x: Tensor, cont: Tensor) -> bool:
        """Return whether it is known that every sequence goes on after the first step."""
        if cont.numbers_at(doubled=False) is None:
            return x.shape[0] == 1 and 0 not in x.dynamic and not self.p.expose_hidden
        return bool((constant(cont)[1:] == 1).all())

    def _onnx_whole(self, g: Emitter, *x: Tensor) -> list[Tensor]:
        hidden, gates, size = self.p.num_output, self.gates, count(x[0].shape, 2)
        rows = x[0] if x[0].rank == 3 else g.op("Reshape", x[0], g.ints([0, 0, size]))

        def ordered(blob: np.ndarray) -> np.ndarray:
            return blob.reshape(gates, hidden, -1)[list(self.onnx_gates)].reshape(1, gates * hidden, -1)

        def biases(blob: np.ndarray) -> np.ndarray:
            return np.concatenate([ordered(blob)[:, :, 0], np.zeros((1, gates * hidden))], 1)

        weights = [
            g.blob(0, (1, gates * hidden, size), ordered, "onnx"),
            g.blob(self._hidden_index(), (1, gates * hidden, hidden), ordered, "onnx"),
            g.blob(1, (1, 2 * gates * hidden), biases, "onnx"),
        ]
        states: list[Tensor | None] = []
        if self.p.expose_hidden:
            first = constant(x[1])[:1, :, None]  # (1, N, 1): what is left of the first states
            states = [None, *(g.op("Mul", bottom, g.const(first)) for bottom in x[2:])]
        kind = "LSTM" if self.states > 1 else "RNN"
        whole, *last = g.ops(kind, 1 + self.states, rows, *weights, *states, hidden_size=hidden)
        top = self.onnx_output(g, g.op("Squeeze", whole, g.ints([1])))
        return [top, *last] if self.p.expose_hidden else [top]

    def onnx_output(self, g: Emitter, hidden: Tensor) -> Tensor:
        """Emit the top, of the hidden states of all steps."""
        return hidden

    def onnx_step(self, g: Emitter, states: list[Tensor], slices: list[Tensor]) -> list[Tensor]:
        """Emit one time step, of x already multiplied and of cont; returns the new states and the step's output."""
        raise NotImplementedError

    def _hidden_index(self) -> int:
        return 3 if self.has_static else 2


def constant(cont: Tensor) -> np.ndarray:
    """Return the numbers of a tensor that is known to be constant."""
    numbers = cont.numbers_at(doubled=False)
    assert numbers is not None
    return numbers


def sample_continuation(shape: Shape, random: np.random.Generator) -> np.ndarray:
    """Zeros where sequences start, as every one does at the first step; ones elsewhere, (T, N)."""
    cont = (random.random(shape) > 0.2).astype(np.float32)
    cont[0] = 0
    return cont


@layer_type("RNN")
class RNN(Recurrent):
    """h = tanh(W_hh (cont h) + W_xh x + b_h), o = tanh(W_ho h + b_o)"""

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        hidden = self.p.num_output
        return [
            *self.input_specs(bottoms),
            BlobSpec("weight_o", (hidden, hidden), self.p.weight_filler),
            BlobSpec("bias_o", (hidden,), self.p.bias_filler),
        ]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.RNN(self.has_static, self.p.expose_hidden)

    def onnx_output(self, g: Emitter, hidden: Tensor) -> Tensor:
        index = self._hidden_index()
        flat = g.op("Reshape", hidden, g.ints([-1, self.p.num_output]))
        output = g.op("Tanh", g.op("Gemm", flat, g.blob(index + 1), g.blob(index + 2), transB=1))
        return g.op("Reshape", output, g.op("Shape", hidden))

    def onnx_step(self, g: Emitter, states: list[Tensor], slices: list[Tensor]) -> list[Tensor]:
        step, cont = slices
        index = self._hidden_index()
        state = g.op("Mul", states[0], cont)
        hidden = g.op("Tanh", g.op("Add", g.op("Gemm", state, g.blob(index), transB=1), step))
        output = g.op("Tanh", g.op("Gemm", hidden, g.blob(index + 1), g.blob(index + 2), transB=1))
        return [hidden, output]


@layer_type("LSTM")
class LSTM(Recurrent):
    """Gates i, f, o, g in this order: c = cont f c + i g, h = o tanh(c), from W_hc (cont h) + W_xc x + b"""

    states = 2
    gates = 4
    onnx_gates = (0, 2, 1, 3)  # i, o, f, c

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.LSTM(self.has_static, self.p.expose_hidden)

    def onnx_step(self, g: Emitter, states: list[Tensor], slices: list[Tensor]) -> list[Tensor]:
        step, cont = slices
        state = g.op("Mul", states[0], cont)
        gates = g.op("Add", g.op("Gemm", state, g.blob(self._hidden_index()), transB=1), step)
        i, f, o, new = g.split(gates, 1, [self.p.num_output] * 4, 4)
        i, f, o = (g.op("Sigmoid", gate) for gate in (i, f, o))
        carried = g.op("Mul", g.op("Mul", f, cont), states[1])
        cell = g.op("Add", carried, g.op("Mul", i, g.op("Tanh", new)))
        hidden = g.op("Mul", o, g.op("Tanh", cell))
        # A graph may not name one value as two outputs.
        return [hidden, cell, g.op("Identity", hidden)]
