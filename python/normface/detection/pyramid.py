"""The photo at falling sizes, in strips that bound the memory PNet takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from caffeport.lazy import LazyModule

from .boxes import CELL, STRIDE

cv2 = LazyModule("cv2")

STRIP_PIXELS = 1 << 20
"""Pixels that PNet gets at once: its largest blob has 10 channels of them, 42 MB."""


def scales(height: int, width: int, min_size: float, factor: float) -> list[float]:
    """The pyramid's scales: the first shows a face of ``min_size`` pixels at 12, each next is ``factor`` smaller.

    The last one keeps the shorter side at 12 pixels or more; there is none for a smaller image than that.
    """
    factors = []
    scale = CELL / min_size
    while min(height, width) * scale >= CELL:
        factors.append(scale)
        scale *= factor
    return factors


def level(images: Sequence[np.ndarray], scale: float) -> list[np.ndarray]:
    """The images at one scale; sides are rounded up.

    Each is made from the photo itself: from one level to the next would be quicker, and blur more at every step.
    """
    return [resized(one, math.ceil(one.shape[0] * scale), math.ceil(one.shape[1] * scale)) for one in images]


def resized(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The image with other sides: averaged over areas where it shrinks, linear where it grows."""
    if image.shape[:2] == (rows, columns):
        return image
    shrinks = rows <= image.shape[0] and columns <= image.shape[1]
    return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def strips(rows: int, columns: int, images: int) -> list[tuple[int, int, int]]:
    """Cuts a level into strips (first row, end row, first row of PNet's map) of about STRIP_PIXELS.

    PNet's map at row i sees the rows 2 i to 2 i + 11, so strips that start at an even row and overlap by ten
    give the very numbers that the whole level gives.
    """
    overlap = CELL - STRIDE
    height = max(STRIP_PIXELS // (columns * images) // STRIDE * STRIDE, 4 * CELL)
    cuts: list[tuple[int, int, int]] = []
    first = 0
    while True:
        end = first + height
        if end + CELL >= rows:  # the rest is too little for a strip of its own
            return [*cuts, (first, rows, first // STRIDE)]
        cuts.append((first, end, first // STRIDE))
        first = end - overlap
