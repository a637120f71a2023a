"""Margins that come from nothing over the first steps."""

from __future__ import annotations

import copy

import pytest
import torch
from normface import losses
from normface.errors import TrainingError
from support import loss_formulas as bare
from support.loss_cases import made, points
from support.loss_formulas import FEATURES, LABELS, WEIGHTS

STEPS = 4
MARGINS = {
    "positive-scale-softmax": lambda f: {"positive_scale": 1 - 0.25 * f},
    "am-softmax": lambda f: {"margin": 0.35 * f},
    "arcface": lambda f: {"margin": 0.5 * f},
    "c-triplet": lambda f: {"margin": 0.8 * f},
    "combined-margin": lambda f: {"m1": 1 - 0.1 * f, "m2": 0.4 * f, "m3": 0.15 * f},
    "sv-x-softmax": lambda f: {"margin": 0.35 * f},
    "curricularface": lambda f: {"margin": 0.5 * f, "momentum": 0.0},
    "magface": lambda f: {"least_margin": 0.45 * f, "most_margin": 0.8 * f, "shortest": 0.6, "longest": 2.5},
    "adaface": lambda f: {"margin": 0.4 * f, "momentum": 0.0},
    "sub-center-arcface": lambda f: {"margin": 0.5 * f},
    "elasticface": lambda f: {"margin": 0.5 * f},
}
"""{name: (what part of the margin) -> the options of the formula}"""
WHOLE = {name: of(1.0) for name, of in MARGINS.items()} | {"elasticface": {"std": 0.0}}


@pytest.mark.slow
@pytest.mark.parametrize("name", MARGINS)
def test_the_margin_rises_with_the_steps(name):
    """In a straight line, from none; evaluation has it as it is; a resumed training goes on."""
    loss = made(name, margin_warmup=STEPS, **WHOLE[name])
    x, labels = points()
    formula = getattr(bare, name.replace("-", "_"))
    for step in range(STEPS + 3):
        wanted = formula(FEATURES, WEIGHTS, LABELS, **MARGINS[name](min(1.0, step / STEPS)))
        for _ in range(2):  # looking moves nothing
            assert loss(x, labels).item() == pytest.approx(wanted, rel=1e-9)
        resumed = made(name, margin_warmup=STEPS, **WHOLE[name])
        resumed.load_state_dict(loss.state_dict())
        assert resumed(x, labels).item() == loss(x, labels).item() == copy.deepcopy(loss)(x, labels).item()
        loss.eval()
        assert loss(x, labels).item() == pytest.approx(wanted, rel=1e-9)
        loss.train()
        loss(x, labels).backward()


def test_sphereface2s_margin_rises_too():
    loss = made("sphereface2", margin_warmup=2)
    whole, none = made("sphereface2"), made("sphereface2", margin=0.0)
    x, labels = points()
    whole.load_state_dict(loss.state_dict())
    none.load_state_dict(loss.state_dict())
    assert loss(x, labels).item() == pytest.approx(none(x, labels).item(), rel=1e-12)
    for _ in range(2):
        loss(x, labels).backward()
    assert loss(x, labels).item() == pytest.approx(whole(x, labels).item(), rel=1e-12)


def test_every_loss_with_a_margin_has_it():
    """The class agents of C-contrastive keep theirs, and SphereFace and L-Softmax have lambda."""
    without = {"softmax", "normalized-softmax", "l2-softmax", "center", "c-contrastive"}
    annealed = {"sphereface", "large-margin-softmax"}
    assert set(MARGINS) | {"sphereface2"} | without | annealed == set(losses.LOSSES)
    for name in losses.LOSSES:
        assert bool(losses.warmups(losses.make(name, 4, 2))) == (name in MARGINS or name == "sphereface2")


def test_a_second_derivative_has_the_margin_of_its_forward_pass():
    """The count moves in between."""
    x, labels = points()
    loss, fixed = made("arcface", margin_warmup=2, scale=4.0), made("arcface", margin=0.25, scale=4.0)
    loss.warmup.iteration.fill_(1)
    seconds = []
    for one in (loss, fixed):
        (first,) = torch.autograd.grad(one(x, labels), x, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), x)[0])
    assert loss.warmup.iteration.item() == 2
    torch.testing.assert_close(*seconds, rtol=1e-12, atol=1e-14)


def test_states_of_earlier_versions_are_read():
    loss = made("arcface", margin_warmup=3)
    state = {key: value for key, value in loss.state_dict().items() if key != "warmup.iteration"}
    assert len(state) == len(loss.state_dict()) - 1
    loss.warmup.iteration.fill_(2)
    loss.load_state_dict(state)
    assert loss.warmup.iteration.item() == 0


def test_it_begins_anew_on_request():
    loss = losses.make("arcface+0.1*am-softmax", 4, 2)
    x, labels = points(torch.float32)
    loss(x, labels).backward()
    assert [warmup.iteration.item() for warmup in losses.warmups(loss)] == [0, 0]  # nothing to count
    for warmup in losses.warmups(loss):
        warmup.restart(5)
    loss(x, labels).backward()
    assert [warmup.iteration.item() for warmup in losses.warmups(loss)] == [1, 1]


@pytest.mark.parametrize("steps", [-1, 0.5, True, "3"])
def test_wrong_steps(steps):
    with pytest.raises(TrainingError, match="expected margin_warmup to be a whole number of steps, 0 or more, got"):
        losses.ArcFaceLoss(4, 2, margin_warmup=steps)
