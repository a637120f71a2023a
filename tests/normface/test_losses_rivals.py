"""The losses against pytorch-metric-learning's, value and gradients, in float64; skipped where it is not installed.

It takes cosines of vectors without our 1e-12 under the root, and acos of a cosine kept 1e-7 from 1 and -1.
"""

from __future__ import annotations

import math

import pytest
import torch
from normface import losses

rival = pytest.importorskip("pytorch_metric_learning.losses", reason="pytorch-metric-learning is not installed")

N, C, D = 12, 7, 5
DEGREES = math.degrees(0.5)
CASES = [
    ("normalized-softmax", {"scale": 16.0}, "NormalizedSoftmaxLoss", {"temperature": 1 / 16}),
    ("am-softmax", {"scale": 64.0, "margin": 0.35}, "CosFaceLoss", {"scale": 64, "margin": 0.35}),
    ("arcface", {"beyond": "nothing"}, "ArcFaceLoss", {"scale": 64, "margin": DEGREES}),
    ("sub-center-arcface", {}, "SubCenterArcFaceLoss", {"scale": 64, "margin": DEGREES, "sub_centers": 3}),
    ("large-margin-softmax", {"base": 0.0, "lambda_min": 0.0}, "LargeMarginSoftmaxLoss", {"margin": 4, "scale": 1}),
    ("sphereface", {"base": 0.0, "lambda_min": 0.0}, "SphereFaceLoss", {"margin": 4, "scale": 1}),
]


@pytest.mark.parametrize(("name", "ours", "other", "theirs"), CASES, ids=[case[0] for case in CASES])
def test_the_same_numbers(name, ours, other, theirs):
    torch.manual_seed(3)
    loss = losses.make(name, C, D, dtype=torch.float64, **ours)
    judge = getattr(rival, other)(num_classes=C, embedding_size=D, **theirs)
    weights = loss.weight.detach()[None]
    if name == "sub-center-arcface":
        weights = torch.cat([weights, loss.more.detach()])
    # Theirs are (D, C), a class's sub-centers side by side.
    judge.W = torch.nn.Parameter(weights.permute(2, 1, 0).flatten(1).clone())
    x = torch.randn(N, D, dtype=torch.float64)
    if name in ("arcface", "sub-center-arcface"):  # near their classes: far ones have another form there
        x = loss.weight.detach()[torch.arange(N) % C] + 0.3 * x
    one, two = x.clone().requires_grad_(), x.clone().requires_grad_()
    labels = torch.arange(N) % C
    value, expected = loss(one, labels), judge(two, labels)
    assert value.item() == pytest.approx(expected.item(), rel=1e-7)
    value.backward()
    expected.backward()
    torch.testing.assert_close(one.grad, two.grad, rtol=1e-6, atol=1e-8)
    of_weights = judge.W.grad.unflatten(1, (C, -1)).permute(2, 1, 0)
    torch.testing.assert_close(loss.weight.grad, of_weights[0], rtol=1e-6, atol=1e-8)
    if name == "sub-center-arcface":
        torch.testing.assert_close(loss.more.grad, of_weights[1:], rtol=1e-6, atol=1e-8)
