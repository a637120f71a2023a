"""Two points on the sphere: paths against spherical interpolation and gradient flow, over seeds."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest

from experiments import Options, gradient, run, style
from experiments.gradient import RATE, descend, geometry_of_many, pair_at

pytestmark = pytest.mark.slow


def random_pair(seed: int, size: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(2, size))


@pytest.mark.parametrize("size", [2, 3, 50])
@pytest.mark.parametrize("seed", range(5))
def test_a_step_is_the_formulas(seed, size):
    """dL/dx = -2/|x| (y/|y| - cos t x/|x|), and the lengths grow by the squared step."""
    x, y = random_pair(seed, size)
    cosine = x @ y / math.sqrt((x @ x) * (y @ y))
    expected = -2 / np.linalg.norm(x) * (y / np.linalg.norm(y) - cosine * x / np.linalg.norm(x))
    path = descend(np.stack([x, y]), True, 0.1, 1)
    # the root has an epsilon of 1e-12, half of which is what a vector of length 1 lacks
    np.testing.assert_allclose(path.gradients[0, 0], expected, atol=1e-10)
    np.testing.assert_allclose(path.points[1, 0], x - 0.1 * expected, atol=1e-11)
    grown = x @ x + 0.01 * expected @ expected
    assert path.lengths[1, 0] ** 2 == pytest.approx(grown, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_points_stay_on_the_geodesic(seed):
    """Every direction is a spherical interpolation of the first two, and together they go the angle, no more."""
    x, y = random_pair(seed, 20)
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    path = descend(np.stack([x, 2 * y]), True, RATE, 150)
    angle = math.acos(x @ y)
    for place in path.directions[::15].reshape(-1, 20):
        t = math.acos(np.clip(place @ x, -1, 1)) / angle
        expected = (math.sin((1 - t) * angle) * x + math.sin(t * angle) * y) / math.sin(angle)
        np.testing.assert_allclose(place, expected, atol=1e-7)  # acos loses half of the digits near 1
    assert gradient.path_over_angle(path) == pytest.approx(1, abs=1e-6)
    assert gradient.out_of_plane(path) < 1e-9
    assert (np.diff(path.lengths, axis=0) >= 0).all()


@pytest.mark.parametrize("degrees", [30.0, 90.0, 170.0])
def test_small_steps_follow_gradient_flow(degrees):
    """dt/dtime = -4 sin t, integrated here by Runge and Kutta."""
    rate, steps = 1e-3, 400
    path = descend(pair_at(degrees), True, rate, steps)
    angle = math.radians(degrees)
    assert path.angles[0] == pytest.approx(angle, rel=1e-12)
    for _ in range(steps):
        k1 = -4 * math.sin(angle)
        k2 = -4 * math.sin(angle + rate / 2 * k1)
        angle += rate * k2
    assert path.angles[-1] == pytest.approx(angle, abs=5e-3)  # of the order of the step
    assert gradient.flow_angles(math.radians(degrees), np.array([rate * steps]))[0] == pytest.approx(angle, abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_without_normalisation_they_go_straight_through(seed):
    x, y = random_pair(seed, 8)
    path = descend(np.stack([x, y]), False, RATE, 200)
    for place in path.points[::20, 0]:
        t = (place - x) @ (y - x) / ((y - x) @ (y - x))
        np.testing.assert_allclose(place, x + t * (y - x), atol=1e-12)
    np.testing.assert_allclose(path.points[-1, 0], (x + y) / 2, atol=1e-6 * np.linalg.norm(x - y))
    assert gradient.radial_part(path) > 0.3


def test_short_features_are_pushed_most():
    slopes = gradient.slope_by_length(75.0)
    for length, slope in slopes.items():
        assert slope == pytest.approx(2 * math.sin(math.radians(75)) / float(length), rel=1e-9)


@pytest.mark.slow
def test_the_measures_over_many_pairs():
    for seed in range(3):
        found = gradient.geometry_of_many(2, seed, steps=60)
        assert found["pairs"] == 6 and found["steps"] == 360 and found["fell"] == 0
        assert found["radial"] < 1e-9 and found["out_of_plane"] < 1e-9
        assert found["path_over_angle"] == pytest.approx([1, 1], abs=1e-4)
    assert gradient.geometry_of_many(2, 0, steps=20) == gradient.geometry_of_many(2, 0, steps=20)


@pytest.mark.slow
def test_the_animation_moves(monkeypatch):
    from PIL import Image

    monkeypatch.setattr(gradient, "FRAMES", 3)
    shown = {"normalised": descend(pair_at(150), True, RATE, 200), "plain": descend(pair_at(150), False, RATE, 200)}
    with style.applied():
        image = Image.open(io.BytesIO(gradient.animation(shown)))
    frames = []
    for number in range(image.n_frames):
        image.seek(number)
        frames.append(np.asarray(image.convert("RGB"), int))
    assert len(frames) == 3
    assert all(np.abs(one - other).max() > 50 for one, other in itertools.pairwise(frames))


@pytest.mark.slow
def test_the_whole_experiment(tmp_path, monkeypatch):
    monkeypatch.setattr(gradient, "FRAMES", 2)
    monkeypatch.setattr(gradient, "geometry_of_many", lambda pairs, seed: geometry_of_many(1, seed))
    one, again = (run("gradient", Options(out=tmp_path, seed=2)) for _ in range(2))
    assert one.measured == again.measured and one.holds
    # half the angle of 150 degrees: where the chord's middle is
    assert one.measured["without_normalisation"]["shortest_length"] == pytest.approx(
        math.cos(math.radians(75)), rel=1e-4
    )
    assert {figure.file for figure in one.figures} <= {path.name for path in (tmp_path / "gradient").iterdir()}
