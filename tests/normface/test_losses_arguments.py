"""Losses by name and in sums, and what they refuse, with which words."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from normface import losses
from normface.errors import TrainingError

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 4, 2])
NAMES = list(losses.LOSSES)

CALLS = [
    (X, torch.tensor([0, 1, 5, 2]), "expected labels from 0 to 4, got 5"),
    (X, torch.tensor([0, -1, 4, 2]), "expected labels from 0 to 4, got -1"),
    (X, Y.float(), r"expected a tensor of whole-number labels \(such as int64\), got torch.float32"),
    (X, Y.bool(), "whole-number labels .* got torch.bool"),
    (X, Y.tolist(), "whole-number labels .* got list"),
    (X, Y[:, None], r"expected 4 labels, one for each embedding, in one axis, got \(4, 1\)"),
    (X, Y[:3], r"expected 4 labels, .* got \(3,\)"),
    (X, Y[0], r"expected 4 labels, .* got \(\)"),
    (X[:, :2], Y, r"expected embeddings \(N, 3\), got \(4, 2\)"),
    (X[0], Y[:1], r"expected embeddings \(N, 3\), got \(3,\)"),
    (X[:, :, None, None], Y, r"expected embeddings \(N, 3\), got \(4, 3, 1, 1\)"),
    (X.long(), Y, "expected a tensor of floating-point embeddings, got torch.int64"),
    (X.numpy(), Y, "floating-point embeddings, got ndarray"),
    (X[:0], Y[:0], "expected one embedding or more, got none: the mean loss has no value"),
    (X.to("meta"), Y, r"embeddings are on meta, the class weights on cpu; move the loss there with .to\(\)"),
]


@pytest.mark.parametrize(("x", "y", "message"), CALLS, ids=[message[:40] for *_, message in CALLS])
@pytest.mark.parametrize("name", NAMES)
def test_wrong_arguments(name, x, y, message):
    loss = losses.make(name, 5, 3)
    with pytest.raises(TrainingError, match=f"^{type(loss).__name__}: .*{message}"):
        loss(x, y)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8])
@pytest.mark.parametrize("name", NAMES)
def test_labels_of_any_whole_dtype(name, dtype):
    loss = losses.make(name, 5, 3)
    assert loss(X, Y.to(dtype)).item() == loss(X, Y).item()


@pytest.mark.parametrize(("count", "size"), [(1, 3), (5, 1), (1, 1), (np.int64(5), np.int32(3))])
@pytest.mark.parametrize("name", NAMES)
def test_one_class_and_one_feature(name, count, size):
    loss = losses.make(name, count, size)
    assert loss.weight.shape == (count, size)
    x = X[:, :size].clone().requires_grad_()
    value = loss(x, Y % int(count))
    value.backward()
    assert value.isfinite()
    assert x.grad.isfinite().all()
    if count == 1 and name not in ("c-contrastive", "center", "magface", "sphereface2"):
        assert value.item() == 0  # nothing to tell apart


def test_every_option_of_a_loss_is_typed_for_make_and_no_other():
    own = {"self", "num_classes", "embedding_size", "options"}
    kinds = [*losses.LOSSES.values(), *losses.REGULARISERS.values()]
    options = {option for kind in kinds for option in inspect.signature(kind.__init__).parameters}
    common = set(losses.SoftmaxOptions.__annotations__)
    assert set(losses.LossOptions.__annotations__) == (options - own) | common


OPTIONS = [
    ("softmax", {"num_classes": 0}, "expected num_classes to be a whole number of 1 or more, got 0"),
    ("softmax", {"num_classes": 2.0}, "expected num_classes to be a whole number of 1 or more, got 2.0"),
    ("softmax", {"embedding_size": -3}, "expected embedding_size to be a whole number of 1 or more, got -3"),
    ("normalized-softmax", {"scale": 0.0}, 'expected scale to be above 0 or "learned", got 0.0'),
    ("normalized-softmax", {"scale": math.inf}, 'expected scale to be above 0 or "learned", got inf'),
    ("normalized-softmax", {"scale": "larned"}, """expected scale to be above 0 or "learned", got 'larned'"""),
    ("normalized-softmax", {"scale": 5.0, "target_loss": 0.1}, "expected a scale or a target_loss, got both"),
    ("normalized-softmax", {"target_loss": 2.0}, "expected a target loss of at most log 5 = 1.609"),
    ("normalized-softmax", {"target_loss": -1.0}, "expected a target loss above 0"),
    ("normalized-softmax", {"target_loss": math.log(5)}, "below the min_scale of 0.01; ask for a lower loss"),
    ("positive-scale-softmax", {"positive_scale": 0.0}, "expected a positive_scale above 0, got 0.0"),
    ("l2-softmax", {"alpha": -1.0}, 'expected alpha to be above 0 or "learned", got -1.0'),
    ("l2-softmax", {"alpha": 1.0, "target_probability": 0.9}, "expected an alpha or a target_probability, got both"),
    ("am-softmax", {"margin": -0.1}, "expected a margin from 0 to 2, got -0.1"),
    ("arcface", {"margin": 28.6}, "expected a margin from 0 to 3.142, got 28.6"),
    ("arcface", {"beyond": "later"}, """expected beyond "linear", "easy" or "nothing", got 'later'"""),
    ("sphereface", {"margin": 5}, "expected a margin of 1, 2, 3 or 4, got 5"),
    ("large-margin-softmax", {"margin": 0.35}, "expected a margin of 1, 2, 3 or 4, got 0.35"),
    ("sphereface", {"gamma": -1.0}, "expected gamma to be 0 or more, got -1.0"),
    ("c-contrastive", {"negative_weight": -1.0}, "expected weights and a threshold of 0 or more"),
    ("c-triplet", {"add_center_loss": True}, "change the gradient only; they need exact_gradient=False"),
    ("c-triplet", {"positive_weight": 2.0}, "change the gradient only; they need exact_gradient=False"),
    ("am-softmax", {"margin": "0.35"}, "the options {'margin': '0.35'} do not fit AMSoftmaxLoss: "),
    ("combined-margin", {"m1": 0.0}, "expected an m1 above 0, to 4, got 0.0"),
    ("combined-margin", {"m3": 3.0}, "expected a margin from 0 to 2, got 3.0"),
    ("sv-x-softmax", {"t": 0.5}, "expected a t of 1 or more, got 0.5"),
    ("sv-x-softmax", {"margin_on": "both"}, "expected margin_on cosine or angle, got 'both'"),
    ("curricularface", {"momentum": 2.0}, "expected a momentum from 0 to 1, got 2.0"),
    ("adaface", {"momentum": -1.0}, "expected a momentum from 0 to 1, got -1.0"),
    ("magface", {"shortest": 110.0}, "expected 0 < shortest < longest and a lambda_g of 0 or more, got 110.0, 110.0"),
    ("sub-center-arcface", {"sub_centers": 0}, "expected sub_centers to be a whole number of 1 or more, got 0"),
    ("elasticface", {"std": -1.0}, "expected an std of 0 or more, got -1.0"),
    ("elasticface", {"margin_on": "both"}, "expected margin_on angle or cosine, got 'both'"),
    ("sphereface2", {"balance": 1.0}, "expected a balance between 0 and 1, got 1.0"),
    ("sphereface2", {"power": 0.5}, "expected a power of 1 or more, got 0.5"),
    ("center", {"center_step": "big"}, "expected a center_step of paper, fork, derivative, got 'big'"),
]


@pytest.mark.parametrize(("name", "options", "message"), OPTIONS, ids=str)
def test_wrong_options(name, options, message):
    with pytest.raises(TrainingError, match=message):
        losses.make(name, **({"num_classes": 5, "embedding_size": 3} | options))


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_its_class(name):
    assert type(losses.make(name, 5, 3)) is losses.LOSSES[name]
    assert losses.parse(name) == [(1.0, name)]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("softmax+0.01*c-contrastive", [(1.0, "softmax"), (0.01, "c-contrastive")]),
        (" softmax + 0.01 * c-contrastive ", [(1.0, "softmax"), (0.01, "c-contrastive")]),
        ("2*Normalized_Softmax", [(2.0, "normalized-softmax")]),
        ("CosFace+0.1*center", [(1.0, "am-softmax"), (0.1, "center")]),
        ("1e-2*center+1E+1*softmax+.5*arcface", [(0.01, "center"), (10.0, "softmax"), (0.5, "arcface")]),
    ],
)
def test_sums_by_name(text, terms):
    assert losses.parse(text) == terms
    loss = losses.make(text, 5, 3)
    assert [(factor, type(term)) for factor, term in loss.terms] == [(f, losses.LOSSES[name]) for f, name in terms]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'expected a loss such as "softmax" .* got ""'),
        ("softmax+", "expected a loss such as"),
        ("+softmax", "expected a loss such as"),
        ("softmax center", "expected a loss such as"),
        ("softmax-0.1*center", 'no loss "softmax-0"|expected a loss such as'),
        ("-1*softmax", "expected a loss such as"),
        ("0.01", "expected a loss such as"),
        ("1.2.3*softmax", '"1.2.3" in the loss "1.2.3\\*softmax" is no number'),
        ("contrastive", r'no loss "contrastive" \(did you mean "c-contrastive"\?\)'),
        ("triplet-loss", r'no loss "triplet-loss" \(did you mean "c-triplet"\?\)'),
        ("normface", r'no loss "normface" \(did you mean "normalized-softmax"\?\)'),
        ("cosfase", r'no loss "cosfase" \(did you mean "cosface"\?\)'),
        (
            "normalised-softmax",
            r'no loss "normalised-softmax" \(did you mean "normalized-softmax"\?\); there',
        ),
    ],
)
def test_what_is_no_name(text, message):
    with pytest.raises(TrainingError, match=message):
        losses.make(text, 5, 3)


def test_an_unknown_option_names_the_known_ones():
    with pytest.raises(
        TrainingError,
        match=r'no option marign \(did you mean "margin"\?\); it has .*margin_warmup, reduction',
    ):
        losses.make("arcface", 5, 3, marign=0.5)


def test_options_go_where_they_are_known():
    loss = losses.make("am-softmax+center", 5, 3, scale=7.0, center_step="fork", dtype=torch.float64)
    margin, center = loss.losses
    assert (margin.scale.item(), center.center_step) == (7.0, "fork")
    assert margin.weight.dtype == center.weight.dtype == torch.float64


# ---------------------------------------------------------------- sums


def test_a_sum_is_the_sum():
    softmax, contrastive = losses.SoftmaxLoss(5, 3), losses.CContrastiveLoss(5, 3)
    wanted = softmax(X, Y).item() + 0.01 * contrastive(X, Y).item()
    for loss in (
        softmax + 0.01 * contrastive,
        0.01 * contrastive + softmax,
        softmax + contrastive * 0.01,
        losses.WeightedSum([(1, softmax), (0.01, contrastive)]),
        0.5 * (2 * softmax + 0.02 * contrastive),
    ):
        assert loss(X, Y).item() == pytest.approx(wanted, rel=1e-6)
    loss = softmax + 0.01 * contrastive
    assert (loss.num_classes, loss.embedding_size) == (5, 3)
    assert loss.weight is softmax.weight
    assert torch.equal(loss.logits(X), softmax.logits(X))
    assert set(loss.state_dict()) == {"losses.0.weight", "losses.1.weight"}
    assert not hasattr(loss, "scale")


def test_a_sum_has_the_scale_of_its_parts():
    loss = losses.make("center+2*normalized-softmax", 5, 3)
    assert loss.scale is loss.losses[1].scale


def test_the_gradient_of_a_sum():
    x = X.clone().requires_grad_()
    softmax, contrastive = losses.SoftmaxLoss(5, 3), losses.CContrastiveLoss(5, 3)
    (whole,) = torch.autograd.grad((softmax + 0.25 * contrastive)(x, Y), x)
    (one,), (other,) = (torch.autograd.grad(loss(x, Y), x) for loss in (softmax, contrastive))
    torch.testing.assert_close(whole, one + other / 4)


def test_a_sum_can_share_its_weight():
    loss = losses.make("normalized-softmax+0.01*c-contrastive", 5, 3, share_weight=True)
    one, other = loss.losses
    assert one.weight is other.weight
    assert [name for name, _ in loss.named_parameters()] == ["losses.0.weight", "losses.0.scale"]
    loss(X, Y).backward()
    (first,) = torch.autograd.grad(one(X, Y), one.weight)
    (second,) = torch.autograd.grad(other(X, Y), one.weight)
    torch.testing.assert_close(loss.weight.grad, first + 0.01 * second)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.WeightedSum([]), "expected one loss or more to sum, got none"),
        (lambda: -1 * losses.SoftmaxLoss(5, 3), "expected a factor of 0 or more before SoftmaxLoss, got -1"),
        (lambda: math.nan * losses.SoftmaxLoss(5, 3), "expected a factor of 0 or more"),
        (lambda: losses.SoftmaxLoss(5, 3) + losses.CenterLoss(5, 4), r"got \[\(5, 3\), \(5, 4\)\]"),
        (lambda: losses.WeightedSum([(1.0, torch.nn.MSELoss())]), "expected losses of normface.losses .* got MSELoss"),
    ],
)
def test_what_is_no_sum(make, message):
    with pytest.raises(TrainingError, match=message):
        make()


@pytest.mark.parametrize("other", [3, "softmax", None])
def test_a_loss_plus_something_else(other):
    with pytest.raises(TypeError, match="unsupported operand"):
        losses.SoftmaxLoss(5, 3) + other
