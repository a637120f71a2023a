"""The layers of DeconvNet (HyeonwooNoh/DeconvNet, whose Caffe is HyeonwooNoh/caffe): Unpooling and EltwiseAccuracy.

Definitions: unpooling_layer.cpp and eltwise_accuracy_layer.cpp of that fork and of those that took them over.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import MAX_INT, Operator, Role, Shape, layer_type, nn
from .loss import ClassLoss, check_labels
from .resampling import UpsampleSize
from .windows import PoolWindow

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


class UnpoolMethod(enum.Enum):
    MAX = 0
    AVE = 1
    TILE = 2


@schema
class UnpoolingParameter:
    unpool: UnpoolMethod = UnpoolMethod.MAX
    pad: int = 0
    pad_h: int | None = None
    pad_w: int | None = None
    kernel_size: int | None = None
    kernel_h: int | None = None
    kernel_w: int | None = None
    stride: int = 1
    stride_h: int | None = None
    stride_w: int | None = None
    unpool_size: int | None = None
    unpool_h: int | None = None
    unpool_w: int | None = None


@layer_type("Unpooling")
class Unpooling(Operator):
    """A feature map spread over unpool_size, or unpool_h x unpool_w, zeros elsewhere.

    MAX: every number where bottom 1, the mask of a MAX pooling, says (h * W' + w), or without a mask at the first
    pixel of its window. AVE: over its window, divided by the window's pixels; TILE: repeated over it. Where windows
    overlap the numbers add up. The gradient of TILE is the mean over the window, as the fork has it.
    """

    schemas = {"unpooling_param": UnpoolingParameter}
    bottoms = (1, 2)
    bottom_axes = ((4, 4),)

    def setup(self) -> None:
        p = self.p
        kernel = (p.kernel_h or p.kernel_size, p.kernel_w or p.kernel_size)
        stride = (p.stride_h or p.stride, p.stride_w or p.stride)
        size = (p.unpool_h or p.unpool_size, p.unpool_w or p.unpool_size)
        for title, pair in (("kernel", kernel), ("stride", stride), ("size (unpool_size)", size)):
            if not all(length is not None and 1 <= length <= MAX_INT for length in pair):
                self.fail(f"expected a {title} of 1 or more, got {pair}")
        if p.pad or p.pad_h or p.pad_w:
            self.fail("expected no pad; the fork has none either")
        if self.context.num_bottoms == 2 and p.unpool is not UnpoolMethod.MAX:
            self.fail(f"a mask is for MAX only, not for {p.unpool.name}")
        self.size: Any = size
        self.window = PoolWindow(kernel, stride, (0, 0))

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.same_shape(bottoms)
        top = (*bottoms[0][:2], *self.size)
        self.check_padded(top)
        lasts = [(bottoms[0][i + 2] - 1) * self.window.stride[i] for i in (0, 1)]
        if len(bottoms) == 1 and any(last >= size for last, size in zip(lasts, self.size, strict=True)):
            self.fail(f"the last window starts at {tuple(lasts)}, beyond the unpool size {self.size}")
        return [top]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        if index == 0:
            return None
        places = random.permutation(self.size[0] * self.size[1])
        return np.resize(places, shape[2] * shape[3]).reshape(shape[2:]) + np.zeros(shape)

    def lengths(self, bottom: Shape) -> np.ndarray:
        """Return the pixels of every window, (1, 1, H, W)."""
        rows, columns = (
            np.minimum(self.window.kernel[i], self.size[i] - np.arange(bottom[i + 2]) * self.window.stride[i])
            for i in (0, 1)
        )
        return np.outer(rows, columns)[None, None]

    def module(self, bottoms: list[Shape]) -> Any:
        if len(bottoms) == 2:
            return nn.MaskUpsample(UpsampleSize(self.size, (1, 1)))
        kernel = (1, 1) if self.p.unpool is UnpoolMethod.MAX else self.window.kernel
        lengths = np.ones((1, 1, *bottoms[0][2:])) if self.p.unpool is UnpoolMethod.MAX else self.lengths(bottoms[0])
        return nn.Unpooling(kernel, self.window.stride, self.size, lengths, self.p.unpool is UnpoolMethod.TILE)

    def onnx(self, g: Emitter, *x: Tensor) -> Any:
        channels, height, width = (x[0].static(axis) for axis in (1, 2, 3))
        if len(x) == 2:
            flat, mask = (g.op("Reshape", bottom, g.ints([0, 0, -1])) for bottom in x)
            front = g.op("Slice", g.op("Shape", x[0]), g.ints([0]), g.ints([2]))
            shape = g.op("Concat", front, g.ints([self.size[0] * self.size[1]]), axis=0)
            placed = g.op("ScatterElements", g.op("Expand", g.const(0.0), shape), g.cast(mask, "int64"), flat, axis=2)
            return g.op("Reshape", placed, g.ints([0, 0, *self.size]))
        is_max = self.p.unpool is UnpoolMethod.MAX
        kernel = (1, 1) if is_max else self.window.kernel
        spread: Any = x[0]
        if self.p.unpool is UnpoolMethod.AVE:
            spread = g.op("Div", spread, g.const(self.lengths(x[0].shape)))
        ones = g.const(np.ones((channels, 1, *kernel)))
        top = g.op(
            "ConvTranspose", spread, ones, kernel_shape=list(kernel), strides=list(self.window.stride), group=channels
        )
        whole = [(n - 1) * s + k for n, s, k in zip((height, width), self.window.stride, kernel, strict=True)]
        top = g.slice(top, [2, 3], [0, 0], [min(a, b) for a, b in zip(whole, self.size, strict=True)])
        return g.pad(top, [0] * 4, [0, 0, *(max(b - a, 0) for a, b in zip(whole, self.size, strict=True))])


@schema
class EltwiseAccuracyParameter:
    top_k: int = 1
    ignore_label: int | None = None
    use_label: int | None = None
    axis: int = 1  # no field of the fork: its classes are the channels


@layer_type("EltwiseAccuracy")
class EltwiseAccuracy(ClassLoss):
    """The share of pixels whose label is among the top_k scores, those of ignore_label, and all but use_label's, apart.

    Of equal scores the later class comes first.
    """

    schemas = {"eltwise_accuracy_param": EltwiseAccuracyParameter}
    role = Role.METRIC
    bottom_axes = ((4, 4),)

    def setup(self) -> None:
        if self.p.axis != 1:
            self.fail("the classes are on axis 1")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        check_labels(self, bottoms[0], bottoms[1], 1)
        if not 1 <= self.p.top_k <= bottoms[0][1]:
            self.fail(f"expected a top_k from 1 to {bottoms[0][1]}, got {self.p.top_k}")
        return [(1, 1, 1, 1)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.EltwiseAccuracy(self.p.top_k, self.p.ignore_label, self.p.use_label)
