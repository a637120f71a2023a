"""Faces cut out of a photo at the size a net wants."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .pyramid import resized

_LARGEST = 4
"""A box of more than so many times the photo's longer side is none; a net's regression has gone astray."""


def sensible(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """The boxes (n, 4+) that have a pixel, and are not larger than the photo many times over."""
    sides = boxes[:, 2:4] - boxes[:, 0:2] + 1
    inside = np.isfinite(boxes[:, :4]).all(axis=1) & (sides >= 1).all(axis=1)
    return boxes[inside & (sides <= _LARGEST * max(height, width)).all(axis=1)]


def cut(images: Sequence[np.ndarray], owners: np.ndarray, boxes: np.ndarray, size: int) -> np.ndarray:
    """The boxes (n, 4+; whole pixels, from 1, the last included) as (n, size, size, 3) uint8; black beyond the edge.

    owners: (n,), which of the photos each box is of.
    """
    crops = np.empty((len(boxes), size, size, 3), np.uint8)
    for place, owner, (x1, y1, x2, y2) in zip(crops, owners, boxes[:, :4].astype(int).tolist(), strict=True):
        image = images[owner]
        left, top = x1 - 1, y1 - 1  # from 0; x2 and y2 are one past the last pixel then
        part = image[max(top, 0) : max(y2, 0), max(left, 0) : max(x2, 0)]
        if left < 0 or top < 0 or x2 > image.shape[1] or y2 > image.shape[0]:
            whole = np.zeros((y2 - top, x2 - left, 3), np.uint8)
            down, right = max(-top, 0), max(-left, 0)
            whole[down : down + part.shape[0], right : right + part.shape[1]] = part
            part = whole
        place[:] = resized(part, size, size)
    return crops
