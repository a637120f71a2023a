"""Layers of FlowNet that compare two feature maps and change the size of one: Correlation and Resample.

Definitions: lmb-freiburg/flownet2 src/caffe/layers/correlation_layer.cu and resample_layer.cu, and the same for the CPU
in foss-for-synopsys-dwc-arc-processors/synopsys-caffe.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import MAX_INT, Operator, Shape, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor

MOST_DISPLACEMENTS = 1 << 14
"""More channels than any net has; each is a product of its own."""


class CorrelationType(enum.Enum):
    MULTIPLY = 0
    SUBTRACT = 1


@schema
class CorrelationParameter:
    pad: int = 0
    kernel_size: int | None = None
    max_displacement: int | None = None
    stride_1: int = 1
    stride_2: int = 1
    single_direction: int = 0
    do_abs: bool = False
    correlation_type: CorrelationType = CorrelationType.MULTIPLY


@dataclass(frozen=True)
class Matching:
    """The places (rows, columns) by which the second map is moved, and the window that is compared."""

    moves: tuple[tuple[int, int], ...]
    reach: int  # the largest move, and so the border that is left out
    pad: int
    kernel: int
    stride: int
    multiplies: bool

    def positions(self, size: Shape) -> Shape:
        border = 2 * (self.reach + (self.kernel - 1) // 2)
        return tuple(-(-(n + 2 * self.pad - border) // self.stride) for n in size)

    def span(self, size: Shape) -> Shape:
        """Return how far the windows reach over the first map, from the border on."""
        return tuple((n - 1) * self.stride + self.kernel for n in self.positions(size))


@layer_type("Correlation")
class Correlation(Operator):
    """For every move of bottom 1 by up to max_displacement in steps of stride_2, rows first, a channel.

    It is the mean over channels and a window of kernel_size of the products (SUBTRACT: the absolute differences) with
    bottom 0, at every stride_1-th place. Both are padded with zeros, and max_displacement + (kernel_size - 1) / 2
    pixels on every side are no place.
    """

    schemas = {"correlation_param": CorrelationParameter}
    bottoms = (2, 2)
    bottom_axes = ((4, 4),)
    full_precision = True

    def setup(self) -> None:
        p = self.p
        if p.kernel_size is None or p.max_displacement is None:
            self.fail("expected a kernel_size and a max_displacement")
        sizes = (p.kernel_size, p.stride_1, p.stride_2)
        if not all(1 <= size <= MAX_INT for size in sizes) or p.kernel_size % 2 == 0:
            self.fail(f"expected an odd kernel_size and strides of 1 or more, got {sizes}")
        if not 0 <= p.max_displacement <= MAX_INT or not 0 <= p.pad <= MAX_INT:
            self.fail(f"expected a max_displacement and a pad of 0 or more, got {p.max_displacement} and {p.pad}")
        if p.single_direction or p.do_abs:
            self.fail("single_direction and do_abs are not supported")
        radius = p.max_displacement // p.stride_2
        if (2 * radius + 1) ** 2 > MOST_DISPLACEMENTS:
            self.fail(f"{2 * radius + 1} x {2 * radius + 1} moves are too many")
        steps = [i * p.stride_2 for i in range(-radius, radius + 1)]
        moves = tuple((row, column) for row in steps for column in steps)
        multiplies = p.correlation_type is CorrelationType.MULTIPLY
        self.matching = Matching(moves, p.max_displacement, p.pad, p.kernel_size, p.stride_1, multiplies)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.same_shape(bottoms)
        batch, channels, *size = bottoms[0]
        self.check_padded((batch, channels, *(n + 2 * self.p.pad for n in size)))
        positions = self.matching.positions(tuple(size))
        if min(positions) < 1:
            self.fail(f"a max_displacement of {self.p.max_displacement} leaves no place in {bottoms[0]}")
        top = (batch, len(self.matching.moves), *positions)
        self.check_padded(top)
        return [top]

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        return math.prod(tops[0]) * bottoms[0][1] * self.matching.kernel**2

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Correlation(self.matching)

    def onnx(self, g: Emitter, *x: Tensor) -> Any:
        match = self.matching
        rows, columns = match.span((x[0].static(2), x[0].static(3)))
        sides = [0, 0, match.pad, match.pad]
        first, second = (g.pad(bottom, sides, sides) for bottom in x)
        near = match.reach
        first = g.slice(first, [2, 3], [near, near], [near + rows, near + columns])
        channels = []
        for row, column in match.moves:
            top, left = near + row, near + column
            moved = g.slice(second, [2, 3], [top, left], [top + rows, left + columns])
            both = g.op("Mul", first, moved) if match.multiplies else g.op("Abs", g.op("Sub", first, moved))
            channels.append(g.reduce("ReduceMean", both, [1]))
        joined = g.op("Concat", *channels, axis=1)
        if match.kernel == 1 and match.stride == 1:
            return joined
        return g.op("AveragePool", joined, kernel_shape=[match.kernel] * 2, strides=[match.stride] * 2)


class ResampleType(enum.Enum):
    NEAREST = 1
    LINEAR = 2
    CUBIC = 3
    AREA = 4


@schema
class ResampleParameter:
    width: int | None = None
    height: int | None = None
    type: ResampleType = ResampleType.LINEAR
    antialias: bool = True
    factor: float = 1.0  # read by no version of the layer


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    return np.where(x <= 1, x * x * (1.5 * x - 2.5) + 1, np.where(x < 2, x * (x * (-0.5 * x + 2.5) - 4) + 2, 0))


def resample_weights(kind: str, antialias: bool, size: Shape, top: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows of the top x rows, columns of the top x columns): the weights along both axes, which sum to 1.

    As in the fork, a pixel's place along one axis is shifted by half the step of the other.
    """
    steps = [np.float32(old) / np.float32(new) for old, new in zip(size, top, strict=True)]
    antialias = antialias and max(steps) > 1
    matrices = []
    for axis in (0, 1):
        step, other = steps[axis], steps[1 - axis]
        place = np.arange(top[axis], dtype=np.float32) * step + other / np.float32(2) - np.float32(0.5)
        nearest = np.trunc(place + np.copysign(np.float32(0.5), place))
        pixels = np.arange(size[axis])
        if kind == "NEAREST":
            matrices.append((pixels == np.clip(nearest, 0, size[axis] - 1)[:, None]).astype(np.float64))
            continue
        scale = 1 / float(step) if antialias else 1.0
        reach = 2 if step < 1 else math.ceil((4 if kind == "CUBIC" else 2) / scale)
        distance = (place[:, None].astype(np.float64) - pixels) * scale
        weights = _cubic(distance) if kind == "CUBIC" else np.maximum(1 - np.abs(distance), 0)
        weights = np.where(np.abs(pixels - nearest[:, None]) <= reach, weights, 0)
        total = weights.sum(1, keepdims=True)
        matrices.append(np.divide(weights, total, out=np.zeros_like(weights), where=total != 0))
    return matrices[0], matrices[1]


@layer_type("Resample")
class Resample(Operator):
    """To height x width, or the size of a second bottom: NEAREST, LINEAR or CUBIC, weights outside left out.

    Where it makes an axis smaller, antialias widens the weights of both axes to the step.
    """

    schemas = {"resample_param": ResampleParameter}
    bottoms = (1, 2)
    bottom_axes = ((4, 4),)

    def setup(self) -> None:
        p = self.p
        if p.type is ResampleType.AREA:
            self.fail("expected a type of NEAREST, LINEAR or CUBIC; the fork has no AREA either")
        if self.context.num_bottoms == 1 and not all(1 <= (size or 0) <= MAX_INT for size in (p.height, p.width)):
            self.fail(f"expected a height and a width of 1 or more, or a second bottom, got {p.height} and {p.width}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        size = (self.p.height, self.p.width) if len(bottoms) == 1 else bottoms[1][2:]
        top = (*bottoms[0][:2], *size)
        self.check_padded(top)
        return [top]

    def module(self, bottoms: list[Shape]) -> Any:
        size = (self.p.height, self.p.width) if len(bottoms) == 1 else None
        return nn.Resample(self.p.type.name, self.p.antialias, size)

    def onnx(self, g: Emitter, *x: Tensor) -> Any:
        size = (x[0].static(2), x[0].static(3))
        top = (g.tops[0].static(2), g.tops[0].static(3))
        rows, columns = resample_weights(self.p.type.name, self.p.antialias, size, top)
        return g.op("MatMul", g.op("MatMul", g.const(rows), x[0]), g.const(columns.T))
