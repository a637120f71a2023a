"""The bootstrap over people against plain loops over the images that each draw holds."""

from __future__ import annotations

import numpy as np
import pytest
from normface.errors import ProtocolError
from normface.evaluate.resampled_people import drawn_tars, interval
from normface.evaluate.roc import tar_at_far


def table(people: np.ndarray, seed: int, digits: int = 6) -> np.ndarray:
    """Scores (N, N) of images that are near their person; few ``digits`` make ties."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(people.max() + 1, 5))[people] + 0.9 * generator.normal(size=(len(people), 5))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return np.round(x @ x.T, digits)


def in_loops(scores: np.ndarray, people: np.ndarray, far: float, drawn: np.ndarray) -> float:
    """A copy of each drawn person's images; pairs within a copy are genuine, of two people's copies impostors."""
    images = [(copy, i) for copy, person in enumerate(drawn) for i in np.flatnonzero(people == person)]
    genuine, impostor = [], []
    for a, (copy, i) in enumerate(images):
        for other, j in images[:a]:
            if copy == other:
                genuine.append(scores[i, j])
            elif people[i] != people[j]:
                impostor.append(scores[i, j])
    if not genuine or not impostor:
        return np.nan
    impostor.sort(reverse=True)
    k = int(np.floor(far * len(impostor) + 0.5))
    passing = [s >= impostor[k - 1] if k else s > impostor[0] for s in genuine]
    return sum(passing) / len(genuine)


@pytest.mark.parametrize("digits", [6, 1])
@pytest.mark.parametrize("far", [0.0, 0.001, 0.02, 0.3, 1.0])
def test_each_draw_is_that_of_the_loops(far, digits):
    people = np.array([0, 0, 0, 2, 2, 3, 5, 5, 5, 5, 6, 6])  # numbers with gaps, and one with a single image
    scores = table(people, 1, digits)
    tars = drawn_tars(scores[np.triu_indices(len(people), 1)], people, far, seed=7, draws=40)
    generator = np.random.default_rng(7)
    expected = [in_loops(scores, people, far, generator.choice(np.unique(people), 5)) for _ in range(40)]
    np.testing.assert_allclose(tars, expected, rtol=1e-12, equal_nan=True)


def test_draws_without_a_pair_of_a_kind_are_no_numbers():
    people = np.array([0, 0, 1])
    tars = drawn_tars(np.array([0.9, 0.1, 0.2]), people, 0.5, seed=0, draws=200)
    # Both of two: one draw in two; only then there are pairs of both kinds.
    assert set(tars[np.isfinite(tars)]) == {1.0} and 70 < np.isfinite(tars).sum() < 130
    assert interval(np.array([np.nan, np.nan, 1.0])) is None
    assert interval(np.arange(1001) / 1000) == pytest.approx((0.025, 0.975))


@pytest.mark.slow
def test_thresholds_far_down_are_found():
    """All the highest impostor scores are of one pair of people, which most draws lack."""
    people = np.repeat(np.arange(12), 60)
    scores = table(people, 2)
    scores[:60, 60:120] += 5
    flat = scores[np.triu_indices(len(people), 1)]
    (tar,) = drawn_tars(flat, people, 1e-4, seed=5, draws=1)
    drawn = np.random.default_rng(5).choice(12, 12)
    assert not {0, 1} <= set(drawn)
    assert tar == pytest.approx(in_loops(scores, people, 1e-4, drawn), rel=1e-12)


@pytest.mark.slow
def test_the_interval_holds_the_figure_and_narrows_with_people():
    widths = []
    for number in (8, 80):
        people = np.repeat(np.arange(number), 4)
        scores = table(people, 3)[np.triu_indices(4 * number, 1)]
        same = np.equal.outer(people, people)[np.triu_indices(4 * number, 1)]
        tar, _ = tar_at_far(scores[same], scores[~same], 0.05)
        low, high = interval(drawn_tars(scores, people, 0.05))
        assert low <= tar <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_the_number_of_scores_is_checked():
    with pytest.raises(ProtocolError, match="expected 3 scores, of all pairs of 3 images, got"):
        drawn_tars(np.zeros(4), np.array([0, 0, 1]), 0.1)
