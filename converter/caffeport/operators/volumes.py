"""Convolution and pooling over three axes: time, height and width of a video (N, C, L, H, W).

Definitions: facebookarchive/C3D, C3D-v1.1/src/caffe/layers (Convolution3D, Deconvolution3D, Pooling3D; version 1.0
has their fields in convolution_param and pooling_param), and chuckcho/video-caffe src/caffe/layers/cudnn_nd*_layer.cpp
(NdConvolution and NdPooling, over any number of axes).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import Word, schema
from .base import MAX_INT, Operator, Shape, layer_type, nn
from .convolution import Convolution, ConvolutionParameter, Deconvolution
from .data import BlobShape
from .fillers import FillerParameter
from .windows import Window

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor

FLOAT_MIN = float(np.finfo(np.float32).min)


@schema
class Convolution3DParameter:
    num_output: int = 0
    bias_term: bool = True
    pad: int = 0
    kernel_size: int = 0
    group: int = 1  # read by no version of the layer
    kernel_depth: int = 0
    stride: int = 1
    temporal_stride: int = 1
    weight_filler: FillerParameter = field(default_factory=FillerParameter)
    bias_filler: FillerParameter = field(default_factory=FillerParameter)
    filter_group: int = 1  # computed in so many parts, each over all channels
    temporal_pad: int = 0
    engine: Word = Word()


class C3D(Convolution):
    """The common base of Convolution3D and Deconvolution3D: a window of one size in space and another in time."""

    bottoms = (1, 1)
    tops = (1, 1)
    bottom_axes = ((5, 5),)

    def setup(self) -> None:
        self.p = self.context.messages.get("convolution3d_param") or self.message("convolution_param")
        self.sides = None
        if self.p.num_output < 1 or self.p.filter_group < 1 or self.p.num_output % self.p.filter_group:
            self.fail(
                f"expected a num_output of 1 or more that filter_group divides, got {self.p.num_output} and "
                f"{self.p.filter_group}"
            )
        if not self.p.kernel_depth or not self.p.kernel_size:
            self.fail("expected a kernel_size and a kernel_depth")

    def channel_axis(self, bottom: Shape) -> int:
        return 1

    def groups(self, channels: int) -> int:
        return 1

    def window(self, bottom: Shape) -> Window:
        p = self.p
        kernel, stride = (p.kernel_depth, *[p.kernel_size] * 2), (p.temporal_stride, *[p.stride] * 2)
        pad = (p.temporal_pad, *[p.pad] * 2)
        if not all(1 <= size <= MAX_INT for size in kernel + stride) or not all(0 <= size <= MAX_INT for size in pad):
            self.fail(f"expected kernels and strides of 1 or more and pads of 0 or more, got {kernel}, {stride}, {pad}")
        window = Window(kernel, stride, pad, (1, 1, 1))
        self.check_padded(self.padded(window, bottom))
        return window


@layer_type("Convolution3D")
class Convolution3D(C3D):
    """y = W * x + b over (L, H, W); W is (num_output, channels, kernel_depth, kernel_size, kernel_size)"""

    schemas = {"convolution3d_param": Convolution3DParameter, "convolution_param": Convolution3DParameter}


@layer_type("Deconvolution3D")
class Deconvolution3D(C3D, Deconvolution):
    """The transpose of Convolution3D; W is (channels, num_output, kernel_depth, kernel_size, kernel_size)"""

    schemas = {"convolution3d_param": Convolution3DParameter, "convolution_param": Convolution3DParameter}


@schema
class NdConvolutionParameter(ConvolutionParameter):
    kernel_shape: BlobShape = field(default_factory=BlobShape)
    stride_shape: BlobShape = field(default_factory=BlobShape)
    pad_shape: BlobShape = field(default_factory=BlobShape)


@layer_type("NdConvolution")
class NdConvolution(Convolution):
    """Convolution whose kernel, stride and pad are given axis by axis, as kernel_shape, stride_shape and pad_shape"""

    schemas = {"convolution_param": NdConvolutionParameter}
    bottom_axes = ((3, None),)

    def setup(self) -> None:
        p = self.p
        if not p.kernel_shape.dim:
            self.fail("expected a kernel_shape")
        if p.kernel_size or p.stride or p.pad or p.dilation:
            self.fail("expected kernel_shape, stride_shape and pad_shape in place of kernel_size, stride and pad")
        shapes = {"kernel_size": p.kernel_shape.dim, "stride": p.stride_shape.dim, "pad": p.pad_shape.dim}
        for name in ("stride", "pad"):
            if len(shapes[name]) not in (0, len(p.kernel_shape.dim)):
                self.fail(f"expected as many values in {name}_shape as in kernel_shape")
        self.p = replace(p, **shapes)
        super().setup()

    def window(self, bottom: Shape) -> Window:
        if len(self.p.kernel_size) != len(bottom) - 2:
            self.fail(f"expected a kernel_shape of {len(bottom) - 2} values, got {len(self.p.kernel_size)}")
        return super().window(bottom)


class VolumeMethod(enum.Enum):
    MAX = 0
    AVE = 1
    STOCHASTIC = 2


@schema
class Pooling3DParameter:
    pool: VolumeMethod = VolumeMethod.MAX
    kernel_size: int = 0
    stride: int = 1
    pad: int = 0
    kernel_depth: int = 0
    temporal_stride: int = 1
    engine: Word = Word()


@dataclass(frozen=True)
class VolumeWindow:
    """Kernel, stride and pad of every spatial axis; positions are rounded up.

    ``clips``: a last position that starts behind the near pad and the blob is dropped from an axis that has a pad.
    """

    kernel: Shape
    stride: Shape
    pad: Shape
    clips: bool

    def positions(self, size: Sequence[int]) -> Shape:
        counts = []
        for i, k, s, p in zip(size, self.kernel, self.stride, self.pad, strict=True):
            count = -(-(i + 2 * p - k) // s) + 1
            counts.append(count - 1 if self.clips and p and (count - 1) * s >= i + p else count)
        return tuple(counts)

    @property
    def torch_agrees(self) -> bool:
        """Return whether torch's pooling has the same windows at any size: it always clips, pads up to half a
        kernel."""
        return all(
            2 * p <= k and (p + s <= k or (self.clips and p > 0))
            for k, s, p in zip(self.kernel, self.stride, self.pad, strict=True)
        )

    def far(self, size: Sequence[int]) -> Shape:
        """Return the padding behind with which rounding down gives these positions; negative where the rest is in
        none."""
        return tuple(
            (count - 1) * s + k - p - i
            for count, i, k, s, p in zip(self.positions(size), size, self.kernel, self.stride, self.pad, strict=True)
        )

    def divisors(self, size: Sequence[int]) -> np.ndarray:
        """Return the share of the padded blob that each window covers."""
        area = np.ones(())
        for count, i, k, s, p in zip(self.positions(size), size, self.kernel, self.stride, self.pad, strict=True):
            starts = np.arange(count) * s - p
            area = area[..., None] * (np.minimum(starts + k, i + p) - starts)
        return area


class VolumePooling(Operator):
    """The common base of Pooling3D and NdPooling."""

    def window(self, bottom: Shape) -> VolumeWindow:
        raise NotImplementedError

    def checked(self, window: VolumeWindow) -> VolumeWindow:
        sizes = (*window.kernel, *window.stride)
        if not all(1 <= size <= MAX_INT for size in sizes) or not all(
            0 <= pad < kernel for pad, kernel in zip(window.pad, window.kernel, strict=True)
        ):
            self.fail(
                f"expected kernels and strides of 1 or more and pads below the kernel, got {window.kernel}, "
                f"{window.stride}, {window.pad}"
            )
        return window

    def setup(self) -> None:
        if self.p.pool is VolumeMethod.STOCHASTIC:
            self.fail("expected pool MAX or AVE; this layer's STOCHASTIC was never written")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,), window = bottoms, self.window(bottoms[0])
        padded = tuple(size + 2 * pad for size, pad in zip(bottom[2:], window.pad, strict=True))
        self.check_padded((*bottom[:2], *padded))
        if any(kernel > size for kernel, size in zip(window.kernel, padded, strict=True)):
            self.fail(f"a kernel of {window.kernel} does not fit a bottom of {bottom}")
        positions = window.positions(bottom[2:])
        starts = [(count - 1) * s - p for count, s, p in zip(positions, window.stride, window.pad, strict=True)]
        if any(start >= size for start, size in zip(starts, bottom[2:], strict=True)):
            self.fail(f"a window of stride {window.stride} lies beyond a bottom of {bottom}")
        return [(*bottom[:2], *positions)]

    def module(self, bottoms: list[Shape]) -> Any:
        window, is_max = self.window(bottoms[0]), self.p.pool is VolumeMethod.MAX
        if not window.torch_agrees or len(window.kernel) > 3:
            return nn.VolumePooling(window, is_max)
        name = f"{'Max' if is_max else 'Avg'}Pool{len(window.kernel)}d"
        return getattr(nn, name)(window.kernel, window.stride, window.pad, ceil_mode=True)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        window, is_max = self.window(x[0].shape), self.p.pool is VolumeMethod.MAX
        size = [x[0].static(axis) for axis in range(2, x[0].rank)]
        far, name = window.far(size), x[0]
        ends: Any = None
        if min(far) < 0:
            ends = [length + min(edge, 0) for length, edge in zip(size, far, strict=True)]
            cut = g.slice(x[0], list(range(2, x[0].rank)), [0] * len(size), ends)
        near, behind = [0, 0, *window.pad], [0, 0, *(max(edge, 0) for edge in far)]
        padded = g.pad(name if ends is None else cut, near, behind, FLOAT_MIN if is_max else 0.0)
        shape = {"kernel_shape": list(window.kernel), "strides": list(window.stride)}
        if is_max:
            return g.op("MaxPool", padded, **shape)
        mean = g.op("AveragePool", padded, **shape)
        area = window.divisors(size)
        whole = math.prod(window.kernel)
        return mean if (area == whole).all() else g.op("Mul", mean, g.const(whole / area[None, None]))


@layer_type("Pooling3D")
class Pooling3D(VolumePooling):
    """MAX or AVE over windows of kernel_depth x kernel_size x kernel_size; AVE alone may pad, and not in time"""

    schemas = {"pooling3d_param": Pooling3DParameter, "pooling_param": Pooling3DParameter}
    bottom_axes = ((5, 5),)

    def setup(self) -> None:
        self.p = self.context.messages.get("pooling3d_param") or self.message("pooling_param")
        super().setup()
        if not self.p.kernel_depth or not self.p.kernel_size:
            self.fail("expected a kernel_size and a kernel_depth")
        if self.p.pad and self.p.pool is VolumeMethod.MAX:
            self.fail("a pad is for AVE only")

    def window(self, bottom: Shape) -> VolumeWindow:
        p = self.p
        return self.checked(
            VolumeWindow(
                (p.kernel_depth, p.kernel_size, p.kernel_size),
                (p.temporal_stride, p.stride, p.stride),
                (0, p.pad, p.pad),
                clips=False,
            )
        )


@schema
class NdPoolingParameter:
    pool: VolumeMethod = VolumeMethod.MAX
    kernel_shape: BlobShape = field(default_factory=BlobShape)
    stride_shape: BlobShape = field(default_factory=BlobShape)
    pad_shape: BlobShape = field(default_factory=BlobShape)
    global_pooling: bool = False
    engine: Word = Word()


@layer_type("NdPooling")
class NdPooling(VolumePooling):
    """MAX or AVE over windows given axis by axis, as kernel_shape, stride_shape and pad_shape"""

    schemas = {"pooling_param": NdPoolingParameter}
    bottom_axes = ((3, 5),)

    def window(self, bottom: Shape) -> VolumeWindow:
        axes, p = len(bottom) - 2, self.p
        kernel = bottom[2:] if p.global_pooling else tuple(p.kernel_shape.dim)
        stride, pad = tuple(p.stride_shape.dim) or (1,) * axes, tuple(p.pad_shape.dim) or (0,) * axes
        if not len(kernel) == len(stride) == len(pad) == axes:
            self.fail(
                f"expected {axes} values in kernel_shape, stride_shape and pad_shape, got {kernel}, {stride}, {pad}"
            )
        return self.checked(VolumeWindow(kernel, stride, pad, clips=True))
