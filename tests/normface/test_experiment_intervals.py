"""Student's intervals over seeds, and what they decide of a claim."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experiments.intervals import Interval, interval, paired, plain, verdict

pytestmark = pytest.mark.slow


def test_interval_of_a_textbook_sample():
    """Mean 2, standard deviation 1, n = 3: the 95 % point of Student's t with two degrees of freedom is 4.3027."""
    one = interval([1.0, 2.0, 3.0])
    half = 4.302653 / math.sqrt(3)
    assert (one.mean, one.low, one.high) == pytest.approx((2, 2 - half, 2 + half), abs=1e-5)


@pytest.mark.slow
def test_the_interval_holds_the_mean_as_often_as_it_says():
    random = np.random.default_rng(0)
    held = [one.low <= 3 <= one.high for one in (interval(random.normal(3, 2, 5)) for _ in range(2000))]
    assert 0.935 < np.mean(held) < 0.965  # three standard errors of a share of 0.95 among 2,000


def test_one_seed_leaves_everything_open():
    one = interval([5.0])
    assert one.mean == 5 and verdict([one]) is None
    assert plain({"a": one}) == {"a": {"mean": 5.0, "low": None, "high": None}}


def test_differences_are_paired_by_seed():
    """Unpaired, a spread of 100 between the seeds would drown a difference that is 1 in every pair."""
    of, against = [{"x": 1.0}, {"x": 101.0}, {"x": 201.1}], [{"x": 0.0}, {"x": 100.0}, {"x": 200.0}]
    one = paired(of, against, ["x"])["x"]
    assert one.mean == pytest.approx(3.1 / 3) and one.low > 0.8


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([(1, 0.5, 1.5), (2, 0.1, 3)], True),
        ([(1, 0.5, 1.5), (2, -0.1, 3)], None),
        ([(1, 0.5, 1.5), (-2, -3, -0.1)], False),
        ([(0, -1, 1), (-2, -3, -0.1)], False),
    ],
)
def test_verdicts(intervals, expected):
    assert verdict(Interval(*one) for one in intervals) is expected


def test_the_opposite_and_the_words():
    one = -Interval(0.5, -0.25, 1.0)
    assert one == Interval(-0.5, -1.0, 0.25)
    assert str(one) == "-0.5 (-1.0 to +0.2)" and str(Interval(0.004, -0.001, 0.009)) == "+0.004 (-0.001 to +0.009)"
