"""The figures of scored pairs against scikit-learn, counting by hand, and the rules that they promise at ties."""

from __future__ import annotations

import numpy as np
import pytest
from normface.errors import ProtocolError
from normface.evaluate import roc

metrics = pytest.importorskip("sklearn.metrics")


def pairs(seed: int, count: int = 700, decimals: int | None = None, dtype: str = "f8"):
    """Scores that overlap, of unequal numbers of genuine and impostor pairs; rounded they have many ties."""
    draw = np.random.default_rng(seed)
    same = draw.random(count) < 0.3
    scores = draw.normal(size=count) + 1.4 * same
    return (scores if decimals is None else scores.round(decimals)).astype(dtype), same


SETS = [(1, 700, None), (2, 700, 1), (3, 50, 0), (4, 5000, 2)]


@pytest.mark.parametrize(("seed", "count", "decimals"), SETS)
def test_curve_and_area_are_scikit_learns(seed, count, decimals):
    scores, same = pairs(seed, count, decimals)
    far, tar, thresholds = roc.roc_curve(scores, same)
    expected_far, expected_tar, expected_thresholds = metrics.roc_curve(same, scores, drop_intermediate=False)
    np.testing.assert_allclose(far, expected_far, rtol=0, atol=1e-15)
    np.testing.assert_allclose(tar, expected_tar, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(thresholds, expected_thresholds)
    # Sums of up to 5000 terms of rounding error 1e-16.
    assert roc.verification(scores, same).auc == pytest.approx(metrics.roc_auc_score(same, scores), abs=1e-12)


@pytest.mark.parametrize(("seed", "count", "decimals"), SETS)
def test_equal_error_rate_is_the_crossing_of_scikit_learns_curve(seed, count, decimals):
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq

    scores, same = pairs(seed, count, decimals)
    far, tar, _ = metrics.roc_curve(same, scores, drop_intermediate=True)
    # Where the ROC runs straight up, the root finder meets a jump of the interpolation; both ends agree within 1e-9.
    expected = brentq(lambda rate: 1 - rate - interp1d(far, tar)(rate), 0, 1)
    assert roc.verification(scores, same).eer == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("seed", "count", "decimals"), SETS)
def test_best_accuracy_is_found_by_trying_every_threshold(seed, count, decimals, dtype):
    scores, same = pairs(seed, count, decimals, dtype)
    tried = [*np.unique(scores), scores.max() + 1]
    expected = max(np.mean((scores >= threshold) == same) for threshold in tried)
    found = roc.verification(scores, same)
    assert found.accuracy == expected
    assert np.mean((scores.astype("f8") >= found.threshold) == same) == expected


def test_best_accuracy_among_many_ties():
    draw = np.random.default_rng(0)
    for _ in range(300):
        scores, same = draw.integers(0, 4, 9).astype(float), draw.random(9) < 0.5
        threshold = roc.best_threshold(scores, same)
        assert np.mean((scores >= threshold) == same) == max(np.mean((scores >= t) == same) for t in range(5))


@pytest.mark.slow
@pytest.mark.parametrize("far", [1.0, 0.5, 0.1, 1e-2, 1e-3, 0.0])
@pytest.mark.parametrize(("seed", "count", "decimals"), SETS)
def test_tar_at_far_takes_the_kth_largest_impostor(seed, count, decimals, far):
    scores, same = pairs(seed, count, decimals)
    genuine, impostor = scores[same], scores[~same]
    k = int(far * len(impostor) + 0.5)
    if k:
        threshold = sorted(impostor, reverse=True)[k - 1]
        expected = sum(g >= threshold for g in genuine) / len(genuine)
    else:
        threshold = None
        expected = sum(g > max(impostor) for g in genuine) / len(genuine)
    tar, found = roc.tar_at_far(genuine, impostor, far)
    assert tar == pytest.approx(expected, abs=1e-15)
    assert found == threshold or (threshold is None and found > max(impostor))


def test_ties_at_the_threshold_are_accepted():
    genuine, impostor = np.array([0.5, 0.5, 0.4, 0.9]), np.array([0.5, 0.5, 0.5, 0.1])
    assert roc.tar_at_far(genuine, impostor, 0.25) == (0.75, 0.5)  # k = 1; three impostors pass with it
    assert roc.tar_at_far(genuine, impostor, 0.75) == (0.75, 0.5)
    assert roc.tar_at_far(genuine, impostor, 1.0) == (1.0, 0.1)


def test_half_an_impostor_counts_as_one():
    impostor = np.arange(500.0)
    assert roc.tar_at_far(np.array([499.0]), impostor, 1e-3) == (1.0, 499.0)  # k = round(0.5) = 1, as in MATLAB
    tar, threshold = roc.tar_at_far(np.array([499.0, 500.0]), impostor, 0.9e-3)  # k = 0
    assert (tar, threshold) == (0.5, np.nextafter(499.0, 500.0))


def test_threshold_of_neighbouring_floats_parts_them():
    low = np.float64(0.1)
    high = np.nextafter(low, 1)
    found = roc.verification(np.array([low, high]), np.array([False, True]))
    assert (found.accuracy, found.threshold) == (1.0, high)


def test_best_threshold_lies_in_the_middle_of_the_highest_best_gap():
    assert roc.best_threshold(np.array([0.0, 0.2, 0.8, 1.0]), np.array([False, False, True, True])) == 0.5
    # Two are wrong at each of three gaps.
    scores, same = np.array([0.0, 0.1, 0.3, 0.4, 0.6, 0.7]), np.array([False, True] * 3)
    assert roc.best_threshold(scores, same) == pytest.approx(0.65, abs=1e-15)


@pytest.mark.parametrize(
    ("scores", "same", "message"),
    [
        ([0.1, 0.2], [True, True], "no impostor pair"),
        ([0.1, 0.2], [False, False], "no genuine pair"),
        ([], [], "no genuine pair"),
        ([0.1, np.nan], [True, False], "impostor pair is no finite number"),
        ([np.inf, 0.1], [True, False], "genuine pair is no finite number"),
        ([0.1, 0.2, 0.3], [True, False], r"one length, got \(3,\) and \(2,\)"),
    ],
)
def test_scores_that_make_no_figures(scores, same, message):
    with pytest.raises(ProtocolError, match=message):
        roc.verification(np.array(scores), np.array(same))


@pytest.mark.parametrize("far", [-0.1, 1.1, np.nan])
def test_far_out_of_range(far):
    with pytest.raises(ProtocolError, match="between 0 and 1"):
        roc.tar_at_far(np.array([1.0]), np.array([0.0]), far)
