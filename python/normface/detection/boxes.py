"""Boxes of the cascade: from PNet's map, regression, squares, non-maximum suppression.

Coordinates are those of the published MATLAB code: pixels count from 1, and a box (x1, y1, x2, y2) includes
its last column and row, so its width is x2 - x1 + 1. The detector subtracts 1 when it hands boxes out.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

STRIDE, CELL = 2, 12
"""PNet looks at windows of 12 x 12 pixels, two pixels apart."""
_PAIRS = 1 << 18
"""Pairs of boxes whose overlap is worked out at once."""


def windows(heat: np.ndarray, offsets: np.ndarray, scale: float, threshold: float, first_row: int = 0) -> np.ndarray:
    """PNet's windows with a score of at least ``threshold``, in the photo's coordinates.

    heat: (H, W), the scores of one level of the pyramid; offsets: (4, H, W), its regressions;
    first_row: where they start, if they are a strip of it.
    Returns (n, 9): x1, y1, x2, y2, score, and the four regressions.
    """
    rows, columns = np.nonzero(heat >= threshold)
    corners = STRIDE * np.stack([columns, first_row + rows], axis=1)
    first, last = np.trunc((corners + 1) / scale), np.trunc((corners + CELL) / scale)
    scores = heat[rows, columns]
    return np.concatenate([first, last, scores[:, None], offsets[:, rows, columns].T], axis=1)


def regress(boxes: np.ndarray, offsets: np.ndarray, inclusive: bool = True) -> np.ndarray:
    """Move each side of boxes (n, 4+) by its offset (n, 4), in parts of the width or height: x1 + o1 w, ...

    inclusive: count the last pixel in, w = x2 - x1 + 1; the published code does after RNet and ONet, and not
    after PNet.
    """
    width, height = (boxes[:, 2:4] - boxes[:, 0:2] + inclusive).T
    sides = np.stack([width, height, width, height], axis=1)
    return np.concatenate([boxes[:, :4] + offsets * sides, boxes[:, 4:]], axis=1)


def squares(boxes: np.ndarray) -> np.ndarray:
    """Boxes (n, 4+) with the shorter side lengthened to the longer one, about the same centre."""
    sides = boxes[:, 2:4] - boxes[:, 0:2]
    longest = sides.max(axis=1, keepdims=True)
    first = boxes[:, 0:2] + 0.5 * (sides - longest)
    return np.concatenate([first, first + longest, boxes[:, 4:]], axis=1)


def whole(boxes: np.ndarray) -> np.ndarray:
    """Boxes (n, 4+) with their corners cut off to whole pixels, towards zero."""
    return np.concatenate([np.trunc(boxes[:, :4]), boxes[:, 4:]], axis=1)


def suppress(boxes: np.ndarray, threshold: float, mode: Literal["union", "min"] = "union") -> np.ndarray:
    """Non-maximum suppression: indices of the boxes that stay, the best first.

    A box goes if a better one that stays overlaps it by more than ``threshold``: the common area over that of
    both together ("union"), or over the smaller one's ("min"). Of equal scores the later box counts as better.

    boxes: (n, 5+), x1, y1, x2, y2, score.
    """
    order = np.argsort(boxes[:, 4], kind="stable")[::-1]
    better, worse = _rivals(boxes[order, :4], threshold, mode)
    stays = np.ones(len(order), bool)
    firsts = np.flatnonzero(np.diff(better, prepend=-1))
    ends = np.append(firsts, len(better))[1:]
    for box, first, end in zip(better[firsts].tolist(), firsts.tolist(), ends.tolist(), strict=True):
        if stays[box]:
            stays[worse[first:end]] = False
    return order[stays]


def _rivals(corners: np.ndarray, threshold: float, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of boxes (n, 4) that overlap by more than ``threshold``: (better ones, worse ones), by their rank.

    The better one has the lower index; pairs are sorted by it. A box meets only those that begin, from left to
    right, before it ends, so that thousands of small faces in a large photo stay a matter of seconds.
    """
    by_left = np.argsort(corners[:, 0], kind="stable")
    lefts = corners[by_left, 0]
    ends = np.searchsorted(lefts, corners[by_left, 2] + 1, side="right")
    counts = np.maximum(ends - np.arange(1, len(by_left) + 1), 0)
    pairs = [np.empty((2, 0), np.int64)]
    start = 0
    while start < len(by_left):
        stop = start + max(int(np.searchsorted(np.cumsum(counts[start:]), _PAIRS)), 1)
        part = counts[start:stop]
        one = np.repeat(np.arange(start, stop), part)
        other = one + 1 + np.arange(len(one)) - np.repeat(np.cumsum(part) - part, part)
        some, others = by_left[one], by_left[other]
        over = _overlaps(corners[some], corners[others], mode) > threshold
        pairs.append(np.sort(np.stack([some[over], others[over]]), axis=0))
        start = stop
    better, worse = np.concatenate(pairs, axis=1)
    sorted_by = np.argsort(better, kind="stable")
    return better[sorted_by], worse[sorted_by]


def _overlaps(some: np.ndarray, others: np.ndarray, mode: str) -> np.ndarray:
    """The common area of boxes (n, 4) and their counterparts, as a part of both together or of the smaller one."""
    first, last = np.maximum(some[:, :2], others[:, :2]), np.minimum(some[:, 2:], others[:, 2:])
    common = np.maximum(last - first + 1, 0).prod(axis=1)
    area, other_area = (np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1) for boxes in (some, others))
    return common / (np.minimum(area, other_area) if mode == "min" else area + other_area - common)
