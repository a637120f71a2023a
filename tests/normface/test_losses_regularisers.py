"""Ring loss and MHE against their papers' formulas, alone and in sums."""

from __future__ import annotations

import copy
import math

import mpmath
import pytest
import torch
from normface import losses
from normface.errors import TrainingError
from support import loss_formulas as bare
from support.loss_cases import points
from support.loss_formulas import FEATURES, LABELS, WEIGHTS
from torch.autograd import gradcheck

C, D = len(WEIGHTS), 2
MEAN = sum(length for length, _ in FEATURES) / len(FEATURES)


def mhe(**options):
    loss = losses.MHELoss(C, D, dtype=torch.float64, **options)
    with torch.no_grad():
        loss.weight.copy_(torch.tensor(bare.rows(WEIGHTS), dtype=torch.float64))
    return loss


@pytest.mark.parametrize("radius", [0.5, 2.0])
def test_ring_loss(radius):
    loss = losses.RingLoss(C, D, radius=radius, dtype=torch.float64)
    x, labels = points()
    value = loss(x, labels)
    assert value.item() == pytest.approx(bare.ring(FEATURES, WEIGHTS, LABELS, radius), rel=1e-12)
    value.backward()
    n = len(FEATURES)
    for row, (length, _), gradient in zip(bare.rows(FEATURES), FEATURES, x.grad.tolist(), strict=True):
        assert gradient == pytest.approx([(length - radius) * part / length / n for part in row], rel=1e-9)
    assert loss.radius.grad.item() == pytest.approx(radius - MEAN, rel=1e-12)
    assert loss.radius.item() == radius


def test_the_radius_begins_as_the_mean_length_of_the_first_batch():
    loss = losses.RingLoss(C, D, dtype=torch.float64)
    x, labels = points()
    expected = bare.ring(FEATURES, WEIGHTS, LABELS, MEAN)
    loss.eval()
    loss(x, labels).backward()
    assert not loss.begun
    loss.train()
    for _ in range(2):  # looked at
        assert loss(x, labels).item() == pytest.approx(expected, rel=1e-12)
    assert not loss.begun
    loss(x, labels).backward()
    assert loss.begun
    assert loss.radius.item() == pytest.approx(MEAN, rel=1e-12)
    assert loss(3 * x, labels).item() == pytest.approx(
        bare.ring([(3 * length, angle) for length, angle in FEATURES], WEIGHTS, LABELS, MEAN), rel=1e-12
    )
    (3 * loss)(3 * x, labels).backward()
    assert loss.radius.item() == pytest.approx(MEAN, rel=1e-12)  # set once; from here on it learns
    other = losses.RingLoss(C, D, dtype=torch.float64)
    other.load_state_dict(loss.state_dict())
    assert other(x, labels).item() == loss(x, labels).item()


@pytest.mark.parametrize("half_space", [False, True])
@pytest.mark.parametrize("over", ["batch", "all"])
@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_mhe(power, over, half_space):
    loss = mhe(power=power, over=over, half_space=half_space)
    x, labels = points()
    given = {"power": power, "over": over, "half_space": half_space}
    expected = bare.mhe(FEATURES, WEIGHTS, LABELS, **given)
    if half_space:  # the pair of a class and its own opposite is there always, at a distance of 2
        assert loss(x, labels).item() == pytest.approx(expected, rel=1e-9)
    assert loss(x, labels).item() == pytest.approx(expected, rel=1e-9)
    loss(x, labels).backward()
    step = 1e-6
    for j, (length, degrees) in enumerate(WEIGHTS):
        values = []
        for move in (step, -step):
            moved = [*WEIGHTS[:j], (length, degrees + move), *WEIGHTS[j + 1 :]]
            values.append(bare.mhe(FEATURES, moved, LABELS, **given))
        slope = (values[0] - values[1]) / (2 * math.radians(step))
        gx, gy = loss.weight.grad[j].tolist()
        cos, sin = float(mpmath.cos(math.radians(degrees))), float(mpmath.sin(math.radians(degrees)))
        assert length * (gy * cos - gx * sin) == pytest.approx(slope, rel=1e-6, abs=1e-8)
        assert gx * cos + gy * sin == pytest.approx(0, abs=1e-8)  # lengths count by eps alone
    assert gradcheck(lambda w: torch.func.functional_call(loss, {"weight": w}, (x, labels)), [loss.weight])


def test_mhe_spreads_the_classes():
    """Four charges on a sphere go to a tetrahedron's corners: all cosines -1/3."""
    torch.manual_seed(0)
    loss = losses.MHELoss(4, 3, over="all", dtype=torch.float64)
    optimiser = torch.optim.LBFGS([loss.weight], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        value = loss(torch.ones(1, 3, dtype=torch.float64), torch.tensor([0]))
        value.backward()
        return value

    optimiser.step(closure)
    unit = torch.nn.functional.normalize(loss.weight.detach())
    cosines = (unit @ unit.t())[~torch.eye(4, dtype=torch.bool)]
    torch.testing.assert_close(cosines, torch.full_like(cosines, -1 / 3), rtol=0, atol=1e-4)


def test_classes_that_coincide_stay_finite():
    loss = losses.MHELoss(3, 2)
    with torch.no_grad():
        loss.weight.copy_(torch.tensor([[1.0, 0], [1, 0], [0, 0]]))
    value = loss(torch.ones(3, 2), torch.tensor([0, 1, 2]))
    value.backward()
    assert value.isfinite()
    assert loss.weight.grad.isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["softmax+0.01*ring", "normalized-softmax+0.1*mhe"])
def test_a_nan_is_a_nan(name, value):
    loss, x = losses.make(name, 5, 3), torch.ones(2, 3)
    x[1, 2] = value
    assert not torch.isfinite(loss(x, torch.tensor([0, 3])))
    for term, other in (("ring", {}), ("mhe", {}), ("mhe", {"over": "all"})):
        regulariser = losses.REGULARISERS[term](5, 3, **other)
        assert not torch.isfinite(regulariser(x, torch.tensor([0, 3])))
    alone = losses.MHELoss(5, 3)
    with torch.no_grad():
        alone.weight[4, 1] = value
    assert not torch.isfinite(alone(torch.ones(2, 3), torch.tensor([0, 3])))


def test_in_a_sum_mhe_is_of_the_other_losss_weights():
    torch.manual_seed(0)
    loss = losses.make("sphereface+0.5*mhe", 6, 4, dtype=torch.float64).eval()  # lambda stands still
    x, labels = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 5])
    assert set(loss.state_dict()) == {"losses.0.weight", "losses.0.annealing.iteration"}
    main, alone = loss.losses[0], losses.MHELoss(6, 4, dtype=torch.float64)
    alone.load_state_dict({"weight": main.weight})
    expected = main(x, labels) + 0.5 * alone(x, labels)
    assert loss(x, labels).item() == pytest.approx(expected.item(), rel=1e-12)
    (found,) = torch.autograd.grad(loss(x, labels), [loss.weight])
    (one,), (other,) = (
        torch.autograd.grad(main(x, labels), [main.weight]),
        torch.autograd.grad(alone(x, labels), [alone.weight]),
    )
    torch.testing.assert_close(found, one + 0.5 * other, rtol=1e-10, atol=1e-12)
    double = copy.deepcopy(loss)
    with torch.no_grad():
        double.weight.mul_(torch.linspace(0.5, 2, 6, dtype=torch.float64)[:, None]).add_(0.1)
    assert double(x, labels).item() != pytest.approx(loss(x, labels).item(), rel=1e-6)
    nested = losses.SoftmaxLoss(6, 4) + torch.tensor(2.0) * (losses.MHELoss(6, 4) + losses.RingLoss(6, 4))
    assert nested(x.float(), labels).isfinite()
    assert nested.weight is nested.losses[0].weight


def test_what_they_cannot_do_alone():
    for name in losses.REGULARISERS:
        with pytest.raises(TrainingError, match=f'"{name}" tells nobody apart: expected it added to a loss'):
            losses.make(name, 5, 3)
        with pytest.raises(TrainingError, match="has no logits; it is added to a loss that has"):
            losses.REGULARISERS[name](5, 3).logits(torch.ones(2, 3))
    with pytest.raises(TrainingError, match=r'"0.1\*ring\+mhe" tells nobody .* "normalized-softmax\+0.01\*ring"'):
        losses.make("0.1*ring+mhe", 5, 3)
    term = losses.MHELoss(5, 3)
    losses.SoftmaxLoss(5, 3) + term
    with pytest.raises(TrainingError, match="MHELoss: is a term of a sum, whose class weights it works on; call the"):
        term(torch.ones(2, 3), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("softmax+ring", {"radius": 0.0}, "expected a radius above 0, got 0.0"),
        ("softmax+mhe", {"power": -1.0}, "expected a power of 0 or more, got -1.0"),
        ("softmax+mhe", {"over": "some"}, "expected over batch or all, got 'some'"),
    ],
)
def test_wrong_options(name, options, message):
    with pytest.raises(TrainingError, match=message):
        losses.make(name, 5, 3, **options)
