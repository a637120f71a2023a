"""Losses at the edges of floating point, and the cosine softmax's blocks: same numbers, however it is cut and used."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from normface import losses
from normface.losses import blockwise, cosine_softmax

D = 4
KINDS = [
    *[(name, {}) for name in losses.LOSSES],
    ("arcface", {"beyond": "easy"}),
    ("arcface", {"beyond": "nothing"}),
    ("am-softmax", {"above_margin_only": True}),
    ("positive-scale-softmax", {"positive_only": True}),
    ("normalized-softmax", {"scale": 1e4}),
    ("c-contrastive", {"exact_gradient": False, "exp_negative_weight": True}),
    ("c-triplet", {"exact_gradient": False, "add_center_loss": True}),
    ("sphereface", {"exact_gradient": False}),
    *[("sphereface", {"margin": m}) for m in (1, 2, 3)],
    ("center", {"center_step": "derivative"}),
]
EVERY = pytest.mark.parametrize(("name", "options"), KINDS, ids=str)
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


@EVERY
@PRECISIONS
@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
def test_extreme_points(name, options, dtype, autocast):
    """cos = 1, -1 and 0, vectors of zeros on both sides, tiny and huge ones: every number stays finite."""
    loss = losses.make(name, D + 1, D, dtype=dtype, **options)
    axes = torch.eye(D)
    with torch.no_grad():
        loss.weight.copy_(torch.cat([axes, torch.zeros(1, D)]))
    huge = torch.full((1, D), 1e15)
    x = torch.cat([3 * axes, -2 * axes, torch.zeros(2, D), 1e-3 * huge.rsqrt(), 1e-30 * torch.ones(1, D), huge])
    x = x.to(dtype).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 4, 0, 1, 4])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value = loss(x, labels)
    assert value.isfinite()
    value.backward()
    for what, tensor in [("embeddings", x), *loss.named_parameters()]:
        assert tensor.grad is not None, what
        assert tensor.grad.isfinite().all(), what


COSINE = ["normalized-softmax", "positive-scale-softmax", "am-softmax", "arcface", "c-contrastive", "c-triplet"]


@pytest.mark.parametrize("name", COSINE)
def test_a_vector_of_zeros_moves_nothing(name):
    """It has no direction; 1 / sqrt(eps) times the others' gradient would ruin the model."""
    torch.manual_seed(0)  # of weights, near enough to each other for a hinge to be open
    loss = losses.make(name, 3, D)
    x = torch.tensor([[0.0] * D, [1e-8] * D, [1.0] * D], requires_grad=True)
    loss(x, torch.tensor([0, 1, 2])).backward()
    assert not x.grad[:2].any()
    assert x.grad[2].any()


@PRECISIONS
def test_a_perfect_sample_has_a_loss_of_zero(dtype):
    """At cos = 1, and -1 to the only other class, with s = 64: exp(-128) is all that remains."""
    loss = losses.NormalizedSoftmaxLoss(2, D, scale=64.0, dtype=dtype)
    x = torch.tensor([[0.5, -1.0, 0.25, 2.0]], dtype=dtype, requires_grad=True)
    with torch.no_grad():
        loss.weight.copy_(torch.cat([x, -x]))
    value = loss(x, torch.tensor([0]))
    assert 0 <= value.item() < 1e-5  # float32 rounds a score of 64 by 4e-6
    value.backward()
    assert x.grad.abs().max() < 1e-5


@PRECISIONS
def test_the_worst_sample_has_the_loss_of_its_scores(dtype):
    loss = losses.NormalizedSoftmaxLoss(2, D, scale=64.0, dtype=dtype)
    x = torch.tensor([[0.5, -1.0, 0.25, 2.0]], dtype=dtype)
    with torch.no_grad():
        loss.weight.copy_(torch.cat([x, -x]))
    assert loss(x, torch.tensor([1])).item() == pytest.approx(128, rel=1e-6)


@EVERY
def test_autocast_changes_nothing(name, options):
    """The losses are computed in float32 under it, as torch's own are."""
    loss = losses.make(name, 6, D, **options)
    x, labels = torch.randn(8, D, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 6
    with torch.autocast("cpu", torch.bfloat16):
        under, scores = loss(x, labels), loss.logits(x)
    assert under.item() == loss(x, labels).item()
    assert torch.equal(scores, loss.logits(x))


# ---------------------------------------------------------------- the blocks of the cosine softmax


def plain(x, weight, scale, labels, eps, margin):
    """The same, by torch's operations one by one; the margin on the label's column only."""
    cosine = x @ (weight / (weight.square().sum(1, keepdim=True) + eps).sqrt()).t()
    own = F.one_hot(labels, len(weight)).bool()
    return F.cross_entropy(scale * torch.where(own, margin(cosine), cosine), labels)


def mean_loss(*given):
    return cosine_softmax.cosine_softmax_losses(*given).mean()


def arguments(n=13, d=7, c=23):
    random = torch.Generator().manual_seed(5)
    x = F.normalize(torch.randn(n, d, generator=random, dtype=torch.float64)).requires_grad_()
    weight = torch.randn(c, d, generator=random, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(c, (n,), generator=random)
    return x, weight, torch.tensor(6.0, dtype=torch.float64, requires_grad=True), labels, 1e-12


def gradients(value, tensors, **keywords):
    return torch.autograd.grad(value, tensors, **keywords)


MARGINS = {
    "none": (cosine_softmax.no_margin, lambda c: c),
    "half": (lambda c: (c / 2, torch.full_like(c, 0.5)), lambda c: c / 2),
    "square": (lambda c: (c.square() - 1, 2 * c), lambda c: c.square() - 1),
}


@pytest.mark.parametrize("numbers", [1, 7, 50, 10**6])  # one row at a time, ..., everything in one block
@pytest.mark.parametrize("margin", MARGINS)
def test_blocks_of_any_size(monkeypatch, numbers, margin):
    monkeypatch.setattr(blockwise, "BLOCK_NUMBERS", numbers)
    given = arguments()
    blocked, one_by_one = MARGINS[margin]
    value = mean_loss(*given, blocked)
    expected = plain(*given, one_by_one)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    for found, wanted in zip(gradients(value, given[:3]), gradients(expected, given[:3]), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)], ids=str)
def test_frozen_arguments(frozen):
    given = arguments()
    expected = gradients(mean_loss(*given), given[:3])
    for index in frozen:
        given[index].requires_grad_(False)
    trained = [index for index in range(3) if index not in frozen]
    found = gradients(mean_loss(*given), [given[index] for index in trained])
    for index, gradient in zip(trained, found, strict=True):
        assert torch.equal(gradient, expected[index])


def test_backward_twice_gives_the_same():
    given = arguments()
    value = mean_loss(*given)
    first = gradients(4 * value, given[:3], retain_graph=True)  # a power of two rounds nothing
    second = gradients(value, given[:3])
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, 4 * other)


def test_a_loss_used_twice_in_one_graph():
    given = arguments()
    both = mean_loss(*given) + mean_loss(*given)
    single = gradients(mean_loss(*given), given[:3])
    for one, other in zip(gradients(both, given[:3]), single, strict=True):
        assert torch.equal(one, 2 * other)


def test_without_gradients_nothing_is_kept():
    given = arguments()
    with torch.no_grad():
        value = mean_loss(*given)
    assert value.grad_fn is None
    assert value.item() == mean_loss(*given).item()


@pytest.mark.slow
def test_the_graph_is_freed_with_the_loss():
    given = arguments()
    each = cosine_softmax.cosine_softmax_losses(*given)
    node = weakref.ref(each.grad_fn)
    each.mean().backward()
    del each
    gc.collect()
    assert node() is None


def test_the_same_bits_every_time():
    given = arguments(n=64, d=32, c=500)

    def once():
        value = mean_loss(*given)
        return [value, *gradients(value, given[:3])]

    for one, other in zip(once(), once(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_strides_do_not_matter(name):
    loss = losses.make(name, 5, D)
    x, labels = torch.randn(6, D, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 5
    for strided in (x.t().contiguous().t(), torch.stack([x, x], 1)[:, 0]):
        assert not strided.is_contiguous()
        torch.testing.assert_close(loss(strided, labels), loss(x, labels), rtol=1e-6, atol=1e-6)
    one = x[:1].expand(6, D).requires_grad_()
    torch.testing.assert_close(loss(one, labels), loss(one.contiguous(), labels), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_mixed_dtypes(name):
    """The wider one counts: bfloat16 features of a mixed-precision model, float64 features of a test."""
    loss = losses.make(name, 5, D)
    x, labels = torch.randn(6, D, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 5
    assert loss(x.bfloat16(), labels).item() == loss(x.bfloat16().float(), labels).item()
    wide = x.double().requires_grad_()
    value = loss(wide, labels)
    assert value.dtype == torch.float64
    torch.testing.assert_close(value.float(), loss(x, labels), rtol=1e-5, atol=1e-6)
    value.backward()
    assert wide.grad.dtype == torch.float64
    assert loss.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("name", [*losses.LOSSES, "softmax + 0.01 * sphereface"])
def test_state_and_copies(name, tmp_path):
    torch.manual_seed(0)
    one = losses.make(name, 5, D)
    x, labels = torch.randn(6, D), torch.arange(6) % 5
    one(x, labels).backward()
    torch.save(one.state_dict(), tmp_path / "state.pt")
    other = losses.make(name, 5, D)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other(x, labels).item() == one(x, labels).item() == copy.deepcopy(one)(x, labels).item()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["normalized-softmax", "sphereface"])
def test_compiled(name):
    """Eager's numbers up to float32's rounding, for two steps; one graph, but for the counting of lambda's steps."""
    eager, compiled = losses.make(name, 5, D), losses.make(name, 5, D)
    compiled.load_state_dict(eager.state_dict())
    x, labels = torch.randn(6, D, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 5
    run = torch.compile(compiled, fullgraph=name != "sphereface", backend="aot_eager")
    for _ in range(2):
        steps = []
        for loss, function in ((eager, eager), (compiled, run)):
            features = x.clone().requires_grad_()
            loss.zero_grad()
            value = function(features, labels)
            value.backward()
            steps.append([value, features.grad, *(parameter.grad for parameter in loss.parameters())])
        for one, other in zip(*steps, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        for one, other in zip(eager.buffers(), compiled.buffers(), strict=True):
            assert torch.equal(one, other)
