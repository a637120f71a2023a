"""Pooling as Caffe rounds and divides it (see PoolWindow), and spatial pyramid pooling, which is built from it."""

from __future__ import annotations

import enum
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CaffeportWarning
from ..formats.schema import Word, schema
from .base import MAX_INT, InPlace, Operator, Shape, layer_type, nn
from .convolution import PadType
from .quantization import FixedPoint, refuse_fixed_point
from .windows import PoolWindow

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor

FLOAT_MIN = float(np.finfo(np.float32).min)


class PoolMethod(enum.Enum):
    MAX = 0
    AVE = 1
    STOCHASTIC = 2
    AVE_EXC_PAD = 3  # Synopsys' fork: divided by the number of pixels, pads not counted
    AVE_TF = 3  # its older name


class RoundMode(enum.Enum):
    CEIL = 0
    FLOOR = 1


@schema
class PoolingParameter(FixedPoint):
    pool: PoolMethod = PoolMethod.MAX
    pad: int | None = None
    pad_h: int | None = None
    pad_w: int | None = None
    kernel_size: int | None = None
    kernel_h: int | None = None
    kernel_w: int | None = None
    stride: int | None = None
    stride_h: int | None = None
    stride_w: int | None = None
    engine: Word = Word()
    global_pooling: bool = False
    round_mode: RoundMode | None = None
    ceil_mode: bool | None = None  # some forks' name for round_mode, which wins
    pad_type: PadType = PadType.CAFFE
    pad_l: int = 0
    pad_r: int = 0
    pad_t: int = 0
    pad_b: int = 0
    output_shift_instead_division: int = 0


@layer_type("Pooling")
class Pooling(Operator):
    """MAX, AVE or STOCHASTIC over windows; a second top of MAX gives the index h * W + w of each maximum.

    AVE counts the pads that a window covers, AVE_EXC_PAD (Synopsys) does not.
    """

    in_place = InPlace.OVERWRITTEN
    schemas = {"pooling_param": PoolingParameter}
    tops = (1, 2)
    bottom_axes = ((4, 4),)

    def setup(self) -> None:
        p = self.p
        if p.global_pooling and (p.kernel_size is not None or p.kernel_h is not None or p.kernel_w is not None):
            self.fail("global_pooling takes no kernel size")
        if not p.global_pooling and (p.kernel_size is None) == (p.kernel_h is None or p.kernel_w is None):
            self.fail("expected either kernel_size, or kernel_h and kernel_w")
        if self.context.num_tops == 2 and p.pool is not PoolMethod.MAX:
            self.fail("a second top (the mask) is for MAX pooling only")
        self.random = p.pool is PoolMethod.STOCHASTIC
        refuse_fixed_point(self, p)
        if p.output_shift_instead_division:
            self.fail("output_shift_instead_division asks for fixed-point arithmetic, which is not supported")
        self.sides = any((p.pad_l, p.pad_r, p.pad_t, p.pad_b))
        is_same, is_padded = p.pad_type is PadType.SAME, any((p.pad, p.pad_h, p.pad_w))
        for first, second in (("pad", "pad_type"), ("pad_type", "pad_l, pad_r, pad_t and pad_b"), ("pad", "pad_l")):
            fields = {"pad": is_padded, "pad_type": is_same}
            if fields[first] and fields.get(second, self.sides):
                self.fail(f"gives both {first} and {second}; expected one of the two")
        if self.random and (self.sides or is_same):
            self.fail("pads are for MAX and AVE pooling only")
        for field, sizes in (("pad", (p.pad, p.pad_h, p.pad_w)), ("stride", (p.stride, p.stride_h, p.stride_w))):
            whole, *parts = (size is not None for size in sizes)
            if any(parts) and (whole or not all(parts)):
                warnings.warn(
                    f'layer "{self.name}" ({self.type}): Caffe refuses it, which takes either {field}, or {field}_h '
                    f"and {field}_w; here one that is left out is {field}'s",
                    CaffeportWarning,
                    stacklevel=2,
                )

    def window(self, bottom: Shape) -> PoolWindow:
        """Return the window; its pads follow the size of the bottom where pad_type is SAME."""
        p = self.p
        pad = (p.pad_h or p.pad or 0, p.pad_w or p.pad or 0)
        stride = (p.stride_h or p.stride or 1, p.stride_w or p.stride or 1)
        ceil = p.ceil_mode is not False if p.round_mode is None else p.round_mode is RoundMode.CEIL
        inside = p.pool is PoolMethod.AVE_EXC_PAD
        if p.global_pooling:
            return PoolWindow((bottom[2], bottom[3]), (1, 1), (0, 0), ceil)
        behind = (p.pad_b, p.pad_r) if self.sides else None
        pad = (p.pad_t, p.pad_l) if self.sides else pad
        # Caffe reads kernel_h and kernel_w where there is no kernel_size alone, and lets one of them stand beside it.
        kernel = (p.kernel_h or 0, p.kernel_w or 0) if p.kernel_size is None else (p.kernel_size, p.kernel_size)
        if not all(1 <= size <= MAX_INT for size in kernel + stride) or min(pad + (behind or ())) < 0:
            self.fail(
                f"expected a kernel and stride of 1 to {MAX_INT} and a pad of 0 or more, got {kernel}, {stride}, {pad}"
            )
        for edge in (pad, behind or pad):
            if edge[0] >= kernel[0] or edge[1] >= kernel[1]:
                self.fail(f"expected a pad smaller than the kernel, got pad {edge} and kernel {kernel}")
        window = PoolWindow(kernel, stride, pad, ceil, behind, inside, p.pad_type is PadType.SAME)
        return window.at((1, 1)) if stride == (1, 1) else window  # with a stride of 1 the pads are those of any size

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,) = bottoms
        window = self.window(bottom).at((bottom[2], bottom[3]))
        self.check_padded((*bottom[:2], *(bottom[i + 2] + window.pad[i] + window.edge[i] for i in (0, 1))))
        top = (*bottom[:2], *window.positions((bottom[2], bottom[3])))
        return [top] * self.context.num_tops

    def module(self, bottoms: list[Shape]) -> Any:
        method, with_mask = self.p.pool, self.context.num_tops == 2
        is_max, window = method is PoolMethod.MAX, self.window(bottoms[0])
        if method is not PoolMethod.STOCHASTIC and not with_mask:
            if self.p.global_pooling:
                return nn.AdaptiveMaxPool2d(1) if is_max else nn.AdaptiveAvgPool2d(1)
            if window.torch_agrees and not window.is_huge:
                shape = (window.kernel, window.stride, window.pad)
                if is_max:
                    return nn.MaxPool2d(*shape, ceil_mode=window.ceil)
                return nn.AvgPool2d(*shape, ceil_mode=window.ceil, count_include_pad=not window.inside)
        if is_max:
            return nn.MaxPooling(window, with_mask)
        return nn.StochasticPooling(window) if method is PoolMethod.STOCHASTIC else nn.AvePooling(window)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor | list[Tensor]:
        method = self.p.pool
        if self.p.global_pooling and self.context.num_tops == 1 and method is not PoolMethod.STOCHASTIC:
            return g.op("GlobalMaxPool" if method is PoolMethod.MAX else "GlobalAveragePool", x[0])
        if self.p.global_pooling:
            x[0].static(2), x[0].static(3)
        window = self.window(x[0].shape)
        if window.same:
            window = window.at((x[0].static(2), x[0].static(3)))
        if window.is_huge:
            window = window.fitted((x[0].static(2), x[0].static(3)))
        if method is PoolMethod.MAX:
            tops = onnx_max(g, x[0], window, with_mask=self.context.num_tops == 2)
            return tops if self.context.num_tops == 2 else tops[0]
        if method is not PoolMethod.STOCHASTIC:
            return onnx_average(g, x[0], window)
        # In the TEST phase, STOCHASTIC is the average weighted by the numbers themselves.
        square = g.op("Mul", x[0], x[0])
        total = onnx_sum(g, x[0], window)
        return g.op("Div", onnx_sum(g, square, window), g.op("Max", total, g.const(np.finfo(np.float32).tiny)))


def _padded(
    g: Emitter, x: Tensor, near: Sequence[int], far: Sequence[int], window: PoolWindow, value: float = 0.0
) -> Tensor:
    """Emit a Pad of height and width; where it reaches a whole kernel, one more is padded and sliced off again.

    ONNX Runtime up to 1.23 merges a Pad into the pooling after it, and then refuses pads of a kernel or more.
    """
    if far[0] < window.kernel[0] and far[1] < window.kernel[1]:
        return g.pad(x, [0, 0, *near], [0, 0, *far], value)
    return g.slice(g.pad(x, [0, 0, *near], [0, 0, far[0] + 1, far[1] + 1], value), [2, 3], [0, 0], [-1, -1])


def onnx_max(g: Emitter, x: Tensor, window: PoolWindow, with_mask: bool = False) -> list[Tensor]:
    """Return [MaxPool, and the mask as float]; padding that MaxPool refuses (kernel or more) goes into a Pad."""
    far, near = window.far, window.pad
    padded, near_inside, pads = x, (0, 0), [*near, *far]
    if far[0] >= window.kernel[0] or far[1] >= window.kernel[1]:
        padded, near_inside, pads = _padded(g, x, near, far, window, FLOAT_MIN), near, [0, 0, 0, 0]
    shape = {"kernel_shape": list(window.kernel), "strides": list(window.stride), "pads": pads}
    if not with_mask:
        return [g.op("MaxPool", padded, **shape)]
    (height, width), (padded_height, padded_width) = ([one.static(2), one.static(3)] for one in (x, padded))
    top, index = g.ops("MaxPool", 2, padded, **shape)
    # ONNX counts through the whole tensor, Caffe within the plane (of the unpadded image).
    index = g.op("Mod", index, g.ints(padded_height * padded_width))
    if any(near_inside) or padded_width != width:
        row = g.op("Sub", g.op("Div", index, g.ints(padded_width)), g.ints(near_inside[0]))
        column = g.op("Sub", g.op("Mod", index, g.ints(padded_width)), g.ints(near_inside[1]))
        index = g.op("Add", g.op("Mul", row, g.ints(width)), column)
    if padded_width != width or padded_height != height:
        # A window without a pixel has no index: -1.
        index = g.op("Where", g.op("Equal", top, g.const(FLOAT_MIN)), g.ints(-1), index)
    return [top, g.cast(index, "float")]


def onnx_sum(g: Emitter, x: Tensor, window: PoolWindow) -> Tensor:
    """Emit the sum over each window, pads counting as zero."""
    padded = _padded(g, x, window.pad, window.far, window)
    mean = g.op("AveragePool", padded, kernel_shape=list(window.kernel), strides=list(window.stride))
    return g.mul(mean, float(math.prod(window.kernel)))


def onnx_average(g: Emitter, x: Tensor, window: PoolWindow) -> Tensor:
    """Emit AveragePool with its own padding where that counts as Caffe's does, else over explicit padding, corrected
    where the window leaves the padded image."""
    shape = {"kernel_shape": list(window.kernel), "strides": list(window.stride)}
    # Without pads Caffe counts the pixels of the image alone, as ONNX does; a window without any gives NaN in Caffe.
    padless = not any(window.pad) and (window.inside or not any(window.edge))
    overhangs = padless and all(s <= k for s, k in zip(window.stride, window.kernel, strict=True))

    def fits(far: Sequence[int]) -> bool:
        """Return whether AveragePool takes these pads itself."""
        return all(max(sides) < k for *sides, k in zip(window.pad, far, window.kernel, strict=True))

    dynamic = x.dynamic & {2, 3}
    size = (x.shape[2], x.shape[3])
    if not dynamic:
        # The least padding that gives Caffe's positions at this size.
        positions = window.positions(size)
        far: Sequence[int] = [
            (positions[i] - 1) * window.stride[i] + window.kernel[i] - window.pad[i] - size[i] for i in (0, 1)
        ]
        image = x
        if min(far) < 0:  # the last rows are in no window
            image = g.slice(x, [2, 3], [0, 0], [size[i] + min(far[i], 0) for i in (0, 1)])
            far = [max(side, 0) for side in far]
        rows, columns = window.divisors(size)
        area = np.outer(rows, columns)
        whole = bool((area == math.prod(window.kernel)).all())
        if any(far) and overhangs and fits(far):
            return g.op("AveragePool", image, **shape, pads=[0, 0, *far])
        if any(window.pad) and whole and fits(far):
            return g.op("AveragePool", image, **shape, pads=[*window.pad, *far], count_include_pad=1)
        if any(window.pad) or any(far):
            image = _padded(g, image, window.pad, far, window)
        mean = g.op("AveragePool", image, **shape)
        if whole:
            return mean
        with np.errstate(divide="ignore"):
            # A window with no pixel at all is 0 * inf = NaN, as Caffe's 0 / 0.
            return g.op("Mul", mean, g.const(math.prod(window.kernel) / area[None, None]))
    far = window.far
    if overhangs and fits(far):
        return g.op("AveragePool", x, **shape, pads=[0, 0, *far])
    mean = g.op("AveragePool", _padded(g, x, window.pad, far, window), **shape)
    if far == window.edge and not (window.inside and window.padded):
        return mean
    # The share of each window that lies in the padded image, from an image of ones of the same size.
    plane = g.slice(x, [0, 1], [0, 0], [1, 1])
    ones = g.op("Expand", g.const(1.0), g.op("Shape", plane))
    ones = g.pad(ones, [0, 0, *window.pad], [0, 0, *window.edge], 0.0 if window.inside else 1.0)
    rest = (far[0] - window.edge[0], far[1] - window.edge[1])
    ones = _padded(g, ones, (0, 0), rest, window)
    return g.op("Div", mean, g.op("AveragePool", ones, **shape))


@schema
class SPPParameter:
    pyramid_height: int | None = None
    pool: PoolMethod = PoolMethod.MAX
    engine: Word = Word()


@layer_type("SPP")
class SPP(Operator):
    """Pooling into 1, 2x2, 4x4 ... bins, flattened and joined: (N, C * (4^height - 1) / 3); height 1: (N, C, 1, 1)"""

    schemas = {"spp_param": SPPParameter}
    bottom_axes = ((4, 4),)

    def setup(self) -> None:
        if not self.p.pyramid_height or self.p.pyramid_height < 1:
            self.fail("expected a pyramid_height of 1 or more")
        if self.p.pool is PoolMethod.STOCHASTIC:
            self.fail("expected pool MAX or AVE")

    def windows(self, bottom: Shape) -> list[PoolWindow]:
        """Return the window of every level; refuses the first level that is too fine for the bottom."""
        windows = []
        for level in range(self.p.pyramid_height):
            bins = 2**level
            kernel = [-(-size // bins) for size in bottom[2:4]]
            pad = [(k * bins - size + 1) // 2 for k, size in zip(kernel, bottom[2:4], strict=True)]
            if any(p >= k for p, k in zip(pad, kernel, strict=True)):
                self.fail(
                    f"a bottom of {bottom[2]}x{bottom[3]} is too small for {bins}x{bins} bins, level {level + 1} "
                    f"of a pyramid_height of {self.p.pyramid_height}"
                )
            windows.append(PoolWindow((kernel[0], kernel[1]), (kernel[0], kernel[1]), (pad[0], pad[1])))
        return windows

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,) = bottoms
        if self.p.pyramid_height == 1:  # Caffe pools without flattening then
            return [(*bottom[:2], 1, 1)]
        bins = sum(math.prod(window.positions((bottom[2], bottom[3]))) for window in self.windows(bottom))
        return [(bottom[0], bottom[1] * bins)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.SPP(self.p.pyramid_height, self.p.pool.name)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        x[0].static(2), x[0].static(3)
        parts = []
        for window in self.windows(x[0].shape):
            is_max = self.p.pool is PoolMethod.MAX
            pooled = onnx_max(g, x[0], window)[0] if is_max else onnx_average(g, x[0], window)
            if self.p.pyramid_height == 1:
                return pooled
            parts.append(g.op("Flatten", pooled, axis=1))
        return g.op("Concat", *parts, axis=1)
