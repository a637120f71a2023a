"""Reduction, weights of samples, ignored labels and smoothed labels: for every loss, against what they mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from normface import losses
from normface.errors import TrainingError
from support.loss_cases import made, points

NAMES = [*losses.LOSSES, *losses.REGULARISERS]
SOFTMAX = [name for name, kind in losses.LOSSES.items() if "label_smoothing" in kind.options.__annotations__]
C, D = 5, 3
LABELS = torch.tensor([0, 1, 4, 2, 0, 3])
FEATURES = torch.randn(6, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
WEIGHTS = torch.tensor([1.0, 0.0, 2.5, 0.5, 0.0, 1.0], dtype=torch.float64)


def fresh(name, **options):
    torch.manual_seed(1)
    kind = (losses.LOSSES | losses.REGULARISERS)[name]
    return kind(C, D, dtype=torch.float64, **options)


def gradients(loss, value, x):
    parameters = [x, *loss.parameters()]
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_reductions(name):
    each = fresh(name, reduction="none")(FEATURES, LABELS)
    assert each.shape == (6,)
    assert fresh(name)(FEATURES, LABELS).item() == pytest.approx(each.mean().item(), rel=1e-12)
    assert fresh(name, reduction="sum")(FEATURES, LABELS).item() == pytest.approx(each.sum().item(), rel=1e-12)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("curricularface", "adaface", "ring")])
def test_each_loss_is_of_its_own_sample(name):
    """But where a mean over the batch has a part in it."""
    loss = fresh(name, reduction="none", **({"std": 0.0} if name == "elasticface" else {}))
    each = loss(FEATURES, LABELS)
    alone = torch.cat([loss(FEATURES[i : i + 1], LABELS[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(each, alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_samples(name):
    each = fresh(name, reduction="none")
    weighted = each(FEATURES, LABELS, WEIGHTS)
    if name not in ("curricularface", "adaface", "ring"):  # those that weigh nothing are not in the batch's means
        torch.testing.assert_close(weighted, WEIGHTS * each(FEATURES, LABELS))
    total = fresh(name, reduction="sum")(FEATURES, LABELS, sample_weight=WEIGHTS)
    assert total.item() == pytest.approx(weighted.sum().item(), rel=1e-12)
    mean = fresh(name)(FEATURES, LABELS, WEIGHTS)
    assert mean.item() == pytest.approx(weighted.sum().item() / 5.0, rel=1e-12)
    assert fresh(name)(FEATURES, LABELS, WEIGHTS.float()).dtype == torch.float64


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_that_weighs_nothing_is_not_there(name):
    options = {"std": 0.0} if name == "elasticface" else {}  # the draws go by place
    kept = WEIGHTS > 0
    some, all_ = fresh(name, **options), fresh(name, **options)
    x, y = FEATURES[kept].clone().requires_grad_(), FEATURES.clone().requires_grad_()
    of_some = gradients(some, some(x, LABELS[kept], WEIGHTS[kept]), x)
    of_all = gradients(all_, all_(y, LABELS, WEIGHTS), y)
    assert not of_all[0][~kept].any()
    torch.testing.assert_close(of_all[0][kept], of_some[0], rtol=1e-10, atol=1e-13)
    for one, other in zip(of_all[1:], of_some[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)
    for one, other in zip(all_.buffers(), some.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


@pytest.mark.parametrize("ignored", [-1, 3, 255])
@pytest.mark.parametrize("name", NAMES)
def test_an_ignored_label_is_not_there(name, ignored):
    """Even where its features are NaN; a class of the loss can be ignored too."""
    options = {"std": 0.0} if name == "elasticface" else {}
    labels = torch.tensor([0, ignored, 4, 2, ignored, 1])
    kept = labels != ignored
    some, all_ = fresh(name, **options), fresh(name, ignore_index=ignored, **options)
    x, y = FEATURES[kept].clone().requires_grad_(), FEATURES.clone()
    y[1] = math.nan
    y.requires_grad_()
    value, whole = some(x, labels[kept]), all_(y, labels)
    assert whole.item() == pytest.approx(value.item(), rel=1e-12)
    of_some, of_all = gradients(some, value, x), gradients(all_, whole, y)
    assert not of_all[0][~kept].any()
    torch.testing.assert_close(of_all[0][kept], of_some[0], rtol=1e-10, atol=1e-13)
    for one, other in zip(of_all[1:], of_some[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)
    for one, other in zip(all_.buffers(), some.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)
    each = fresh(name, ignore_index=ignored, reduction="none", **options)(y, labels)
    assert not each[~kept].any()


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_that_is_all_ignored_is_0_and_moves_nothing(name):
    loss = fresh(name, ignore_index=-1)
    x = FEATURES.clone().requires_grad_()
    value = loss(x, torch.full((6,), -1))
    assert value.item() == 0
    assert not any(one.any() for one in gradients(loss, value, x))


def numpy_smoothed(scores, labels, e):
    """Cross-entropy to (1 - e) one-hot + e / C."""
    logs = scores - scores.max(1, keepdims=True)
    logs = logs - np.log(np.exp(logs).sum(1, keepdims=True))
    target = np.full_like(logs, e / logs.shape[1])
    target[np.arange(len(labels)), labels] += 1 - e
    return -(target * logs).sum(1)


@pytest.mark.parametrize("name", ["softmax", "normalized-softmax", "l2-softmax"])
def test_smoothed_labels(name):
    """Of losses without a margin, from their logits."""
    loss = fresh(name, label_smoothing=0.1, reduction="none")
    expected = numpy_smoothed(loss.logits(FEATURES).detach().numpy(), LABELS.numpy(), 0.1)
    np.testing.assert_allclose(loss(FEATURES, LABELS).detach().numpy(), expected, rtol=1e-10)


def test_smoothed_labels_with_a_margin():
    loss = fresh("am-softmax", label_smoothing=0.3, reduction="none", margin=0.4, scale=8.0)
    scores = loss.logits(FEATURES).detach().numpy()
    scores[np.arange(6), LABELS.numpy()] -= 8 * 0.4
    np.testing.assert_allclose(
        loss(FEATURES, LABELS).detach().numpy(), numpy_smoothed(scores, LABELS.numpy(), 0.3), rtol=1e-10
    )


@pytest.mark.parametrize("name", SOFTMAX)
def test_smoothing_is_linear_and_has_its_gradient(name):
    """l(e) is linear in e; and its gradient is autograd's of the plain form (test_losses_gradients has the blocks)."""

    def at(e):
        loss = fresh(name, label_smoothing=e)
        x = FEATURES.clone().requires_grad_()
        value = loss(x, LABELS)
        return [value, *gradients(loss, value, x)]

    for none, half, most in zip(at(0.0), at(0.25), at(0.5), strict=True):
        torch.testing.assert_close(half, (none + most) / 2, rtol=1e-10, atol=1e-12)
    assert at(0.5)[0].item() != at(0.0)[0].item()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "avg"}, "expected a reduction of mean, sum, none, got 'avg'"),
        ({"ignore_index": 1.5}, "expected ignore_index to be a whole number or None, got 1.5"),
        ({"label_smoothing": 1.0}, "expected a label_smoothing from 0 to below 1, got 1.0"),
        ({"label_smoothing": -0.1}, "expected a label_smoothing from 0 to below 1, got -0.1"),
    ],
)
@pytest.mark.parametrize("name", SOFTMAX)
def test_wrong_common_options(name, options, message):
    with pytest.raises(TrainingError, match=message):
        losses.make(name, C, D, **options)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(SOFTMAX)))
def test_what_is_no_softmax_cannot_smooth(name):
    kind = (losses.LOSSES | losses.REGULARISERS)[name]
    with pytest.raises(TrainingError, match="has no softmax, so there is no label_smoothing"):
        kind(C, D, label_smoothing=0.1)
    if name in losses.LOSSES:
        with pytest.raises(TrainingError, match="has no option label_smoothing"):
            losses.make(name, C, D, label_smoothing=0.1)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0] * 6, "expected a tensor of numbers for sample_weight, got list"),
        (torch.ones(6, dtype=torch.bool), "expected a tensor of numbers for sample_weight, got torch.bool"),
        (torch.ones(5), r"expected a sample_weight of 6 numbers, .* got \(5,\)"),
        (torch.ones(6, 1), r"expected a sample_weight of 6 numbers, .* got \(6, 1\)"),
        (torch.tensor([1.0, -1, 1, 1, 1, 1]), "expected a sample_weight of finite numbers of 0 or more"),
        (torch.tensor([1.0, math.nan, 1, 1, 1, 1]), "expected a sample_weight of finite numbers of 0 or more"),
        (torch.tensor([1.0, math.inf, 1, 1, 1, 1]), "expected a sample_weight of finite numbers of 0 or more"),
    ],
    ids=str,
)
def test_wrong_weights_of_samples(weights, message):
    with pytest.raises(TrainingError, match=message):
        fresh("arcface")(FEATURES, LABELS, weights)


def test_labels_out_of_range_beside_an_ignored_one():
    with pytest.raises(TrainingError, match="expected labels from 0 to 4 or -1, which is ignored, got 5"):
        fresh("softmax", ignore_index=-1)(FEATURES, torch.tensor([0, -1, 5, 1, 1, 1]))


def test_a_sum_has_them_too():
    one, other = fresh("softmax", reduction="none"), fresh("c-triplet", reduction="none")
    loss = one + 0.5 * other
    torch.testing.assert_close(
        loss(FEATURES, LABELS, WEIGHTS), WEIGHTS * (one(FEATURES, LABELS) + 0.5 * other(FEATURES, LABELS))
    )
    with pytest.raises(TrainingError, match="expected losses of one reduction to sum, got mean, none"):
        fresh("softmax") + other


@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_weights_are_parts_of_the_derivative(factor):
    """Of one that learns, too."""
    weights = (factor * torch.ones(7, dtype=torch.float64)).requires_grad_()
    x, labels = points()
    loss = made("arcface", reduction="sum")
    (found,) = torch.autograd.grad(loss(x, labels, weights), weights)
    torch.testing.assert_close(found, made("arcface", reduction="none")(x, labels))
