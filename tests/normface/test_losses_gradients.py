"""Every loss's gradient against its paper's bare formula, differentiated in 60 digits; and, in blocks, the plain form.

The bare formulas take lengths and angles; with mpmath's functions in the place of math's, a central difference of
1e-20 is exact to 1e-30 or so, so that nothing of the losses' own derivatives is in what is expected of them.
"""

from __future__ import annotations

import mpmath
import pytest
import torch
from normface import losses
from normface.losses import blockwise
from support import loss_formulas as bare
from support.loss_cases import CASES, made, points, with_parameters
from support.loss_formulas import FEATURES, LABELS, WEIGHTS
from torch.autograd import gradgradcheck

STEP = mpmath.mpf(10) ** -20

HELD = {
    "curricularface": {"momentum": 0.0},  # t has no gradient
    "adaface": {"h": 0.0},  # nor has z
    "center": {"center_step": "derivative"},
    "sub-center-arcface": {"sub_centers": 1},
}
"""What keeps a loss's value a function of the points alone; the formulas have the same options, but the last two."""


@pytest.fixture
def in_many_digits(monkeypatch):
    context = mpmath.mp.clone()
    context.dps = 60
    monkeypatch.setattr(bare, "math", context)
    with mpmath.workdps(60):
        yield


def slopes(formula, points):
    """The formula's derivatives by each point's length and angle (radians); formula(points)."""
    for place, (length, degrees) in enumerate(points):
        for move in ((STEP, 0), (0, STEP)):
            values = []
            for sign in (1, -1):
                moved = (length + sign * move[0], degrees + sign * move[1] * 180 / mpmath.pi)
                values.append(formula([*points[:place], moved, *points[place + 1 :]]))
            yield (values[0] - values[1]) / (2 * STEP)


def polar(gradient, points):
    """A gradient by x and y, as derivatives by length and angle."""
    for (gx, gy), (length, degrees) in zip(gradient.tolist(), points, strict=True):
        cos, sin = float(mpmath.cos(mpmath.radians(degrees))), float(mpmath.sin(mpmath.radians(degrees)))
        yield gx * cos + gy * sin
        yield length * (gy * cos - gx * sin)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "formulas"), CASES, ids=str)
def test_the_papers_gradient(in_many_digits, name, options, formulas):
    extra = HELD.get(name, {})
    loss = made(name, **(options | extra))
    given = options if formulas is None else formulas
    if name in ("curricularface", "adaface"):
        given = given | extra
    if name == "curricularface":
        loss.running.mean.fill_(0.25)
        given = given | {"before": 0.25}
    x, labels = points()
    loss(x, labels).backward()
    formula = getattr(bare, name.replace("-", "_"))
    exact = [
        *slopes(lambda moved: formula(moved, WEIGHTS, LABELS, **given), FEATURES),
        *slopes(lambda moved: formula(FEATURES, moved, LABELS, **given), WEIGHTS),
    ]
    found = [*polar(x.grad, FEATURES), *polar(loss.weight.grad, WEIGHTS)]
    # 1e-12 under the lengths' roots is 4e-12 of the shortest squared length, times the scale; where COSINE_EPS, 1e-9,
    # stands beside |x| |w|, it is 4e-9 of the cosine, and m^2 times that in the slope of cos(m theta).
    tolerance = 1e-7 if name in ("sphereface", "large-margin-softmax") else 1e-9
    assert found == pytest.approx([float(one) for one in exact], rel=tolerance, abs=tolerance)
    assert any(abs(one) > 1e-3 for one in found)


# ---------------------------------------------------------------- blocks against torch's operations one by one

BLOCKED = [
    *((name, {}) for name in losses.LOSSES),
    ("c-contrastive", {"positive_first": True, "positive_upper_bound": 1.0}),
    ("c-contrastive", {"exp_negative_weight": True, "negative_margin": 3.0}),
    ("c-contrastive", {"max_negative_only": True}),
    ("c-contrastive", {"exact_gradient": False}),
    ("c-triplet", {"hardest_only": False}),
    ("c-triplet", {"positive_first": True, "positive_upper_bound": 1.0}),
    ("magface", {"shortest": 0.5, "longest": 3.0, "easy": False}),
    ("elasticface", {"margin_on": "cosine", "std": 0.3}),
    ("am-softmax", {"label_smoothing": 0.2}),
    ("adaface", {"label_smoothing": 0.2}),
    ("sub-center-arcface", {"sub_centers": 2}),
]


def random_case(name, options, n=11, c=23, d=5):
    torch.manual_seed(4)
    loss = losses.make(name, c, d, dtype=torch.float64, **options)
    with torch.no_grad():
        loss.weight.mul_(torch.rand(c, 1, dtype=torch.float64) + 0.5)
    x = torch.randn(n, d, dtype=torch.float64, requires_grad=True)
    return loss, x, torch.randint(c, (n,))


def everything(loss, x, labels):
    """The losses of the samples, and gradients of their sum, each weighed on its own."""
    loss.reduction = "none"
    each = loss(x, labels)
    weights = torch.linspace(0.5, 2.0, len(x), dtype=torch.float64)
    return [each, *torch.autograd.grad((each * weights).sum(), [x, *loss.parameters()])]


@pytest.mark.parametrize("numbers", [1, 100, 2**24])  # a row at a time, several blocks, all at once
@pytest.mark.parametrize(("name", "options"), BLOCKED, ids=str)
def test_blocks_are_the_plain_form(monkeypatch, name, options, numbers):
    loss, x, labels = random_case(name, options)
    with monkeypatch.context() as patch:
        patch.setattr(blockwise, "is_transformed", lambda: True)  # torch's operations one by one
        expected = everything(loss, x, labels)
    loss, x, labels = random_case(name, options)
    monkeypatch.setattr(blockwise, "BLOCK_NUMBERS", numbers)
    for found, wanted in zip(everything(loss, x, labels), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), BLOCKED, ids=str)
def test_the_second_derivative_of_all(name, options):
    options = options | {"center": {"center_step": "derivative"}, "adaface": {"h": 0.0}}.get(name, {})
    if options.get("exact_gradient") is False:
        pytest.skip("a gradient that is no derivative has none of its own")
    options |= (
        {}
        if name in ("softmax", "l2-softmax", "large-margin-softmax") or "scale" not in dir(losses.LOSSES[name](2, 2))
        else {"scale": 2.0}
    )
    loss, x, labels = random_case(name, options, n=4, c=5, d=3)
    loss.eval()  # running means are functions of the points too
    function, parameters = with_parameters(loss, labels)
    assert gradgradcheck(function, (x, *parameters))


@pytest.mark.parametrize("name", ["c-contrastive", "sphereface2", "sub-center-arcface", "large-margin-softmax"])
def test_without_gradients_the_same_value(name):
    loss, x, labels = random_case(name, {})
    value = loss(x, labels)
    with torch.no_grad():
        assert loss(x, labels).item() == pytest.approx(value.item(), rel=1e-12)


def test_frozen_class_weights_and_frozen_features():
    for name in losses.LOSSES:
        loss, x, labels = random_case(name, {})
        loss.eval()  # so that nothing moves
        of_x, of_weight = torch.autograd.grad(loss(x, labels), [x, loss.weight])
        (alone,) = torch.autograd.grad(loss(x.detach(), labels), [loss.weight])
        assert torch.equal(alone, of_weight), name
        loss.weight.requires_grad_(False)
        (alone,) = torch.autograd.grad(loss(x, labels), [x])
        torch.testing.assert_close(alone, of_x, rtol=1e-12, atol=1e-14)
