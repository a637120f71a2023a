"""``positive-scale``: the collapse by the project's loss, and the claim on a small net."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from normface.losses import PositiveScaleSoftmaxLoss
from support.toy_digits import TINY, shared_options, small_digits

from experiments import positive_scale

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("classes", "s", "positive"), [(10, 15.0, 0.75), (100, 30.0, 0.5)])
def test_collapsed_loss_is_what_the_loss_gives(classes, s, positive):
    """All weights along x, all features against it; with positive_only it is log C again."""
    features, labels = torch.tensor([[-2.0, 0.0]] * classes, dtype=torch.float64), torch.arange(classes)
    for only, expected in ((False, positive_scale.collapsed_loss(classes, s, positive)), (True, np.log(classes))):
        loss = PositiveScaleSoftmaxLoss(classes, 2, s, positive, positive_only=only, dtype=torch.float64)
        with torch.no_grad():
            loss.weight.copy_(torch.tensor([[3.0, 0.0]]))
            assert loss(features, labels).item() == pytest.approx(expected, rel=1e-4)  # the lengths' epsilon


def test_without_a_multiplier_it_is_normalised_softmax():
    assert positive_scale.recipe(1.0, 15.0, 0).head == "normalized"
    assert dict(positive_scale.recipe(0.75, 15.0, 0).options) == {"positive": 0.75, "scale": 15.0}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return positive_scale.measure(
        shared_options(tmp_path_factory), TINY, small_digits(), positives=(0.75, 1.0), scales=(15.0,), seeds=8
    )


@pytest.mark.slow
def test_it_acts_as_a_margin(result):
    """Means over 16 seeds, and their standard deviation from seed to seed, which a processor that rounds another way
    draws anew: true accepts +0.078 (0.020), gap +3.1 degrees (1.9), equal error rate -0.0049 (0.0032), span -1.7 (1.6).
    What is asked of eight is four standard errors away, the span's sign three, so that only its contrary is excluded.
    """
    difference = result.measured["difference at s = 15, positive 0.75"]
    assert difference["TAR at FAR 1 %"]["mean"] > 0.04
    assert difference["gap"]["mean"] > 0
    assert difference["cosine EER"]["mean"] < 0
    assert result.holds is not False


def test_the_finding_tells_the_intervals(result):
    assert "mean difference over 8 seeds (95 % interval): span" in result.finding
    assert "(+" in result.finding.partition("gap ")[2][:12]
