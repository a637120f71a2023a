"""A NaN in a feature or a class weight, anywhere, is a NaN in the loss: a broken model must not look healthy."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from normface.losses import LOSSES, make

N, C, D = 6, 5, 4
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
OPTIONS = {
    "softmax": [{}, {"bias": True}],
    "normalized-softmax": [{}, {"scale": 5.0}, {"min_scale": 20.0}],
    "positive-scale-softmax": [{}, {"positive_only": True}],
    "l2-softmax": [{}, {"bias": True, "alpha": "learned"}],
    "am-softmax": [{}, {"above_margin_only": True}],
    "arcface": [{"beyond": beyond} for beyond in ("linear", "easy", "nothing")],
    "large-margin-softmax": [{"margin": margin} for margin in (1, 2, 3, 4)],
    "sphereface": [*({"margin": margin} for margin in (1, 2, 3, 4)), {"exact_gradient": False}],
    "c-contrastive": [
        {},
        {"max_negative_only": True},
        {"max_positive_only": True},
        {"max_negative_only": True, "max_positive_only": True},
        {"positive_first": True, "positive_upper_bound": 0.0},
        {"exp_negative_weight": True},
        {"negative_margin": 0.0},
        {"exact_gradient": False},
    ],
    "c-triplet": [
        {},
        {"hardest_only": False},
        {"margin": 0.0},
        {"positive_first": True, "positive_upper_bound": 0.0},
        {"exact_gradient": False, "add_center_loss": True, "hardest_only": False},
    ],
    "center": [{"center_step": step} for step in ("paper", "fork", "derivative")],
    "combined-margin": [{}, {"m1": 2.0, "m2": 0.0}],
    "sv-x-softmax": [{"margin_on": place} for place in ("cosine", "angle")],
    "curricularface": [{}, {"momentum": 1.0}],
    "magface": [{}, {"easy": False}, {"shortest": 0.5, "longest": 2.0}],
    "adaface": [{}, {"momentum": 1.0}],
    "sub-center-arcface": [{}, {"sub_centers": 1}],
    "elasticface": [{}, {"margin_on": "cosine"}],
    "sphereface2": [{}, {"power": 1.0}],
    "softmax+0.01*c-contrastive": [{}],
    "0.5*c-triplet+center": [{}],
}
CASES = [(name, options) for name, several in OPTIONS.items() for options in several]


def test_every_loss_is_here():
    assert set(LOSSES) <= set(OPTIONS)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_no_feature_and_no_weight_hides_it(name, options, value):
    """Infinity too: of a feature that has no direction. A center at infinity is infinitely far."""
    torch.manual_seed(0)
    loss = make(name, C, D, **options)
    features, weight = torch.randn(N, D), loss.weight.detach().clone()
    assert torch.isfinite(loss(features, LABELS))
    for i, d in itertools.product(range(N), range(D)):
        spoilt = features.clone()
        spoilt[i, d] = value
        assert not torch.isfinite(loss(spoilt.requires_grad_(), LABELS)), (i, d)
    for j, d in itertools.product(range(C), range(D)):
        with torch.no_grad():
            loss.weight.copy_(weight)[j, d] = value
        assert not torch.isfinite(loss(features, LABELS)), (j, d)
