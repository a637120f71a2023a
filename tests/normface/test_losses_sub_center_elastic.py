"""Several centers a class, against loops over them; and margins that are drawn."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from normface import losses
from support import loss_formulas as bare
from support.loss_formulas import FEATURES, LABELS, WEIGHTS
from torch.autograd import gradcheck


def points():
    return torch.tensor(bare.rows(FEATURES), dtype=torch.float64, requires_grad=True), torch.tensor(LABELS)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.slow
def test_the_nearest_sub_center_counts():
    torch.manual_seed(2)
    loss = losses.SubCenterArcFaceLoss(5, 4, scale=9.0, margin=0.4, sub_centers=3, dtype=torch.float64)
    x, labels = torch.randn(7, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    centers = [loss.weight.detach().numpy(), *loss.more.detach().numpy()]
    table = np.zeros((7, 5))
    for i in range(7):
        for j in range(5):
            table[i, j] = max(unit(x[i].numpy()) @ unit(center[j]) for center in centers)
    np.testing.assert_allclose(loss.logits(x).detach().numpy(), 9 * table, rtol=1e-9)
    for i, y in enumerate(labels.tolist()):
        theta = math.acos(table[i, y])
        beyond = theta > math.pi - 0.4
        table[i, y] = math.cos(theta) - 0.4 * math.sin(0.4) if beyond else math.cos(theta + 0.4)
    assert loss(x, labels).item() == pytest.approx(bare.cross_entropy((9 * table).tolist(), labels.tolist()), rel=1e-9)
    names, values = zip(*loss.named_parameters(), strict=True)

    def function(features, *parameters):
        return torch.func.functional_call(loss, dict(zip(names, parameters, strict=True)), (features, labels))

    assert names == ("weight", "more")
    assert gradcheck(function, (x.requires_grad_(), *(value.detach().clone().requires_grad_() for value in values)))


def elastic(**options):
    loss = losses.ElasticFaceLoss(len(WEIGHTS), 2, dtype=torch.float64, **options)
    with torch.no_grad():
        loss.weight.copy_(torch.tensor(bare.rows(WEIGHTS), dtype=torch.float64))
    return loss


@pytest.mark.parametrize("margin_on", ["angle", "cosine"])
def test_each_sample_has_the_margin_that_was_drawn_for_it(margin_on):
    loss = elastic(scale=8.0, margin=0.3, std=0.2, margin_on=margin_on)
    x, labels = points()
    for _ in range(3):
        drawn = loss.margins(len(x)).flatten().tolist()

        def target_of(e):
            return (lambda theta: math.cos(theta + e)) if margin_on == "angle" else (lambda theta: math.cos(theta) - e)

        expected = bare.own_margins(FEATURES, WEIGHTS, LABELS, 8.0, [target_of(e) for e in drawn])
        value = loss(x, labels)
        assert value.item() == pytest.approx(expected, rel=1e-9)
        value.backward()
        assert drawn != loss.margins(len(x)).flatten().tolist()
    assert loss.step.item() == 3
    loss.eval()
    fixed = elastic(scale=8.0, margin=0.3, std=0.0, margin_on=margin_on)
    assert loss(x, labels).item() == pytest.approx(fixed(x, labels).item(), rel=1e-12)


def test_the_margins_are_normal():
    drawn = elastic(margin=0.3, std=0.2).margins(100_000).numpy()
    assert drawn.mean() == pytest.approx(0.3, abs=4 * 0.2 / math.sqrt(100_000))
    assert drawn.std() == pytest.approx(0.2, rel=0.01)
    assert np.mean(np.abs(drawn - 0.3) < 0.2) == pytest.approx(0.6827, abs=0.006)


def test_draws_follow_from_seed_and_step():
    one, other = elastic(seed=1), elastic(seed=1)
    x, labels = points()
    assert one(x, labels).item() == one(x, labels).item() == other(x, labels).item()  # nobody went on
    assert one(x, labels).item() != elastic(seed=2)(x, labels).item()
    one(x, labels).backward()
    assert one(x, labels).item() != other(x, labels).item()
    other.load_state_dict(one.state_dict())
    assert one(x, labels).item() == other(x, labels).item() == copy.deepcopy(one)(x, labels).item()
