"""sum([...]), division, and tensors as factors of losses."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from normface import losses
from normface.errors import TrainingError

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 4, 2])


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return losses.SoftmaxLoss(5, 3), losses.CContrastiveLoss(5, 3)


def test_the_sum_of_a_list(pair):
    one, other = pair
    assert sum([one]) is one
    loss = sum([one, 0.5 * other, one])
    assert [factor for factor, _ in loss.terms] == [1.0, 0.5, 1.0]
    assert loss(X, Y).item() == pytest.approx((2 * one(X, Y) + 0.5 * other(X, Y)).item(), rel=1e-6)
    for start in (1, 0.0, False, "", None):
        with pytest.raises(TypeError, match=r"unsupported operand|can't sum strings"):
            sum([one, other], start)


@pytest.mark.parametrize(
    "half",
    [
        lambda loss: loss / 2,
        lambda loss: loss / np.float32(2),
        lambda loss: loss / torch.tensor(2.0),
        lambda loss: 0.5 * loss,
        lambda loss: loss * np.float64(0.5),
        lambda loss: np.float64(0.5) * loss,
        lambda loss: np.float32(0.5) * loss,
        lambda loss: torch.tensor(0.5) * loss,
        lambda loss: loss * torch.tensor([0.5]),
        lambda loss: 2 * (torch.tensor(0.25) * loss),
        lambda loss: torch.tensor(1) * (loss / 2),
    ],
)
def test_numbers_and_tensors_before_a_loss(pair, half):
    for loss in (pair[0], pair[0] + pair[1]):
        value = half(loss)(X, Y)
        assert value.shape == ()
        assert value.item() == pytest.approx(loss(X, Y).item() / 2, rel=1e-6)


def test_a_factor_that_learns(pair):
    one, other = pair
    factor = torch.nn.Parameter(torch.tensor(0.25))
    loss = one + factor * other
    assert any(parameter is factor for parameter in loss.parameters())
    for _ in range(2):  # as often as one likes
        loss.zero_grad()
        value = loss(X, Y)
        value.backward()
        assert value.item() == pytest.approx((one(X, Y) + 0.25 * other(X, Y)).item(), rel=1e-6)
        assert factor.grad.item() == pytest.approx(other(X, Y).item(), rel=1e-6)
    with torch.no_grad():
        factor.fill_(2.0)
    assert loss(X, Y).item() == pytest.approx((one(X, Y) + 2 * other(X, Y)).item(), rel=1e-6)
    double = copy.deepcopy(loss)
    assert double(X, Y).item() == loss(X, Y).item() == pickle.loads(pickle.dumps(loss))(X, Y).item()
    assert "2 * CContrastiveLoss" in repr(factor * other)


def test_a_factor_from_elsewhere_is_differentiated(pair):
    free = torch.tensor(0.0, requires_grad=True)
    value = (free.exp() * pair[0])(X, Y)
    value.backward()
    assert free.grad.item() == pytest.approx(pair[0](X, Y).item(), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda loss: loss / 0, "expected a divisor other than 0 behind SoftmaxLoss"),
        (lambda loss: torch.tensor(-1.0) * loss, "expected a factor of 0 or more before SoftmaxLoss, got -1"),
        (lambda loss: torch.tensor(float("nan")) * loss, "expected a factor of 0 or more before SoftmaxLoss, got nan"),
        (lambda loss: loss / torch.tensor(2.0, requires_grad=True), "put a factor that does before the loss"),
        (lambda loss: losses.WeightedSum([(torch.ones(2), loss)]), r"expected one number before .* of shape \(2,\)"),
    ],
)
def test_what_is_no_factor(pair, make, message):
    with pytest.raises(TrainingError, match=message):
        make(pair[0])


@pytest.mark.parametrize("factor", [True, "2", None, torch.ones(2), 1j])
def test_what_cannot_be_multiplied(pair, factor):
    with pytest.raises(TypeError, match=r"unsupported operand|can't multiply"):
        pair[0] * factor
    with pytest.raises(TypeError, match="unsupported operand"):
        pair[0] / (1j if isinstance(factor, torch.Tensor) else factor)
