"""``scale``: the pull on a feature by the formula, and the claim on a small net."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.toy_digits import TINY, shared_options, small_digits

from experiments import scale

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("s", "off"), [(1.0, 5.0), (7.0, 10.0), (30.0, 15.0)])
def test_pull_is_the_slope_of_the_loss(s, off):
    def loss(degrees: float) -> float:
        scores = [s * math.cos(math.radians(degrees - 36 * j)) for j in range(10)]
        return math.log(sum(math.exp(score) for score in scores)) - scores[0]

    step = 1e-4
    slope = (loss(off + step) - loss(off - step)) / math.radians(2 * step)
    assert scale.pull(s, off, 10) == pytest.approx(slope / s, rel=1e-6)


def test_a_small_scale_pulls_on_what_is_right_already():
    """5 degrees from its weight where the boundary is at 18: nothing is left to gain at s = 64, much at s = 4."""
    pulls = [scale.pull(s, 5.0, 10) for s in (4.0, 15.0, 64.0)]
    assert pulls[0] > 0.05
    assert pulls[0] > 1.2 * pulls[1] > 1.2 * 3 * pulls[2] > 0


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return scale.measure(shared_options(tmp_path_factory), TINY, small_digits(), scales=(4.0, 30.0), seeds=6)


@pytest.mark.slow
def test_the_learned_scale_moves_and_fixed_ones_do_not(result):
    scales = result.measured["scales"]
    assert scales["4"]["scale"] == 4 and scales["30"]["scale"] == 30
    path = np.asarray(result.measured["learned path"])
    assert path[0] != path[-1] and abs(path[0] - 10) < 0.5


def test_no_loss_below_the_bound(result):
    """Of the mean of the last batches; classes are as frequent but for chance."""
    for name, one in result.measured["scales"].items():
        assert one["loss"] > one["least loss"], name


def test_a_small_scale_widens_the_angle_between_classes(result):
    """s = 4 against 30, means over 16 seeds (standard deviation from seed to seed): gap +6.5 degrees (2.3), span -4.5
    (2.4); four standard errors of six seeds are left to the processor's rounding."""
    difference = result.measured["small against large"]
    assert difference["gap"]["mean"] > 2
    assert difference["span"]["mean"] < 0
    assert result.holds is not False
    assert result.measured["small"]["gap"] - result.measured["large"]["gap"] == pytest.approx(difference["gap"]["mean"])
