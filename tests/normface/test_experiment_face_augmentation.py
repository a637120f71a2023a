"""Faces changed at random on their device: each kind of change against what it must come to."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from experiments import face_augmentation
from experiments.face_augmentation import augmented

OFF = {"TURN": 0.0, "ZOOM": 0.0, "SHIFT": 0.0, "CONTRAST": 0.0, "BRIGHTNESS": 0.0, "GREY": 0.0, "CUTOUT": 0.0}


@pytest.fixture
def only(monkeypatch):
    """Turn all changes off but those given; mirroring stays."""

    def set_to(**changes):
        for name, value in (OFF | changes).items():
            monkeypatch.setattr(face_augmentation, name, value)

    return set_to


def face(height=28, width=24):
    random = np.random.default_rng(4)
    small = random.uniform(-1, 1, (5, 5, 3)).astype(np.float32)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def changed(image, count, seed=0):
    images = torch.from_numpy(image.transpose(2, 0, 1)).repeat(count, 1, 1, 1)
    made = augmented(images, torch.Generator().manual_seed(seed))
    assert made.shape == images.shape
    return [one.transpose(1, 2, 0) for one in made.numpy()]


@pytest.mark.slow
def test_half_of_the_images_are_mirrored_and_nothing_else(only):
    only()
    image = face()
    same = [np.allclose(one, image, atol=1e-5) for one in changed(image, 400)]
    mirrored = [np.allclose(one, image[:, ::-1], atol=1e-5) for one in changed(image, 400)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert sum(same) == pytest.approx(200, abs=40)  # four standard deviations


@pytest.mark.slow
def test_moves_are_those_of_an_affine_map_in_pixels(only):
    """Three pixels far apart tell turn, zoom and shift of each image; OpenCV then makes the image of them."""
    only(TURN=math.radians(10), ZOOM=0.1, SHIFT=0.06)
    height, width = 28, 24
    image = face(height, width)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    # where a pixel comes from can be read off an image whose values are its coordinates
    places = np.stack([columns / 100, rows / 100, np.ones_like(rows)], 2)
    moved, maps = changed(image, 200, seed=9), changed(places, 200, seed=9)
    turns, zooms, shifts = [], [], []
    for one, place in zip(moved, maps, strict=True):
        x, y = 100 * place[..., 0], 100 * place[..., 1]
        middle = (slice(12, 17), slice(10, 15))  # away from the border, which is repeated
        across = np.array([np.diff(x[middle], axis=1).mean(), np.diff(y[middle], axis=1).mean()])
        down = np.array([np.diff(x[middle], axis=0).mean(), np.diff(y[middle], axis=0).mean()])
        assert abs(across @ down) < 1e-3 and np.hypot(*across) == pytest.approx(np.hypot(*down), abs=1e-3)
        zooms.append(np.hypot(*down))
        turns.append(math.degrees(math.atan2(-down[0], down[1])))
        matrix = np.array([[across[0], down[0], 0], [across[1], down[1], 0]])
        matrix[:, 2] = [x[14, 12] - matrix[0, :2] @ (12, 14), y[14, 12] - matrix[1, :2] @ (12, 14)]
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        shift = matrix @ (*centre, 1) - centre
        assert (np.abs(shift) <= np.array([0.06 * width, 0.06 * height]) + 0.01).all()
        shifts.append(shift / (width, height))
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        expected = cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        np.testing.assert_allclose(one, expected, atol=0.05)  # OpenCV's places are multiples of 1/32 of a pixel
    assert 8 < max(turns) <= 10.01 and -10.01 <= min(turns) < -8
    assert (np.max(shifts, 0) > 0.05).all() and (np.min(shifts, 0) < -0.05).all()
    assert 1.08 < max(zooms) <= 1.1001 and 0.8999 <= min(zooms) < 0.92


def test_colours_change_by_a_line_and_grey_is_bt601(only):
    only(CONTRAST=0.3, BRIGHTNESS=0.2)
    image = 0.5 * face()  # so that nothing is cut off
    sums = image.sum((1, 2))
    slopes, offsets = np.array([np.polyfit(sums, one.sum((1, 2)), 1) for one in changed(image, 200)]).T
    per_row = image.shape[1] * 3
    assert 0.7 <= min(slopes) < 0.75 and 1.25 < max(slopes) <= 1.3001
    assert -0.2001 <= min(offsets) / per_row < -0.15 and 0.15 < max(offsets) / per_row <= 0.2001
    only(GREY=1.0)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    for one in changed(image, 3):
        assert any(np.allclose(one, side[:, :, None], atol=1e-5) for side in (grey, grey[:, ::-1]))


@pytest.mark.slow
def test_cut_out_rectangles(only):
    only(CUTOUT=0.3)
    image = np.ones((40, 30, 3), np.float32)
    cut = [np.argwhere(one[..., 0] == 0) for one in changed(image, 400)]
    assert sum(len(one) > 0 for one in cut) == pytest.approx(120, abs=37)  # four standard deviations
    for pixels in cut:
        if len(pixels):
            height, width = np.ptp(pixels, 0) + 1
            assert len(pixels) == height * width
            assert 0.1 * 40 - 1 <= height <= 0.4 * 40 + 1 and 0.1 * 30 - 1 <= width <= 0.4 * 30 + 1


def test_one_generator_one_result():
    images = torch.rand(6, 3, 28, 24) * 2 - 1
    one, again, other = (augmented(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert one.min() >= -1 and one.max() <= 1
