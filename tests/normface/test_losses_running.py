"""Losses that go by running means (CurricularFace's t, AdaFace's lengths), and where SphereFace2's bias starts."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from normface import losses
from support import loss_formulas as bare
from support.loss_formulas import FEATURES, LABELS, WEIGHTS

RUNNING = pytest.mark.parametrize("name", ["curricularface", "adaface"])


def made(name, **options):
    loss = losses.make(name, len(WEIGHTS), 2, dtype=torch.float64, **options)
    with torch.no_grad():
        loss.weight.copy_(torch.tensor(bare.rows(WEIGHTS), dtype=torch.float64))
    return loss


def points():
    return torch.tensor(bare.rows(FEATURES), dtype=torch.float64, requires_grad=True), torch.tensor(LABELS)


def test_t_follows_the_cosines():
    loss, t = made("curricularface", scale=8.0, momentum=0.3), 0.0
    x, labels = points()
    mean = statistics.fmean(math.cos(bare.angle(f, WEIGHTS[y])) for f, y in zip(FEATURES, LABELS, strict=True))
    for _ in range(4):
        value = loss(x, labels)
        expected = bare.curricularface(FEATURES, WEIGHTS, LABELS, scale=8.0, momentum=0.3, before=t)
        assert value.item() == pytest.approx(expected, rel=1e-9)
        value.backward()
        t = 0.3 * mean + 0.7 * t
        assert loss.running.mean.item() == pytest.approx(t, rel=1e-9)


def test_mean_and_deviation_follow_the_lengths():
    loss, before = made("adaface", scale=8.0, momentum=0.3), (20.0, 100.0)
    x, labels = points()
    lengths = [length for length, _ in FEATURES]
    for _ in range(4):
        value = loss(x, labels)
        expected = bare.adaface(FEATURES, WEIGHTS, LABELS, scale=8.0, momentum=0.3, before=before)
        assert value.item() == pytest.approx(expected, rel=1e-9)
        value.backward()
        before = (
            0.3 * statistics.fmean(lengths) + 0.7 * before[0],
            0.3 * statistics.stdev(lengths) + 0.7 * before[1],
        )
        assert (loss.running.mean.item(), loss.running.std.item()) == pytest.approx(before, rel=1e-9)


@RUNNING
def test_only_training_passes_move_them(name):
    loss = made(name, momentum=0.5)
    x, labels = points()
    start = {key: value.clone() for key, value in loss.running.state_dict().items()}
    first = loss(x, labels).item()
    with torch.no_grad():
        assert loss(x, labels).item() == first
    loss.eval()
    loss(x, labels).backward()
    assert all(torch.equal(value, start[key]) for key, value in loss.running.state_dict().items())
    loss.train()
    loss(x, labels).backward()
    assert not any(torch.equal(value, start[key]) for key, value in loss.running.state_dict().items())


@RUNNING
def test_evaluation_takes_them_as_they_are(name):
    loss = made(name, momentum=0.5)
    x, labels = points()
    loss(x, labels).backward()
    loss.eval()
    frozen = made(name, momentum=0.0)
    frozen.load_state_dict(loss.state_dict())
    assert loss(x, labels).item() == frozen(x, labels).item()


@RUNNING
def test_they_have_no_gradient(name):
    """The gradient is that of the loss whose running means stand where this batch brings them."""
    loss, fixed = made(name, scale=8.0, momentum=0.5), made(name, scale=8.0, momentum=0.0)
    x, labels = points()
    loss(x, labels).backward()
    fixed.running.load_state_dict(loss.running.state_dict())
    z, _ = points()
    fixed(z, labels).backward()
    torch.testing.assert_close(x.grad, z.grad, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(loss.weight.grad, fixed.weight.grad, rtol=1e-12, atol=1e-14)


def test_the_gradient_with_means_that_matter():
    """CurricularFace by finite differences of the bare formula, with t held; the features' angles and lengths."""
    loss = made("curricularface", scale=8.0, momentum=0.0)
    loss.running.mean.fill_(0.3)
    x, labels = points()
    loss(x, labels).backward()
    for i, (length, degrees) in enumerate(FEATURES):
        step = 1e-4
        turned = []
        for d in (step, -step):
            features = [*FEATURES[:i], (length, degrees + d), *FEATURES[i + 1 :]]
            turned.append(bare.curricularface(features, WEIGHTS, LABELS, 8.0, momentum=0.0, before=0.3))
        slope = (turned[0] - turned[1]) / (2 * math.radians(step))
        across = [-math.sin(math.radians(degrees)), math.cos(math.radians(degrees))]
        found = length * sum(g * a for g, a in zip(x.grad[i].tolist(), across, strict=True))
        assert found == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_one_sample_has_no_deviation():
    loss = made("adaface", momentum=1.0)
    value = loss(torch.tensor([[3.0, 4.0]], dtype=torch.float64, requires_grad=True), torch.tensor([1]))
    value.backward()
    assert value.isfinite()
    assert (loss.running.mean.item(), loss.running.std.item()) == (5.0, 0.0)


@pytest.mark.parametrize("classes", [1, 2, 3, 4, 10, 1000, 100_000])
@pytest.mark.parametrize("options", [{}, {"scale": 64.0, "margin": 0.8}, {"scale": 1.0, "margin": 0.0}], ids=str)
def test_where_the_bias_of_sphereface2_starts(classes, options):
    loss = losses.SphereFace2Loss(classes, 2, dtype=torch.float64, **options)
    expected = bare.sphereface2_bias(classes, **options) if classes > 1 else 0
    assert loss.bias.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_special_cases_are_the_losses_that_they_contain():
    x, labels = points()
    am = made("am-softmax", scale=9.0, margin=0.2)(x, labels).item()
    arc = made("arcface", scale=9.0, margin=0.2, beyond="nothing")(x, labels).item()
    assert made("combined-margin", scale=9.0, m2=0.0, m3=0.2)(x, labels).item() == pytest.approx(am, rel=1e-9)
    assert made("combined-margin", scale=9.0, m2=0.2, m3=0.0)(x, labels).item() == pytest.approx(arc, rel=1e-9)
    assert made("sv-x-softmax", scale=9.0, margin=0.2, t=1.0)(x, labels).item() == pytest.approx(am, rel=1e-9)
    assert losses.CosFaceLoss is losses.AMSoftmaxLoss
