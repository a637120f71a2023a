"""AttPooling: a weighted sum over the places around a pixel, with weights from a second blob.

Definition: Mhaiyang/TMM2018_DRFN caffe/src/caffe/layers/att_pooling_layer.cpp and .cu. Only the examples there know of
PwAttend, with the fields of AttPooling and with shapes that fit it.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Any

from ..formats.schema import schema
from .base import MAX_INT, Operator, Shape, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor

MOST_WEIGHTS = 1024
"""Weights of a pixel in the fork, where each has a thread of its own."""


class AttMode(enum.Enum):
    GLOBAL = 0
    LOCAL = 1


@schema
class AttPoolingParameter:
    att_mode: AttMode = AttMode.LOCAL
    pad: int = 0
    kernel_size: int | None = None
    stride: int = 1
    dilation: int = 1


@layer_type("AttPooling")
class AttPooling(Operator):
    """(N, C, H, W) and weights (N, kernel_size^2, H', W') give (N, C, H', W').

    LOCAL: y[c, i, j] = sum over k of w[k, i, j] * x[c] at the k-th place of the window at (i, j), row by row, zero in
    the pad. GLOBAL: one window, as large as the padded square map, serves every (i, j).
    """

    schemas = {"att_pooling_param": AttPoolingParameter}
    bottoms = (2, 2)
    bottom_axes = ((4, 4),)

    def setup(self) -> None:
        p = self.p
        self.is_local = p.att_mode is AttMode.LOCAL
        if p.kernel_size is None and (self.is_local or p.dilation != 1):
            self.fail("expected a kernel_size; only a GLOBAL att_mode without dilation goes without")
        if p.kernel_size is not None and not 1 <= p.kernel_size**2 <= MOST_WEIGHTS:
            self.fail(f"expected a kernel_size from 1 to {math.isqrt(MOST_WEIGHTS)}, got {p.kernel_size}")
        if not all(1 <= n <= MAX_INT for n in (p.stride, p.dilation)) or not 0 <= p.pad <= MAX_INT:
            self.fail(
                f"expected a stride and a dilation of 1 or more and a pad of 0 or more, "
                f"got {p.stride}, {p.dilation} and {p.pad}"
            )
        if not self.is_local and p.stride != 1:
            self.fail(f"expected a stride of 1 with a GLOBAL att_mode, got {p.stride}")

    def kernel(self, image: Shape) -> int:
        return int(self.p.kernel_size or image[3])

    def positions(self, image: Shape) -> Shape:
        """Return the number of windows down and across."""
        p, reach = self.p, self.p.dilation * (self.kernel(image) - 1) + 1
        return tuple((n + 2 * p.pad - reach) // p.stride + 1 for n in image[2:])

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        image, weights = bottoms
        if not self.is_local and image[2] != image[3]:
            self.fail(f"expected a square first bottom with a GLOBAL att_mode, got {image}")
        self.check_padded((*image[:2], *(n + 2 * self.p.pad for n in image[2:])))
        positions = self.positions(image)
        size = self.kernel(image)
        if not self.is_local and positions != (1, 1):
            self.fail(f"a GLOBAL window is as large as the padded first bottom, {image} has {positions} places for it")
        if size**2 > MOST_WEIGHTS:
            self.fail(f"expected a first bottom of at most {math.isqrt(MOST_WEIGHTS)} rows, got {image}")
        expected = (image[0], size**2, *(positions if self.is_local else weights[2:]))
        if min(expected) < 1 or weights != expected:
            self.fail(f"expected weights of {expected} for a first bottom of {image}, got {weights}")
        self.check_padded((image[1], size**2, *positions))  # the columns of an image, a blob in the fork
        return [(*image[:2], *weights[2:])]

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        return math.prod(tops[0]) * bottoms[1][1]

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        return nn.AttPooling(self.kernel(bottoms[0]), p.pad, p.stride, p.dilation, self.is_local)

    def onnx(self, g: Emitter, *x: Tensor) -> Any:
        p, (image, weights) = self.p, x
        shape = (*image.shape[:2], image.static(2), image.static(3))
        size, sides = self.kernel(shape), [0, 0, p.pad, p.pad]
        padded = g.pad(image, sides, sides)
        if not self.is_local:
            window = g.slice(padded, [2, 3], [0, 0], [n + 2 * p.pad for n in shape[2:]], p.dilation)
            flat = [g.op("Reshape", t, g.ints([0, 0, -1])) for t in (window, weights)]
            leading = g.op("Slice", g.op("Shape", image), g.ints([0]), g.ints([2]))
            places = g.op("Slice", g.op("Shape", weights), g.ints([2]), g.ints([4]))
            return g.op("Reshape", g.op("MatMul", *flat), g.op("Concat", leading, places, axis=0))
        spans = [(n - 1) * p.stride + 1 for n in self.positions(shape)]
        total: Any = None
        for k in range(size**2):
            corner = [k // size * p.dilation, k % size * p.dilation]
            ends = [start + span for start, span in zip(corner, spans, strict=True)]
            place = g.slice(padded, [2, 3], corner, ends, p.stride)
            share = g.op("Mul", place, g.slice(weights, [1], [k], [k + 1]))
            total = share if total is None else g.op("Add", total, share)
        return total


@layer_type("PwAttend")
class PwAttend(AttPooling):
    """AttPooling under the name that its repository's examples have for it and for its parameters."""

    schemas = {"pw_attend_param": AttPoolingParameter}
