"""Aligned faces: where a mark in the photo lies afterwards, in both conventions, at any size and turn."""

from __future__ import annotations

import numpy as np
import pytest
from normface.alignment import align_face, template
from normface.errors import DataError


def marked(shape: tuple[int, int], points: np.ndarray, width: float, channels: int = 3) -> np.ndarray:
    """A photo with a bright spot at each point (x, y), pixels counted from 0."""
    y, x = np.indices(shape)
    light = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * width**2)) for px, py in points)
    return np.repeat(np.round(255 * np.clip(light, 0, 1)).astype(np.uint8)[..., None], channels, axis=2)


def spots(face: np.ndarray, near: np.ndarray, reach: int = 8) -> np.ndarray:
    """Centres (x, y) of the bright spots near some places."""
    found = []
    for px, py in np.round(near).astype(int):
        part = face[py - reach : py + reach + 1, px - reach : px + reach + 1, 0].astype(float)
        y, x = np.indices(part.shape)
        found.append(
            [(part * x).sum() / part.sum() + px - reach, (part * y).sum() / part.sum() + py - reach],
        )
    return np.array(found)


def posed(size: tuple[int, int], scale: float, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    """The template's points as they lie in a photo of a turned head, ``scale`` times as large."""
    turn = np.deg2rad(degrees)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return template(size) @ matrix.T + shift


@pytest.mark.parametrize("size", [(112, 96), (112, 112)])
@pytest.mark.parametrize(
    ("scale", "degrees", "shift"),
    [(1, 0, (20, 30)), (1.3, 25, (90, 20)), (0.6, -70, (30, 130)), (2.7, 10, (60, 10)), (4.6, 180, (520, 560))],
)
def test_landmarks_come_to_lie_on_the_template(size, scale, degrees, shift):
    points = posed(size, scale, degrees, shift)
    image = marked((640, 640), points, 2 * scale)
    face = align_face(image, points, size)
    assert face.shape == (*size, 3)
    assert face.dtype == np.uint8
    # A tenth of a pixel: what rounding to 8 bits and OpenCV's steps of 1/32 pixel leave.
    np.testing.assert_allclose(spots(face, template(size)), template(size), rtol=0, atol=0.1)


@pytest.mark.parametrize("origin", [0, 1])
def test_pixels_that_count_from_one(origin):
    """MATLAB calls the first pixel 1: a point that it calls (x, y) is our (x - 1, y - 1), and so are the places."""
    points = posed((112, 96), 2.5, 0, (40, 50))
    image = marked((400, 400), points - origin, 4)
    face = align_face(image, points, origin=origin)
    np.testing.assert_allclose(spots(face, template()), template() - origin, rtol=0, atol=0.1)


def test_a_large_face_is_averaged():
    """One bright pixel in 8 x 8: a plain linear sample finds it or misses it, an average never."""
    image = np.zeros((1024, 1024, 3), np.uint8)
    image[::8, ::8] = 255
    points = posed((112, 96), 8, 0, (100, 50))
    mean = image.mean()
    inner = np.s_[10:-10, 10:-10]
    assert abs(align_face(image, points)[inner].astype(float).mean() - mean) < 0.5
    assert align_face(image, points)[inner].std() < 2
    assert not align_face(image, points, antialias=False)[inner].any()  # misses every one


def test_beyond_the_photo_it_is_black():
    points = posed((112, 96), 1, 0, (-40, 0))
    face = align_face(np.full((112, 96, 3), 200, np.uint8), points)
    assert (face[:, :39] == 0).all()
    assert (face[1:-1, 42:] == 200).all()


def test_a_face_wholly_outside_is_black():
    face = align_face(np.full((50, 50, 3), 200, np.uint8), posed((112, 96), 1, 0, (1e5, 1e5)))
    assert face.shape == (112, 96, 3)
    assert not face.any()


def test_points_farther_apart_than_the_photo():
    """A thousand photos would fit between the eyes; it is a black face with a grey dot, and takes no memory."""
    face = align_face(np.full((50, 50, 3), 200, np.uint8), posed((112, 96), 1e4, 0, (-5e5, -5e5)))
    assert face.shape == (112, 96, 3)
    assert face.max() <= 200


@pytest.mark.parametrize("shape", [(60, 50, 1), (60, 50)])
def test_grey_stays_grey(shape):
    face = align_face(np.full(shape, 90, np.uint8), posed((112, 96), 0.4, 0, (5, 5)))
    assert face.shape == (112, 96, *shape[2:])
    assert face[56, 48].max() == 90


@pytest.mark.parametrize(
    ("image", "points", "options", "message"),
    [
        (np.zeros((9, 9, 3), np.uint8), np.zeros((4, 2)), {}, r"five points \(5, 2\), got \(4, 2\)"),
        (np.zeros((9, 9, 3)), template(), {}, "uint8"),
        (np.zeros((0, 9, 3), np.uint8), template(), {}, "uint8"),
        ("photo.jpg", template(), {}, "uint8"),
        (np.zeros((9, 9, 3), np.uint8), template(), {"origin": 2}, "origin is 0 or 1, got 2"),
        (np.zeros((9, 9, 3), np.uint8), template(), {"size": (112, 100)}, "112x96 or 112x112"),
        (np.zeros((9, 9, 3), np.uint8), np.zeros((5, 2)), {}, "in one place"),
    ],
)
def test_what_is_refused(image, points, options, message):
    with pytest.raises(DataError, match=message):
        align_face(image, points, **options)


@pytest.mark.parametrize("size", [(60, 50), (480, 640), (3000, 2000)])
@pytest.mark.parametrize("corner", [(-0.1, -0.1), (0.3, 0.3), (0.95, 0.02)])
def test_a_drawn_score_is_black_on_a_plate_within_the_photo(size, corner):
    from normface.alignment.drawing import CHOSEN, draw_faces

    photo = np.full((*size, 3), 255, np.uint8)
    left, top = corner[0] * size[1], corner[1] * size[0]
    box = np.array([[left, top, left + 0.3 * size[1], top + 0.3 * size[0], 0.998]])
    with_score, without = (draw_faces(photo, box[:, :columns], np.full((1, 5, 2), -1e4)) for columns in (5, 4))
    rows, columns = np.nonzero((with_score != without).any(2))
    plate = with_score[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert plate.shape[0] >= 10 and plate.shape[1] >= 25
    black = (plate < 60).all(2).mean()
    assert 0.08 < black < 0.6 and (plate == CHOSEN).all(2).mean() > 0.2
