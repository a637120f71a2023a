"""``bound``: no optimiser and no training gets below the formula, and easy samples are pulled like hard ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from normface.losses import NormalizedSoftmaxLoss

from experiments import Options, bound, run
from experiments.threads import one_thread

pytestmark = pytest.mark.slow

ROUNDING = 2e-6  # of float32 in a mean loss of about 7


@pytest.fixture(autouse=True)
def single_thread():
    with one_thread():
        yield


def formula(n: int, scale: float) -> float:
    return math.log(1 + (n - 1) * math.exp(-scale * n / (n - 1)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n", "scale"), [(4, 1.0), (10, 1.0), (10, 8.0), (25, 4.0), (25, 16.0)])
def test_the_optimisers_best_is_the_bound(n, scale, seed):
    """In n dimensions, from any start; above it and within a millionth."""
    best = bound.optimised(n, n, scale, seed)
    assert formula(n, scale) - 1e-12 <= best <= formula(n, scale) + 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_few_dimensions_keep_it_off_the_bound(seed):
    """In the plane the best for 12 classes is a regular polygon: its loss in closed form."""
    cosines = [math.cos(2 * math.pi * k / 12) for k in range(12)]
    polygon = math.log(sum(math.exp(c - 1) for c in cosines))
    best = bound.optimised(12, 2, 1.0, seed)
    # all directions of the plane are as good at first order, so that features may lean away from their weights a bit
    assert best <= polygon + 1e-6
    assert best > formula(12, 1.0) + 0.1
    losses = [bound.optimised(12, size, 1.0, seed) for size in (2, 4, 11)]
    assert losses[0] > losses[1] + 0.05 > losses[2] + 0.05


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_training_stalls_on_the_bound_and_a_scale_frees_it(seed):
    n, size = 500, 24
    stalled = bound.training_curve(n, size, 1.0, 5, seed)
    assert stalled["loss"][0] == pytest.approx(math.log(n), abs=0.1)
    assert all(loss >= formula(n, 1.0) - ROUNDING for loss in stalled["loss"])
    assert stalled["loss"][-1] <= formula(n, 1.0) + 0.05
    assert stalled["loss"][-2] - stalled["loss"][-1] < 0.01

    learned = bound.training_curve(n, size, None, 8, seed)
    assert learned["scale"][0] == 1 and learned["scale"][-1] > 5
    assert learned["loss"][-1] < formula(n, 1.0) - 3
    for loss, limit in bound.margins(learned):
        assert loss >= limit - ROUNDING
    assert bound.margins(learned)[3][1] == pytest.approx(formula(n, learned["scale"][3]), rel=1e-12)

    fixed = bound.training_curve(n, size, 16.0, 5, seed)
    assert formula(n, 16.0) - ROUNDING <= fixed["loss"][-1] < 0.3


@pytest.mark.slow
def test_the_same_seed_gives_the_same_curve():
    assert bound.training_curve(60, 8, None, 2, 1) == bound.training_curve(60, 8, None, 2, 1)
    assert bound.training_curve(60, 8, None, 2, 1) != bound.training_curve(60, 8, None, 2, 2)


def test_9999_classes_to_1():
    """1 - e^s / (e^s + 9999 e^-s) at its best, 1 - 1/10000 at chance: without a scale nearly the same."""
    pulls = bound.easy_and_hard(10_000, bound.SCALES)
    for scale in bound.SCALES:
        odds = 9999 * math.exp(-2 * scale)
        assert pulls[str(scale)]["easy"] == pytest.approx(odds / (1 + odds), rel=1e-9)
        assert pulls[str(scale)]["hard"] == pytest.approx(0.9999, rel=1e-9)
    assert pulls["1.0"]["easy"] / pulls["1.0"]["hard"] > 0.999
    assert pulls["16.0"]["easy"] / pulls["16.0"]["hard"] < 1e-9


def test_the_score_gradient_is_the_losses():
    """Against differences of the loss itself: dL/d(s cos) by turning the feature, with one other class."""
    loss = NormalizedSoftmaxLoss(2, 2, 3.0, dtype=torch.float64)
    with torch.no_grad():
        loss.weight.copy_(torch.eye(2))

    def at(angle: float) -> float:
        x = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        return float(loss(x, torch.tensor([0])).detach())

    angle, step = 0.7, 1e-5
    numeric = (at(angle + step) - at(angle - step)) / (2 * step)
    pull = bound.score_gradient(loss, [math.cos(angle), math.sin(angle)])
    # dL/dt = -p s d(cos)/dt + p s d(sin)/dt, for scores s cos t and s sin t
    assert numeric == pytest.approx(pull * 3.0 * (math.sin(angle) + math.cos(angle)), rel=1e-6)


def test_the_printed_formula():
    """8.27 for 10,575 classes."""
    assert formula(bound.CASIA, 1.0) == pytest.approx(8.27, abs=0.005)
    assert math.log(bound.CASIA) == pytest.approx(9.27, abs=0.005)
    assert np.isclose(formula(bound.CASIA, 1.0), bound.softmax_lower_bound(bound.CASIA, 1.0), rtol=1e-12)


@pytest.mark.slow
def test_the_whole_experiment(tmp_path, monkeypatch):
    """Small; the files are there, and the claim holds by its own measures."""
    monkeypatch.setattr(bound, "CASIA", 300)
    monkeypatch.setattr(bound, "TRAINING", {False: (16, 8)})
    monkeypatch.setattr(bound, "BEST_COUNTS", (5,))
    monkeypatch.setattr(bound, "SPACES", (2, 4))
    one = run("bound", Options(out=tmp_path, seed=4))
    assert one.holds
    assert one.measured["bound_casia"] == pytest.approx(formula(300, 1.0), rel=1e-12)
    assert one.measured["least_over_the_bound"] > -ROUNDING
    assert {figure.file for figure in one.figures} <= {path.name for path in (tmp_path / "bound").iterdir()}
