"""Convolution over any number of spatial axes, and its transpose."""

from __future__ import annotations

import enum
import math
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..formats.schema import Word, schema
from .base import MAX_INT, BlobSpec, InPlace, Operator, Shape, count, layer_type, nn
from .fillers import FillerParameter
from .quantization import FixedPointWeights, refuse_fixed_point
from .windows import Window

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


class PadType(enum.Enum):
    """Synopsys' fork: pads as given, or as TensorFlow's SAME."""

    CAFFE = 0
    SAME = 1


@schema
class ConvolutionParameter(FixedPointWeights):
    num_output: int = 0
    bias_term: bool = True
    pad: list[int] = field(default_factory=list)
    kernel_size: list[int] = field(default_factory=list)
    stride: list[int] = field(default_factory=list)
    dilation: list[int] = field(default_factory=list)
    pad_h: int | None = None
    pad_w: int | None = None
    kernel_h: int | None = None
    kernel_w: int | None = None
    stride_h: int | None = None
    stride_w: int | None = None
    group: int = 1
    weight_filler: FillerParameter = field(default_factory=FillerParameter)
    bias_filler: FillerParameter = field(default_factory=FillerParameter)
    engine: Word = Word()
    axis: int = 1
    force_nd_im2col: bool = False
    pad_type: PadType = PadType.CAFFE
    pad_l: int = 0
    pad_r: int = 0
    pad_t: int = 0
    pad_b: int = 0
    submanifold_sparse: bool = False


class Windowed(Operator):
    """The common base of Convolution, Deconvolution and Im2col: the window, and the axis the channels are on."""

    schemas = {"convolution_param": ConvolutionParameter}
    tops: ClassVar[tuple[int, int | None]] = (1, None)
    bottoms: ClassVar[tuple[int, int | None]] = (1, None)

    def setup(self) -> None:
        if self.context.num_bottoms != self.context.num_tops:
            self.fail(f"expected as many tops as bottoms, got {self.context.num_bottoms} and {self.context.num_tops}")
        p = self.p
        refuse_fixed_point(self, p)
        if p.submanifold_sparse:
            self.fail("submanifold_sparse is not supported")
        self.sides = (p.pad_t, p.pad_l, p.pad_b, p.pad_r) if any((p.pad_l, p.pad_r, p.pad_t, p.pad_b)) else None
        fields = [
            title
            for title, value in (
                ("pad", p.pad or p.pad_h or p.pad_w),
                ("pad_type", p.pad_type is PadType.SAME),
                ("pad_l, pad_r, pad_t and pad_b", self.sides),
            )
            if value
        ]
        if len(fields) > 1:
            self.fail(f"gives both {fields[0]} and {fields[1]}; expected one of the two")

    def channel_axis(self, bottom: Shape) -> int:
        return self.axis(self.p.axis, len(bottom))

    def window(self, bottom: Shape) -> Window:
        axes = len(bottom) - self.channel_axis(bottom) - 1
        window = Window(
            self._per_axis("kernel", self.p.kernel_size, self.p.kernel_h, self.p.kernel_w, axes, None),
            self._per_axis("stride", self.p.stride, self.p.stride_h, self.p.stride_w, axes, 1),
            self._per_axis("pad", self.p.pad, self.p.pad_h, self.p.pad_w, axes, 0),
            self._per_axis("dilation", self.p.dilation, None, None, axes, 1),
        )
        for title, sizes in (("kernel", window.kernel), ("stride", window.stride), ("dilation", window.dilation)):
            if not all(1 <= size <= MAX_INT for size in sizes):
                self.fail(f"expected a {title} of 1 to {MAX_INT} along each axis, got {sizes}")
        if self.sides:
            if axes != 2:
                self.fail(f"pad_l, pad_r, pad_t and pad_b are for 2 spatial axes, but the bottom has {axes}")
            window = replace(window, pad=self.sides[:2], far=self.sides[2:])
        if self.p.pad_type is PadType.SAME:
            window = replace(window, same=True)
            if all(stride == 1 for stride in window.stride):  # the pads are those of any size
                window = window.at((1,) * axes)
        pads = (*window.pad, *(window.far or ()))
        if not all(0 <= pad <= MAX_INT for pad in pads):
            self.fail(f"expected a pad of 0 to {MAX_INT} along each axis, got {pads}")
        self.check_padded(self.padded(window, bottom))
        return window

    def padded(self, window: Window, bottom: Shape) -> Shape:
        """Return the shape of the bottom with its padding."""
        before = self.channel_axis(bottom) + 1
        near, far = window.edges(bottom[before:])
        return (*bottom[:before], *(sum(sides) for sides in zip(bottom[before:], near, far, strict=True)))

    def _per_axis(
        self, title: str, repeated: list[int], h: int | None, w: int | None, axes: int, default: int | None
    ) -> Shape:
        if h is not None or w is not None:
            if repeated:
                self.fail(f"gives both {title}_h/{title}_w and {title}; expected one of the two")
            if axes != 2:
                self.fail(f"{title}_h and {title}_w are for 2 spatial axes, but the bottom has {axes}")
            if (h is None or w is None) and default is None:
                self.fail(f"expected both {title}_h and {title}_w")
            return (default if h is None else h, default if w is None else w)  # type: ignore[return-value]
        if not repeated and axes:
            if default is None:
                self.fail(f"expected a {title}_size")
            return (default,) * axes
        if len(repeated) not in (1, axes) and axes:
            self.fail(f"expected 1 or {axes} values for {title}, got {len(repeated)}")
        return tuple(repeated * axes if len(repeated) == 1 else repeated)[:axes]

    def flat(self, bottom: Shape) -> Shape:
        """Return the bottom with the axes before the channels as one batch axis."""
        axis = self.channel_axis(bottom)
        return (count(bottom, 0, axis), *bottom[axis:])


@layer_type("Convolution")
class Convolution(Windowed):
    """y = W * x + b; W is (num_output, channels / group, kernel...)"""

    in_place = InPlace.OVERWRITTEN
    torch_modules: ClassVar[tuple[str, ...]] = ("Conv1d", "Conv2d", "Conv3d")  # for 1, 2 and 3 spatial axes
    transposed: ClassVar[bool] = False

    def groups(self, channels: int) -> int:
        return self.p.group

    def outputs(self, channels: int) -> int:
        """Return the channels of the top."""
        return self.p.num_output

    def setup(self) -> None:
        super().setup()
        if self.p.num_output < 1:
            self.fail(f"expected a num_output of 1 or more, got {self.p.num_output}")
        if self.p.group < 1:
            self.fail(f"expected a group of 1 or more, got {self.p.group}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.same_shape(bottoms)
        axis = self.channel_axis(bottoms[0])
        channels, group = bottoms[0][axis], self.groups(bottoms[0][axis])
        outputs = self.outputs(channels)
        if channels % group or outputs % group:
            self.fail(f"group {group} divides neither or only one of {channels} channels and {outputs} outputs")
        window = self.window(bottoms[0])
        size = self.output_size(window, bottoms[0][axis + 1 :])
        if any(dim < 1 for dim in size):
            self.fail(f"a kernel of {window.kernel} does not fit a bottom of {bottoms[0]}")
        return [(*bottoms[0][:axis], outputs, *size)] * len(bottoms)

    def output_size(self, window: Window, size: Shape) -> Shape:
        return window.slide(size)

    def weight_shape(self, channels: int, group: int, kernel: Shape) -> Shape:
        return (self.outputs(channels), channels // group, *kernel)

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        channels = bottoms[0][self.channel_axis(bottoms[0])]
        shape = self.weight_shape(channels, self.groups(channels), self.window(bottoms[0]).kernel)
        specs = [BlobSpec("weight", shape, self.p.weight_filler)]
        if self.p.bias_term:
            specs.append(BlobSpec("bias", (self.outputs(channels),), self.p.bias_filler))
        return specs

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        axis = self.channel_axis(bottoms[0])
        channels = bottoms[0][axis]
        per_output = channels // self.groups(channels) * math.prod(self.window(bottoms[0]).kernel)
        return sum(count(top) for top in tops) * per_output

    def module(self, bottoms: list[Shape]) -> Any:
        window, axis = self.window(bottoms[0]), self.channel_axis(bottoms[0])
        axes, channels = len(window.kernel), bottoms[0][axis]
        if axes > 3:
            self.fail(f"torch has no convolution over {axes} spatial axes, only up to 3")
        if axis != 1 or not axes or len(bottoms) > 1 or not window.even:
            shapes = [spec.shape for spec in self.blob_specs(bottoms)]
            return nn.Convolution(shapes, window, self.groups(channels), axis, self.transposed)
        return getattr(nn, self.torch_modules[axes - 1])(
            channels,
            self.outputs(channels),
            window.kernel,
            window.stride,
            window.pad,
            dilation=window.dilation,
            groups=self.groups(channels),
            bias=self.p.bias_term,
        )

    def onnx(self, g: Emitter, *x: Tensor) -> list[Tensor]:
        return [self._onnx_one(g, "Conv", bottom, top) for bottom, top in zip(x, g.tops, strict=True)]

    def _onnx_one(self, g: Emitter, kind: str, x: Tensor, top: Tensor) -> Tensor:
        window = self.window(x.shape)
        axis = self.channel_axis(x.shape)
        if not window.kernel or axis != 1:
            return self._onnx_reshaped(g, kind, x, top, window, axis)
        if window.same and any(stride > 1 for stride in window.stride):
            for i in range(2, x.rank):
                x.static(i)  # the pads follow the size
        return self._onnx_conv(g, kind, x, window.at(x.shape[2:]))

    def _onnx_conv(self, g: Emitter, kind: str, x: Tensor, window: Window) -> Tensor:
        return g.op(
            kind,
            x,
            *g.blobs(),
            kernel_shape=list(window.kernel),
            strides=list(window.stride),
            pads=[*window.pad, *(window.pad if window.far is None else window.far)],
            dilations=list(window.dilation),
            group=self.groups(x.shape[1]),
        )

    def _onnx_reshaped(self, g: Emitter, kind: str, x: Tensor, top: Tensor, window: Window, axis: int) -> Tensor:
        """Convolve as a batch of one-high images, for channels on another axis than 1 or no spatial axis at all."""
        for i in range(x.rank):
            x.static(i)
        flat = g.op("Reshape", x, g.ints([*self.flat(x.shape), *([] if window.kernel else [1])]))
        if window.kernel:
            result = self._onnx_conv(g, kind, flat, window.at(flat.shape[2:]))
        else:
            weight = self.blob_specs([x.shape])[0].shape
            blobs = [g.blob(0, (*weight, 1), how="1d"), *([g.blob(1)] if self.p.bias_term else [])]
            result = g.op(kind, flat, *blobs, kernel_shape=[1], group=self.groups(flat.shape[1]))
        return g.op("Reshape", result, g.ints(list(top.shape)))

    def can_absorb(self, top: Shape) -> bool:
        return self.context.num_tops == 1 and len(top) > 2 and self.channel_axis(top) == 1

    def absorb(self, top: Shape, blobs: list[np.ndarray], scale: np.ndarray, shift: np.ndarray) -> list[np.ndarray]:
        weight = blobs[0] * self.spread(scale, blobs[0])
        return [weight, shift + (blobs[1] * scale if len(blobs) > 1 else 0)]

    def can_absorb_before(self, bottom: Shape, shifts: bool) -> bool:
        if self.transposed or not self.can_absorb(bottom):  # a transpose's edges get less of a shift than its middle
            return False
        window = self.window(bottom)
        padded = window.same or any((*window.pad, *(window.far or ())))
        return not (padded and shifts)

    def absorb_before(
        self, bottom: Shape, blobs: list[np.ndarray], scale: np.ndarray, shift: np.ndarray
    ) -> list[np.ndarray]:
        weight, group = np.asarray(blobs[0], np.float64), self.groups(bottom[1])
        outputs, per_group = weight.shape[0], bottom[1] // group
        spread = (outputs, per_group, *[1] * (weight.ndim - 2))

        def of_outputs(numbers: np.ndarray) -> np.ndarray:
            """Return an input channel's number for every output and channel of the output's group."""
            rows = np.broadcast_to(numbers.reshape(group, 1, per_group), (group, outputs // group, per_group))
            return rows.reshape(spread)

        added = (weight * of_outputs(shift)).sum(axis=tuple(range(1, weight.ndim)))
        return [weight * of_outputs(scale), added + (blobs[1] if len(blobs) > 1 else 0)]

    def spread(self, scale: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return a number per output channel, shaped to multiply the weight."""
        return scale.reshape(-1, *[1] * (weight.ndim - 1))


@layer_type("DepthwiseConvolution")
class DepthwiseConvolution(Convolution):
    """Convolution with a group for every channel, whatever ``group`` says; of MobileNet forks"""

    def groups(self, channels: int) -> int:
        return channels


@layer_type("ConvolutionDepthwise")
class ConvolutionDepthwise(DepthwiseConvolution):
    """Convolution with a group for every channel and as many outputs, whatever ``num_output`` and ``group`` say

    conv_dw_layer.cpp of MobileNet forks, which reads neither field. Stored weights may tell another fork's layer
    (foss-for-synopsys-dwc-arc-processors/synopsys-caffe ``conv_depthwise_layer.cpp``), which obeys both.
    """

    def groups(self, channels: int) -> int:
        stored = self._stored()
        obeys = stored[:1] == (self.p.num_output,) and stored[1:2] == (channels // self.p.group,)
        return self.p.group if obeys else channels

    def outputs(self, channels: int) -> int:
        several = self.p.num_output % channels == 0 and self._stored()[:1] != (channels,)
        return self.p.num_output if several or self.groups(channels) != channels else channels

    def _stored(self) -> Shape:
        """Return the shape of the weight in the file, () where there is none."""
        stored = self.context.stored_shapes
        return stored[0] if stored else ()


@layer_type("Deconvolution")
class Deconvolution(Convolution):
    """The transpose of Convolution; W is (channels, num_output / group, kernel...), the top s(i-1) + d(k-1) + 1 - 2p"""

    torch_modules = ("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")
    transposed = True

    def setup(self) -> None:
        super().setup()
        if self.p.pad_type is PadType.SAME:
            self.fail(
                "pad_type SAME has no meaning for a Deconvolution; expected pad, or pad_l, pad_r, pad_t and pad_b"
            )

    def output_size(self, window: Window, size: Shape) -> Shape:
        near, far = window.edges(size)
        return tuple(
            s * (i - 1) + extent - p - q
            for i, p, q, extent, s in zip(size, near, far, window.extents(), window.stride, strict=True)
        )

    def padded(self, window: Window, bottom: Shape) -> Shape:
        """Return the shape of the top before its padding is cut off."""
        before = self.channel_axis(bottom)
        size = self.output_size(replace(window, pad=(0,) * len(window.pad), far=None), bottom[before + 1 :])
        return (*bottom[:before], self.p.num_output, *size)

    def weight_shape(self, channels: int, group: int, kernel: Shape) -> Shape:
        return (channels, self.p.num_output // group, *kernel)

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        axis = self.channel_axis(bottoms[0])
        per_input = self.p.num_output // self.groups(bottoms[0][axis]) * math.prod(self.window(bottoms[0]).kernel)
        return sum(count(bottom) for bottom in bottoms) * per_input

    def onnx(self, g: Emitter, *x: Tensor) -> list[Tensor]:
        return [self._onnx_one(g, "ConvTranspose", bottom, top) for bottom, top in zip(x, g.tops, strict=True)]

    def spread(self, scale: np.ndarray, weight: np.ndarray) -> np.ndarray:
        group = self.groups(weight.shape[0])
        per_group = scale.reshape(group, 1, weight.shape[1])
        rows = np.broadcast_to(per_group, (group, weight.shape[0] // group, weight.shape[1]))
        return rows.reshape(weight.shape[0], weight.shape[1], *[1] * (weight.ndim - 2))
