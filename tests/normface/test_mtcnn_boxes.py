"""The cascade's parts against the same thing written out for single boxes and pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from normface.detection import pyramid
from normface.detection.boxes import regress, squares, suppress, whole, windows
from normface.detection.crops import cut, sensible


def area(box) -> float:
    return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)


def overlap(a, b, mode: str) -> float:
    common = max(min(a[2], b[2]) - max(a[0], b[0]) + 1, 0) * max(min(a[3], b[3]) - max(a[1], b[1]) + 1, 0)
    return common / (min(area(a), area(b)) if mode == "min" else area(a) + area(b) - common)


@pytest.mark.parametrize("mode", ["union", "min"])
@pytest.mark.parametrize("seed", range(10))
def test_suppression(mode, seed):
    random = np.random.default_rng(seed)
    n = int(random.integers(0, 120))
    corners = random.uniform(0, 60, (n, 2))
    boxes = np.concatenate([corners, corners + random.uniform(1, 40, (n, 2)), random.random((n, 1))], axis=1)
    kept: list[int] = []
    for i in sorted(range(n), key=lambda i: -boxes[i, 4]):
        if all(overlap(boxes[i], boxes[j], mode) <= 0.4 for j in kept):
            kept.append(i)
    assert suppress(boxes, 0.4, mode).tolist() == kept


def test_suppression_in_pieces(monkeypatch):
    """With room for few pairs at once the answer is the same."""
    random = np.random.default_rng(1)
    corners = random.uniform(0, 30, (200, 2))
    boxes = np.concatenate([corners, corners + 20, random.random((200, 1))], axis=1)
    at_once = suppress(boxes, 0.3)
    monkeypatch.setattr("normface.detection.boxes._PAIRS", 100)
    assert 1 < len(at_once) < 100
    np.testing.assert_array_equal(suppress(boxes, 0.3), at_once)


def test_suppression_of_equal_scores_takes_the_last():
    """As MATLAB's sort leaves it, and the published code takes the last of what is sorted."""
    boxes = np.array([[1, 1, 10, 10, 0.5], [1, 1, 10, 10, 0.5], [1, 1, 10, 10, 0.5]])
    assert suppress(boxes, 0.5).tolist() == [2]
    assert suppress(boxes, 1.0).tolist() == [2, 1, 0]  # only more than the threshold goes


def test_windows():
    """Row 3, column 5 at scale 0.5: columns 10 to 21 of the level, 11 to 22 counted from 1, 22 to 44 in the photo."""
    heat = np.zeros((8, 9), np.float32)
    heat[3, 5] = 0.7
    heat[1, 1] = 0.6
    offsets = np.arange(4 * 72, dtype=np.float32).reshape(4, 8, 9)
    found = windows(heat, offsets, 0.5, 0.65)
    np.testing.assert_allclose(found, [[22, 14, 44, 36, 0.7, 32, 104, 176, 248]], rtol=1e-6)
    assert len(windows(heat, offsets, 0.5, np.float32(0.6))) == 2  # at least the threshold, as published
    np.testing.assert_allclose(windows(heat, offsets, 0.5, 0.65, first_row=10)[0, [1, 3]], [54, 76])


def test_regression_and_squares():
    box = np.array([[11.0, 21, 20, 40, 0.9]])
    offset = np.array([[0.1, -0.1, 0.2, 0.3]])
    np.testing.assert_allclose(regress(box, offset), [[12, 19, 22, 46, 0.9]])
    np.testing.assert_allclose(regress(box, offset, inclusive=False), [[11.9, 19.1, 21.8, 45.7, 0.9]])
    np.testing.assert_allclose(squares(box), [[6, 21, 25, 40, 0.9]])
    np.testing.assert_allclose(whole(np.array([[-1.9, 1.9, -0.1, 7.0, 0.9]])), [[-1, 1, 0, 7, 0.9]])


@pytest.mark.parametrize("strip", [1, 5000, 20000, 1 << 30])
@pytest.mark.parametrize(("rows", "columns"), [(12, 12), (61, 100), (150, 97), (400, 33)])
def test_strips_make_the_whole_map(monkeypatch, strip, rows, columns):
    """PNet's map has ceil((rows - 2) / 2) - 4 rows; the strips' maps are its rows, each once and none left out."""
    monkeypatch.setattr(pyramid, "STRIP_PIXELS", strip)
    found = [
        range(first_row, first_row + math.ceil((end - first - 2) / 2) - 4)
        for first, end, first_row in pyramid.strips(rows, columns, images=1)
    ]
    assert [row for strip_rows in found for row in strip_rows] == list(range(math.ceil((rows - 2) / 2) - 4))


def test_scales():
    assert pyramid.scales(480, 640, 20, 0.709) == pytest.approx([0.6 * 0.709**k for k in range(10)])
    assert pyramid.scales(19, 600, 20, 0.709) == []
    assert pyramid.scales(20, 600, 20, 0.709) == [0.6]
    assert pyramid.scales(1, 1, 20, 0.709) == []


@pytest.mark.parametrize(
    "box", [(3, 2, 14, 13), (-4, -6, 7, 5), (15, 9, 26, 20), (-9, -9, 40, 40), (50, 50, 61, 61), (1, 1, 1, 1)]
)
def test_cutting(box):
    """A box counts pixels from 1 and holds its last one; where the photo ends it is black."""
    image = np.random.default_rng(0).integers(1, 256, (17, 20, 3), dtype=np.uint8)
    x1, y1, x2, _ = box
    side = x2 - x1 + 1
    wanted = np.zeros((side, side, 3), np.uint8)
    for row in range(side):
        for column in range(side):
            if 1 <= y1 + row <= 17 and 1 <= x1 + column <= 20:
                wanted[row, column] = image[y1 + row - 1, x1 + column - 1]
    other = np.zeros((5, 5, 3), np.uint8)
    found = cut([other, image], np.array([1]), np.array([[*box, 0.9]], float), side)
    np.testing.assert_array_equal(found[0], wanted)


def test_boxes_that_are_none():
    """What a net with strange weights could give must not become an image of gigabytes."""
    good = [1.0, 1, 30, 30, 0.9]
    bad = [[5, 5, 4, 9, 0.9], [np.nan, 1, 2, 2, 0.9], [1, 1, np.inf, 9, 0.9], [-1e9, 1, 1e9, 9, 0.9]]
    assert sensible(np.array([good, *bad]), 20, 30).tolist() == [good]
