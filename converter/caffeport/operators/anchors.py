"""Anchors, and the decoding and suppression of boxes, as region proposal layers do them.

Boxes are corners x1, y1, x2, y2 of pixels that both belong to the box: its width is x2 - x1 + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .detection import onnx_range

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@dataclass(frozen=True)
class Anchors:
    """Sizes (width, height) of the anchors of one cell, all with their centre at the middle of the base box."""

    sizes: tuple[tuple[float, float], ...]
    base_size: float
    stride: float

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def centers(self) -> np.ndarray:
        """Return x1 + width / 2 of each anchor, twice (A, 2): half a pixel beyond the middle of its pixels."""
        sizes = np.asarray(self.sizes, np.float64)
        return (self.base_size - 1) / 2 - (sizes - 1) / 2 + sizes / 2


def rounded_sizes(
    base_size: float, ratios: Sequence[float], scales: Sequence[float]
) -> tuple[tuple[float, float], ...]:
    """Return sizes for each ratio and scale: the base's area at that ratio, both sides rounded (halves to even), times
    scale.

    As generate_anchors of rbgirshick/py-faster-rcnn ``lib/rpn/generate_anchors.py`` makes them.
    """
    widths = np.round(np.sqrt(base_size * base_size / np.asarray(ratios, np.float64)))
    heights = np.round(widths * np.asarray(ratios, np.float64))
    return tuple((float(w * s), float(h * s)) for w, h in zip(widths, heights, strict=True) for s in scales)


def half_up_sizes(
    base_size: float, ratios: Sequence[float], scales: Sequence[float]
) -> tuple[tuple[float, float], ...]:
    """Return sizes as ``rounded_sizes``, but halves rounded up, as in C++ (luoyetx/mini-caffe
    ``src/layers/proposal_layer.cpp``)."""
    widths = np.floor(np.sqrt(base_size * base_size / np.asarray(ratios, np.float32)) + np.float32(0.5))
    heights = np.floor(widths * np.asarray(ratios, np.float32) + np.float32(0.5))
    return tuple((float(w * s), float(h * s)) for w, h in zip(widths, heights, strict=True) for s in scales)


def pixel_sizes(base_size: float, ratios: Sequence[float], scales: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Return sizes whose scales are in pixels, the last step rounded (happynear/caffe-windows
    ``proposal_layer.cpp``)."""
    single = np.float32
    sizes = []
    for ratio in ratios:
        width = single(np.sqrt(single(base_size * base_size) / single(ratio)))
        height = single(width * single(ratio))
        for scale in scales:
            # Caffe rounds to int, which cuts towards 0, after a half is added; half of it is the half width.
            sides = (int(single(side * single(scale)) * 1.0 / base_size - 1 + 0.5) for side in (width, height))
            sizes.append((next(sides) + 1.0, next(sides) + 1.0))
    return tuple(sizes)


def onnx_decoded(g: Emitter, anchors: Anchors, deltas: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Return corners (low, high), each (1, H, W, A, 2), of the boxes that deltas (1, 4 A, H, W) make of the anchors.

    They are clipped to 0 and ``limit`` (2), the last column and row.
    """
    count = len(anchors)
    moved = g.op("Transpose", deltas, perm=[0, 2, 3, 1])
    sizes = g.op("Shape", moved)
    moved = g.op("Reshape", moved, g.ints([0, 0, 0, count, 4]))
    columns, rows = (g.op("Gather", sizes, g.ints([axis]), axis=0) for axis in (2, 1))
    shift_x = g.op("Reshape", g.cast(onnx_range(g, columns), "float"), g.ints([1, 1, -1, 1, 1]))
    shift_y = g.op("Reshape", g.cast(onnx_range(g, rows), "float"), g.ints([1, -1, 1, 1, 1]))
    stride = anchors.stride
    shift = g.op("Add", g.op("Mul", shift_x, g.const([stride, 0.0])), g.op("Mul", shift_y, g.const([0.0, stride])))
    size = g.const(anchors.sizes)
    move, grow = g.split(moved, 4, [2, 2], 2)
    center = g.op("Add", g.op("Mul", move, size), g.op("Add", shift, g.const(anchors.centers)))
    half = g.mul(g.op("Mul", g.op("Exp", grow), size), 0.5)
    corners = g.op("Sub", center, half), g.op("Add", center, half)
    low, high = (g.op("Max", g.op("Min", corner, limit), g.const(0.0)) for corner in corners)
    return low, high


def onnx_suppressed(g: Emitter, boxes: Tensor, count: Tensor, threshold: float, most: int) -> Tensor:
    """Return indices [R] of the boxes (K, 4), ``count`` [1] of them, that stay, best first.

    A box goes if it overlaps a better one that stays by more than ``threshold``; 0 < most: no more than so many stay.
    Boxes come best first. ONNX measures boxes without the pixel at their end, so it is added here; each has its place
    for a score, so that none are equal.
    """
    grown = g.op("Add", boxes, g.const([0.0, 0.0, 1.0, 1.0]))
    total = g.cast(count, "float")
    scores = g.op("Sub", total, g.cast(onnx_range(g, count), "float"))
    limit = g.ints([most]) if most > 0 else count
    chosen = g.op(
        "NonMaxSuppression", g.unsqueeze(grown, [0]), g.unsqueeze(scores, [0]), limit, g.const([min(threshold, 1.0)])
    )
    return g.op("Reshape", g.slice(chosen, [1], [2], [3]), g.ints([-1]))
