"""ConvLSTM: an LSTM over feature maps, of agethen/ConvLSTM and nets for video.

Definition: DengPingFan/DAVSOD, mycaffe-convlstm/src/caffe/layers/conv_lstm_layer.cpp, conv_lstm_unit_layer.cpp and
include/caffe/layers/conv_lstm_helper.hpp.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import Word, schema
from .base import BlobSpec, Operator, Shape, count, layer_type, nn
from .fillers import FillerParameter
from .recurrent import RecurrentParameter, sample_continuation
from .windows import Window

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class LSTMConvolutionParameter:
    num_output: int = 0
    bias_term: bool = True
    pad: list[int] = field(default_factory=list)
    kernel_size: list[int] = field(default_factory=list)
    stride: list[int] = field(default_factory=list)
    dilation: list[int] = field(default_factory=list)
    group: int = 1
    weight_filler: FillerParameter = field(default_factory=FillerParameter)
    bias_filler: FillerParameter = field(default_factory=FillerParameter)
    engine: Word = Word()
    axis: int = 1  # the layer sets its own
    force_nd_im2col: bool = False
    type: str = "all"


@schema
class LSTMDebugParameter:
    expose: list[str] = field(default_factory=list)
    disable_hadamard: bool = False
    axis_hadamard: int = 3
    num_axes_hadamard: int = 2
    ignore_x: bool = False


@layer_type("ConvLSTM")
class ConvLSTM(Operator):
    """LSTM over x (T, N, C, H, W), its products convolutions, with a term of the cell before in the gates i, f, o.

    (i, f, o, g) = W_h * (cont h) + b + W_x * x (+ W_s * static) + (P_i c, P_f c, P_o c, 0); c = cont f c + i g,
    h = o tanh(c). ``cont`` (T, N) is 0 where a sequence starts. Bottoms: x, cont, an optional static input
    (1, N, C', H, W), and with expose_hidden the first h and c (1, N, num_output, H, W), whose last are tops then.
    States start at zero otherwise; Caffe carries them from one forward to the next.
    """

    schemas = {
        "lstm_conv_param": LSTMConvolutionParameter,
        "lstm_debug_param": LSTMDebugParameter,
        "recurrent_param": RecurrentParameter,
    }
    bottoms = (2, 5)
    tops = (1, 3)
    bottom_axes = ((5, 5), (2, 2), (5, 5))

    def setup(self) -> None:
        p, self.cell = self.p, self.message("lstm_debug_param")
        self.exposes = self.message("recurrent_param").expose_hidden
        states = 2 if self.exposes else 0
        if self.context.num_bottoms not in (2 + states, 3 + states) or self.context.num_tops != 1 + states:
            self.fail(
                f"expected {2 + states} or {3 + states} bottoms and {1 + states} tops, got "
                f"{self.context.num_bottoms} and {self.context.num_tops}"
            )
        self.has_static = self.context.num_bottoms == 3 + states
        if self.cell.expose or self.cell.ignore_x:
            self.fail("expose and ignore_x of lstm_debug_param are not supported")
        if p.type != "all" or p.num_output < 1 or p.group < 1 or 4 * p.num_output % p.group:
            self.fail(
                f"expected one lstm_conv_param, of a num_output of 1 or more that group divides, got {p.num_output}"
            )
        sizes = {}
        for name, default in (("kernel_size", None), ("stride", 1), ("pad", 0), ("dilation", 1)):
            values = getattr(p, name) or ([] if default is None else [default])
            if len(values) not in (1, 2) or min(values) < (0 if name == "pad" else 1):
                self.fail(f"expected one or two values for {name}, got {values}")
            sizes[name] = tuple(values * 2)[:2] if len(values) == 1 else tuple(values)
        self.window = Window(sizes["kernel_size"], sizes["stride"], sizes["pad"], sizes["dilation"])

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        x, state = bottoms[0], (1, bottoms[0][1], self.p.num_output, *bottoms[0][3:])
        if bottoms[1] != x[:2]:
            self.fail(f"expected x (T, N, C, H, W) and cont (T, N), got {x} and {bottoms[1]}")
        if self.has_static and (bottoms[2][:2] != (1, x[1]) or bottoms[2][3:] != x[3:]):
            self.fail(f"expected a static input (1, {x[1]}, C, {x[3]}, {x[4]}), got {bottoms[2]}")
        for bottom in bottoms[2 + self.has_static :]:
            if bottom != state:
                self.fail(f"expected first states {state}, got {bottom}")
        self.check_padded((*x[:3], *(size + 2 * pad for size, pad in zip(x[3:], self.window.pad, strict=True))))
        if self.window.slide(x[3:]) != x[3:]:
            self.fail(f"expected a window that keeps the size {x[3:]}, got {self.window.slide(x[3:])}")
        for bottom in [x, *bottoms[2 : 2 + self.has_static]]:
            if bottom[2] % self.p.group:
                self.fail(f"group {self.p.group} does not divide {bottom[2]} channels")
        if not self.cell.disable_hadamard:
            self.hadamard(state)
        return [(*x[:2], *state[2:]), *[state] * (self.context.num_tops - 1)]

    def hadamard(self, state: Shape) -> tuple[Shape, Shape]:
        """Return the shape of a P, and the same with ones behind it, to broadcast over (N, num_output, H, W)."""
        axis = self.axis(self.cell.axis_hadamard, 5, "axis_hadamard")
        end = axis + self.cell.num_axes_hadamard
        if axis < 1 or not axis < end <= 5:
            self.fail(f"expected axis_hadamard and num_axes_hadamard within axes 1 to 4, got axes {axis} to {end - 1}")
        return state[axis:end], (*state[axis:end], *[1] * (5 - end))

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        p, outputs = self.p, 4 * self.p.num_output

        def weight(name: str, channels: int) -> BlobSpec:
            return BlobSpec(name, (outputs, channels // p.group, *self.window.kernel), p.weight_filler)

        specs = [weight("weight_x", bottoms[0][2])]
        if self.has_static:
            specs.append(weight("weight_static", bottoms[2][2]))
        specs.append(weight("weight_h", p.num_output))
        if p.bias_term:
            specs.append(BlobSpec("bias", (outputs,), p.bias_filler))
        if not self.cell.disable_hadamard:
            shape = self.hadamard((1, bottoms[0][1], p.num_output, *bottoms[0][3:]))[0]
            specs += [BlobSpec(f"cell_{gate}", shape, FillerParameter(value=1.0)) for gate in ("i", "f", "o")]
        return specs

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        steps = count(bottoms[0], 0, 2) * count(bottoms[0], 3)
        return steps * sum(
            count(spec.shape) for spec in self.blob_specs(bottoms) if spec.name in ("weight_x", "weight_h")
        )

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return sample_continuation(shape, random) if index == 1 else None

    def module(self, bottoms: list[Shape]) -> Any:
        spread = None
        if not self.cell.disable_hadamard:
            spread = self.hadamard((1, bottoms[0][1], self.p.num_output, *bottoms[0][3:]))[1]
        return nn.ConvLSTM(self.window, self.p.group, self.has_static, self.exposes, spread)

    def onnx(self, g: Emitter, *x: Tensor) -> list[Tensor]:
        """Emit a Scan over time; the body gets the states, one step of x already convolved, and of cont."""
        names = [spec.name for spec in self.blob_specs([bottom.shape for bottom in x])]
        outputs, (sequences, _, *size) = 4 * self.p.num_output, x[0].shape[1:]
        for axis in range(1, 5):
            x[0].static(axis)
        state = (sequences, self.p.num_output, *size)
        inputs = g.op("Reshape", x[0], g.ints([-1, *x[0].shape[2:]]))
        inputs = self._convolve(g, inputs, g.blob(0))
        inputs = g.op("Reshape", inputs, g.ints([-1, sequences, outputs, *size]))
        if self.has_static:
            static = g.op("Squeeze", x[2], g.ints([0]))
            inputs = g.op("Add", inputs, self._convolve(g, static, g.blob(1)))  # broadcast over time
        cont = g.unsqueeze(x[1], [2, 3, 4])
        if self.exposes:
            first = [g.op("Squeeze", bottom, g.ints([0])) for bottom in x[2 + self.has_static :]]
        else:
            first = [g.const(np.zeros(state)) for _ in range(2)]

        def step(old: list[Tensor], slices: list[Tensor]) -> list[Tensor]:
            fed, here = slices
            bias = [g.blob(names.index("bias"))] if self.p.bias_term else []
            hidden = g.op("Mul", old[0], here)
            gates = g.op("Add", self._convolve(g, hidden, g.blob(names.index("weight_h")), *bias), fed)
            i, f, o, new = g.split(gates, 1, [self.p.num_output] * 4, 4)
            if not self.cell.disable_hadamard:
                spread = self.hadamard((1, *state))[1]
                terms = [g.op("Mul", old[1], g.blob(names.index(f"cell_{gate}"), spread, how="cell")) for gate in "ifo"]
                i, f, o = (g.op("Add", gate, term) for gate, term in zip((i, f, o), terms, strict=True))
            i, f, o = (g.op("Sigmoid", gate) for gate in (i, f, o))
            carried = g.op("Mul", g.op("Mul", f, here), old[1])
            cell = g.op("Add", carried, g.op("Mul", i, g.op("Tanh", new)))
            top = g.op("Mul", o, g.op("Tanh", cell))
            return [top, cell, g.op("Identity", top)]  # a graph may not name one value as two outputs

        states = {f"state{i}": before for i, before in enumerate(first)}
        h, c, top = g.scan(step, states, {"step": inputs, "cont": cont})
        return [top, g.unsqueeze(h, [0]), g.unsqueeze(c, [0])] if self.exposes else [top]

    def _convolve(self, g: Emitter, x: Tensor, *blobs: Tensor) -> Tensor:
        window = self.window
        return g.op(
            "Conv",
            x,
            *blobs,
            kernel_shape=list(window.kernel),
            strides=list(window.stride),
            pads=[*window.pad, *window.pad],
            dilations=list(window.dilation),
            group=self.p.group,
        )
