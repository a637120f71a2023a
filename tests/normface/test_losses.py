"""Every loss against its paper's bare formula on points of a circle, and its gradient against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from normface import losses
from support import loss_formulas as bare
from support.loss_cases import CASES, made, points, with_parameters
from support.loss_formulas import FEATURES, LABELS, WEIGHTS
from torch.autograd import gradcheck, gradgradcheck

EVERY = pytest.mark.parametrize(("name", "options", "formulas"), CASES, ids=str)


def expected(name, options, formulas):
    formula = getattr(bare, name.replace("-", "_"))
    return formula(FEATURES, WEIGHTS, LABELS, **(options if formulas is None else formulas))


def test_every_loss_has_a_case():
    assert {name for name, _, _ in CASES} == set(losses.LOSSES)
    assert {kind.__name__ for kind in losses.LOSSES.values()} <= set(losses.__all__)


@EVERY
def test_the_formula(name, options, formulas):
    loss = made(name, **options)(*points())
    assert loss.shape == ()
    assert loss.dtype == torch.float64
    # The lengths' 1e-12 under the root is 4e-12 of the shortest squared length, times the scale.
    assert loss.item() == pytest.approx(expected(name, options, formulas), rel=1e-9)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_formula_in_lower_precision(name, options, formulas, dtype):
    """bfloat16 rounds the points to 3 digits; what is computed from them then has float32's precision."""
    x, labels = points(dtype)
    loss = made(name, dtype, **options)
    value = loss(x, labels)
    assert value.dtype == torch.float32
    exact = made(name, **options)
    exact.load_state_dict(loss.state_dict())
    rounded = exact(x.double(), labels)
    assert value.item() == pytest.approx(rounded.item(), rel=2e-6, abs=2e-6)
    if dtype == torch.float32:
        assert value.item() == pytest.approx(expected(name, options, formulas), rel=1e-5)
    value.backward()
    assert x.grad.dtype == dtype
    assert loss.weight.grad.dtype == dtype


@pytest.mark.parametrize("name", losses.LOSSES)
def test_logits_have_no_margin(name):
    found = made(name).logits(points()[0])
    table = [[bare.logits(name, x, w) for w in WEIGHTS] for x in FEATURES]
    np.testing.assert_allclose(found.detach().numpy(), table, rtol=1e-9, atol=1e-9)


@EVERY
def test_the_gradient_is_the_derivative(name, options, formulas):
    # The others are steps by definition, and running means have no gradient: tested below.
    options = options | {
        "center": {"center_step": "derivative"},
        "curricularface": {"momentum": 0.0},
        "adaface": {"h": 0.0},
        "sub-center-arcface": {"sub_centers": 1},
    }.get(name, {})
    x, labels = points()
    function, parameters = with_parameters(made(name, **options), labels)
    assert gradcheck(function, (x, *parameters))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["normalized-softmax", "positive-scale-softmax", "am-softmax", "arcface"])
def test_the_second_derivative(name):
    x, labels = points()
    function, parameters = with_parameters(
        made(name, **({} if name == "normalized-softmax" else {"scale": 2.0})), labels
    )
    assert gradgradcheck(function, (x, *parameters))


@pytest.mark.parametrize("bias", [[0.5, -1.0, 0.25, 2.0]])
@pytest.mark.parametrize("name", ["softmax", "l2-softmax"])
def test_a_bias_on_request(name, bias):
    loss = made(name, bias=True)
    assert not loss.bias.any()
    with torch.no_grad():
        loss.bias.copy_(torch.tensor(bias))
    table = [[bare.logits(name, x, w) + b for w, b in zip(WEIGHTS, bias, strict=True)] for x in FEATURES]
    x, labels = points()
    assert loss(x, labels).item() == pytest.approx(bare.cross_entropy(table, LABELS), rel=1e-9)
    function, parameters = with_parameters(loss, labels)
    assert len(parameters) == 2
    assert gradcheck(function, (x, *parameters))


def test_the_scale_for_a_target_loss():
    """NormFace's bound for 4 classes and loss 0.1, solved for the scale by hand: 3/4 log(3 / (e^0.1 - 1))."""
    scale = 0.75 * math.log(3 / (math.exp(0.1) - 1))
    fixed = losses.NormalizedSoftmaxLoss(4, 2, target_loss=0.1)
    assert not isinstance(fixed.scale, torch.nn.Parameter)
    learned = losses.NormalizedSoftmaxLoss(4, 2, "learned", target_loss=0.1)
    assert isinstance(learned.scale, torch.nn.Parameter)
    for loss in (fixed, learned):
        assert loss.scale.shape == ()
        assert loss.scale.item() == pytest.approx(scale, rel=1e-6)  # stored in float32


def test_alpha_for_a_target_probability():
    loss = losses.L2SoftmaxLoss(102, 2, target_probability=0.5)
    assert loss.alpha.item() == pytest.approx(math.log(100), rel=1e-6)
    assert loss.scale is loss.alpha
    assert not list(loss.named_parameters())[1:]


@pytest.mark.parametrize("stored", [0.001, -5.0])
def test_a_scale_below_its_least_acts_as_that_and_can_rise(stored):
    loss = made("normalized-softmax")
    with torch.no_grad():
        loss.scale.fill_(stored)
    value = loss(*points())
    assert value.item() == pytest.approx(bare.normalized_softmax(FEATURES, WEIGHTS, LABELS, 0.01), rel=1e-9)
    value.backward()
    up, down = (bare.normalized_softmax(FEATURES, WEIGHTS, LABELS, 0.01 + step) for step in (1e-6, -1e-6))
    assert loss.scale.grad.item() == pytest.approx((up - down) / 2e-6, rel=1e-6)
    assert loss.scale.item() == stored


@pytest.mark.parametrize(("step", "times"), [("paper", lambda n: 1), ("fork", lambda n: n)])
@pytest.mark.parametrize("factor", [1.0, 0.008])
def test_the_centers_step(step, times, factor):
    """sum (c - x) / (1 + n) (times n in the fork), whatever multiplies the loss; the features' gradient has it."""
    loss = made("center", center_step=step)
    x, labels = points()
    (factor * loss(x, labels)).backward()
    for j, c in enumerate(bare.rows(WEIGHTS)):
        own = [row for row, y in zip(bare.rows(FEATURES), LABELS, strict=True) if y == j]
        for d in range(2):
            sum_ = sum(c[d] - row[d] for row in own)
            assert loss.weight.grad[j, d].item() == pytest.approx(times(len(own)) * sum_ / (1 + len(own)), rel=1e-12)
    for i, y in enumerate(LABELS):
        pull = [
            factor * (a - c) / len(LABELS) for a, c in zip(bare.rows(FEATURES)[i], bare.rows(WEIGHTS)[y], strict=True)
        ]
        assert x.grad[i].tolist() == pytest.approx(pull, rel=1e-12)


# ---------------------------------------------------------------- the falling lambda

ANNEALED = pytest.mark.parametrize("name", ["sphereface", "large-margin-softmax"])


@ANNEALED
def test_lambda_falls_with_each_step(name):
    formula = getattr(bare, name.replace("-", "_"))
    loss = made(name, base=10.0, gamma=0.5, power=2.0, lambda_min=0.5)
    x, labels = points()
    for t in range(1, 9):  # lambda_min from t = 7 on
        value = loss(x, labels)
        wanted = formula(FEATURES, WEIGHTS, LABELS, base=10.0, gamma=0.5, power=2.0, lambda_min=0.5, t=t)
        assert value.item() == pytest.approx(wanted, rel=1e-9)
        value.backward()
    assert loss.annealing.iteration.item() == 8


@ANNEALED
def test_only_training_passes_count(name):
    loss = made(name)
    x, labels = points()
    loss(x, labels)
    with torch.no_grad():
        loss(x, labels)
    loss.eval()
    loss(x, labels).backward()
    assert loss.annealing.iteration.item() == 0
    loss.train()
    loss(x, labels).backward()
    assert loss.annealing.iteration.item() == 1


@ANNEALED
def test_a_resumed_training_goes_on(name):
    x, labels = points()
    one = made(name)
    for _ in range(5):
        one(x, labels).backward()
    other = made(name)
    other.load_state_dict(one.state_dict())
    assert other(x, labels).item() == one(x, labels).item()
    formula = getattr(bare, name.replace("-", "_"))
    assert other(x, labels).item() == pytest.approx(formula(FEATURES, WEIGHTS, LABELS, t=6), rel=1e-9)


# ---------------------------------------------------------------- the start


@pytest.mark.parametrize("name", losses.LOSSES)
def test_the_weights_start(name):
    """On the unit sphere where directions count, else as Caffe's xavier: uniform, of variance 1 / D."""
    torch.manual_seed(3)
    weight = losses.make(name, 400, 64).weight.detach().numpy()
    assert weight.shape == (400, 64)
    assert weight.dtype == np.float32
    assert abs(weight.mean()) < 0.003  # 0 +- 0.125 / sqrt(25600), four times
    if name in ("softmax", "l2-softmax", "large-margin-softmax", "center"):
        assert np.abs(weight).max() <= math.sqrt(3 / 64)
        assert weight.std() == pytest.approx(1 / 8, rel=0.02)
    else:
        np.testing.assert_allclose(np.linalg.norm(weight, axis=1), 1, rtol=1e-6)


def test_a_seed_decides_the_start():
    def start():
        torch.manual_seed(7)
        return losses.NormalizedSoftmaxLoss(5, 3).weight

    assert torch.equal(start(), start())
