"""Every loss under torch.func, torch.compile and autocast, copied and pickled: eager's numbers, and no state moved."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from normface import losses
from normface.errors import TrainingError
from torch.func import functional_call, grad, hessian, jacrev, vmap

N, C, D = 6, 5, 4
NAMES = [*losses.LOSSES, "softmax+0.01*ring", "sphereface+0.5*mhe", "0.5*arcface+center"]
EVERY = pytest.mark.parametrize("name", NAMES)
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


def case(name, dtype=torch.float64, **options):
    torch.manual_seed(0)
    loss = losses.make(name, C, D, dtype=dtype, **options)
    parameters = {key: value.detach() for key, value in loss.named_parameters()}

    def function(parameters, x, labels=LABELS):
        return functional_call(loss, parameters, (x, labels))

    return loss, parameters, torch.randn(N, D, dtype=dtype), function


def eager(loss, x):
    x = x.clone().requires_grad_()
    found = torch.autograd.grad(loss(x, LABELS), [x, *loss.parameters()], allow_unused=True)
    return [torch.zeros_like(one) if g is None else g for g, one in zip(found, [x, *loss.parameters()], strict=True)]


def same(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@EVERY
def test_grad_and_jacrev(name):
    loss, parameters, x, function = case(name)
    before = copy.deepcopy(loss.state_dict())
    of_parameters, of_x = grad(function, argnums=(0, 1))(parameters, x)
    jacobian = jacrev(function, argnums=1)(parameters, x)
    for key, value in loss.state_dict().items():
        assert torch.equal(value, before[key]), key
    wanted = eager(loss, x)
    same(of_x, wanted[0])
    same(jacobian, wanted[0])
    for found, one in zip(of_parameters.values(), wanted[1:], strict=True):
        same(found, one)


@EVERY
def test_vmap(name):
    """Over models' features, over labels, and of gradients: a slice is what it is alone."""
    _, parameters, x, function = case(name)
    xs = torch.stack([x, 2 * x, x.flip(0)])
    labels = torch.stack([LABELS, LABELS.flip(0), LABELS])
    randomness = "same" if name == "elasticface" else "error"  # its margins are drawn once for all slices
    same(
        vmap(function, in_dims=(None, 0), randomness=randomness)(parameters, xs),
        torch.stack([function(parameters, one) for one in xs]),
    )
    same(
        vmap(function, in_dims=(None, 0, 0), randomness=randomness)(parameters, xs, labels),
        torch.stack([function(parameters, one, y) for one, y in zip(xs, labels, strict=True)]),
    )
    same(
        vmap(grad(function, argnums=1), in_dims=(None, 0), randomness=randomness)(parameters, xs),
        torch.stack([grad(function, argnums=1)(parameters, one) for one in xs]),
    )


@EVERY
def test_hessian(name):
    if "center" in name:
        name = "center"
    options = {"center_step": "derivative"} if name == "center" else {}
    loss, parameters, x, function = case(name, **options)
    loss.eval()  # no drawn margins
    twice = jacrev(jacrev(function, argnums=1), argnums=1)(parameters, x)
    same(hessian(function, argnums=1)(parameters, x), twice)


def test_what_there_is_not():
    loss, parameters, x, function = case("arcface")
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x)
        with pytest.raises(TrainingError, match=r"no forward-mode derivatives under .* torch.func.jvp"):
            loss(dual, LABELS)
    with pytest.raises(TrainingError, match=r"no gradients in batches .* torch.func.jacrev has them"):
        torch.autograd.functional.jacobian(lambda x: loss(x, LABELS), x, vectorize=True)
    _, parameters, x, function = case("center")
    with pytest.raises(NotImplementedError, match="the centers' step is no derivative"):
        torch.func.jvp(lambda x: function(parameters, x), (x,), (x,))


@pytest.mark.slow
@EVERY
def test_compiled(name):
    """Two steps; the plain formula is one graph, but where a hook counts steps or margins are drawn."""
    torch._dynamo.reset()
    one, other = case(name, torch.float32)[0], case(name, torch.float32)[0]
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(1))
    run = torch.compile(other, backend="aot_eager")
    for _ in range(2):
        steps = []
        for loss, function in ((one, one), (other, run)):
            features = x.clone().requires_grad_()
            loss.zero_grad()
            value = function(features, LABELS)
            value.backward()
            steps.append([value, features.grad, *(p.grad for p in loss.parameters() if p.grad is not None)])
        for found, wanted in zip(*steps, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
        for found, wanted in zip(one.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["normalized-softmax", "arcface", "c-triplet", "sphereface2", "sub-center-arcface"])
def test_one_graph(name):
    torch._dynamo.reset()
    loss, _, x, _ = case(name, torch.float32)
    run = torch.compile(loss, fullgraph=True, backend="eager")
    assert run(x, LABELS).item() == pytest.approx(loss(x, LABELS).item(), rel=1e-5)


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(name, dtype):
    """Features of a half-precision model under autocast: the loss is that of the rounded features in float32."""
    loss, _, x, _ = case(name, torch.float32)
    halves = x.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype):
        value = loss(halves, LABELS)
    value.backward()
    assert value.dtype == torch.float32
    assert halves.grad.dtype == dtype
    again = case(name, torch.float32)[0]
    rounded = x.to(dtype).float().requires_grad_()
    expected = again(rounded, LABELS)
    expected.backward()
    assert value.item() == expected.item()
    torch.testing.assert_close(
        halves.grad.float(), rounded.grad, rtol=2e-2 if dtype == torch.bfloat16 else 2e-3, atol=1e-5
    )
    for one, other in zip(loss.parameters(), again.parameters(), strict=True):
        assert (one.grad is None and other.grad is None) or torch.equal(one.grad, other.grad)


@EVERY
def test_copies(name):
    loss, _, x, _ = case(name, torch.float32)
    loss(x.requires_grad_(), LABELS).backward()
    value = loss(x, LABELS).item()
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert other(x, LABELS).item() == value
        other(x, LABELS).backward()
        assert loss(x, LABELS).item() == value  # nothing is shared
