"""TripletLoss, RingLoss, FocalLoss, RankHardLoss, RangeLoss and InterClass against NumPy."""

from __future__ import annotations

import itertools

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.face_layers import build, is_derivative, leaf, same
from torch.autograd import gradcheck

RANDOM = np.random.default_rng(5)


def layer(tmp_path, kind, message, tops="out", **inputs):
    """(the layer as a float64 module, leaves)"""
    text = nets.inputs(**{name: array.shape for name, array in inputs.items()})
    text += nets.layer(kind, " ".join(inputs), tops, message)
    model = nets.load(tmp_path, text, phase="train").to_torch().double()
    return model, [leaf(array) for array in inputs.values()]


def test_triplet(tmp_path):
    a, p, n = RANDOM.normal(size=(3, 6, 2, 2))
    model, bottoms = layer(tmp_path, "TripletLoss", "triplet_loss_param { margin: 0.75 }", a=a, p=p, n=n)
    terms = ((a - p) ** 2).sum((1, 2)) - ((a - n) ** 2).sum((1, 2)) + 0.75
    assert (terms > 0).any() and (terms < 0).any()
    same(model(*bottoms).item(), np.maximum(terms, 0).sum() / 12)
    assert gradcheck(model, bottoms)
    a[3, 0, 0] = np.nan
    assert model(torch.tensor(a), *bottoms[1:]).isnan()


def test_ring(tmp_path):
    x = RANDOM.normal(size=(5, 3, 2))
    lengths = np.sqrt((x**2).sum((1, 2)))
    model, (bottom,) = layer(tmp_path, "RingLoss", "ring_loss_param { radius_filler { value: 1.5 } }", x=x)
    same(model(bottom).item(), ((lengths - 1.5) ** 2).mean() / 2)
    assert is_derivative(lambda_of(model), x, np.zeros(5))
    model, (bottom,) = layer(tmp_path, "RingLoss", "", x=x)
    same(model(bottom).item(), lengths.var() / 2)
    np.testing.assert_allclose(model.out.radius.item(), lengths.mean(), rtol=1e-6)
    x[2] = 0
    bottom = leaf(x)
    model(bottom).backward()
    assert not bottom.grad[2].any() and bottom.grad.isfinite().all()


def lambda_of(model):
    """The model, as face_layers' helper calls it, of one bottom."""

    class OneBottom(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x, _):
            return self.inner(x)

    return OneBottom()


LABELS = np.array([[0, 3, -1], [2, 2, 1]])


@pytest.mark.parametrize("fields", ["", "type: ONEADDP gamma: 1.5", "gamma: 0"])
@pytest.mark.parametrize("loss", ["", "loss_param { normalization: FULL }", "loss_param { ignore_label: 2 }"])
def test_focal(tmp_path, fields, loss):
    x = RANDOM.normal(size=(2, 4, 3))
    text = nets.inputs(data=(2, 4, 3), label=(2, 3))
    text += nets.layer("FocalLoss", "data label", "out p", f"focal_loss_param {{ {fields} }} {loss}")
    model = nets.load(tmp_path, text, phase="train").to_torch().double()
    tops = model(torch.tensor(x), torch.tensor(LABELS))
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    same(tops["p"].numpy(), p)
    gamma = {"": 2, "gamma: 0": 0}.get(fields, 1.5)
    total = count = 0
    for n, i in itertools.product(range(2), range(3)):
        y = LABELS[n, i]
        if y >= 0 and not ("ignore" in loss and y == 2):
            own = p[n, y, i]
            total -= (1 + own if "ONE" in fields else 1 - own) ** gamma * np.log(own)
            count += 1
    same(tops["out"].item(), total / (6 if "FULL" in loss else count))
    assert gradcheck(lambda x: model(x, torch.tensor(LABELS))["out"], (leaf(x),))


PAIRS = np.repeat([0.0, 1.0, -1.0, 2.0, 3.0], 2)


@pytest.mark.parametrize("negatives", [1, 2, 9])
def test_rank_hard(tmp_path, negatives):
    x = RANDOM.normal(size=(10, 3))
    fields = f"pair_size: 2 neg_num: {negatives} hard_ratio: 1 margin: 0.25"
    model = build(tmp_path, "RankHardLoss", fields, (10, 3))
    dots, total = x @ x.T, 0.0
    for a in range(0, 10, 2):
        if PAIRS[a] < 0:
            continue
        candidates = [
            j for j in range(10) if PAIRS[j] >= 0 and PAIRS[j] != PAIRS[a] and dots[a, j] - dots[a, a + 1] + 0.25 > 0
        ]
        for j in sorted(candidates, key=lambda j: -dots[a, j])[:negatives]:
            total += dots[a, j] - dots[a, a + 1] + 0.25 + max(0, dots[a + 1, j] - dots[a, a + 1] + 0.25)
    same(model(torch.tensor(x), torch.tensor(PAIRS)).item(), total / (negatives * 10))
    assert is_derivative(model, x, PAIRS)


def test_rank_hard_draws(tmp_path):
    x = RANDOM.normal(size=(10, 3))
    model = build(
        tmp_path, "RankHardLoss", "pair_size: 2 neg_num: 2 hard_ratio: 0.5 rand_ratio: 0.5 margin: 9", (10, 3)
    )
    torch.manual_seed(0)
    losses = {model(torch.tensor(x), torch.tensor(PAIRS)).item() for _ in range(20)}
    assert len(losses) > 5 and all(3 < loss < 15 for loss in losses)


GROUPS = np.array([0.0, 1.0, 0.0, 0.0, -1.0, 1.0, 2.0, 0.0])


@pytest.mark.parametrize("largest", [1, 2, 9])
@pytest.mark.parametrize("margin", [0, 16])
def test_ranges(tmp_path, largest, margin):
    x = RANDOM.normal(size=(8, 3))
    fields = f"choose_k: {largest} intra_weight: 0.5 inter_weight: 2 margin: {margin}"
    model = build(tmp_path, "RangeLoss", fields, (8, 3))
    total, centers = 0.0, [x[y == GROUPS].mean(0) for y in range(3)]
    for y in range(3):
        pairs = itertools.combinations(x[y == GROUPS], 2)
        ranges = sorted((((a - b) ** 2).sum() for a, b in pairs), reverse=True)[:largest]
        total += 0.5 * len(ranges) / sum(1 / r for r in ranges) if ranges else 0
    nearest = min(((a - b) ** 2).sum() for a, b in itertools.combinations(centers, 2))
    same(model(torch.tensor(x), torch.tensor(GROUPS)).item(), total + 2 * max(0, margin - nearest))
    assert is_derivative(model, x, GROUPS)
    x[1, 1] = np.nan
    assert model(torch.tensor(x), torch.tensor(GROUPS)).isnan()


@pytest.mark.parametrize("kind", ["MEAN", "AMONG"])
@pytest.mark.parametrize("normalize", ["true", "false"])
def test_inter_class(tmp_path, kind, normalize):
    labels = np.array([2.0, 0.0, -1.0, 2.0])
    fields = (
        f"num_output: 4 type: {kind} normalize: {normalize} alpha_start_value: 3 weight_filler {{ type: 'gaussian' }}"
    )
    model = build(tmp_path, "InterClass", fields, (4, 5), "out alpha", extra="loss_weight: 7 loss_weight: 0")
    w = model.out.weight.detach().numpy()
    x = leaf(np.zeros((4, 5)))
    tops = model(x, torch.tensor(labels))
    mean = w.mean(0)
    mean = mean / np.sqrt(mean @ mean + 1e-5) if normalize == "true" else mean
    rows = w[[2, 0, 2]]
    step = np.zeros_like(w)
    if kind == "MEAN":
        distance = 1 - (rows @ mean).mean()
        np.add.at(step, [2, 0, 2], 3 * mean / 3)
    else:
        distance = sum(((w - row) ** 2).sum() for row in rows) / 4
        np.add.at(step, [2, 0, 2], -12 * (rows - mean) / (3 * distance**2 + 1e-5))
    same(tops["out"].item(), distance)
    assert tops["alpha"].item() == 3
    model.loss(tops).backward()  # the step knows no loss_weight
    same(model.out.weight.grad.numpy(), step)
    assert x.grad is None or not x.grad.any()


def test_the_schedule_of_inter_class(tmp_path):
    fields = "num_output: 4 iteration: 2 alpha_start_iter: 4 alpha_start_value: 5 alpha_step: 0.5"
    model = build(tmp_path, "InterClass", f"{fields} alpha_stepvalue: 5 alpha_stepvalue: 7", (4, 5), "out alpha")
    alphas = [model(torch.zeros(4, 5).double(), torch.zeros(4))["alpha"].item() for _ in range(6)]
    assert alphas == [0, 5, 5.5, 5.5, 6, 6]


@pytest.mark.parametrize(
    ("kind", "fields", "problem"),
    [
        ("FocalLoss", "type: LINEAR", "type LINEAR is not supported"),
        ("FocalLoss", "gamma: -1", "expected a gamma of 0 or more, got -1"),
        ("RankHardLoss", "", "expected a pair_size of 2 or more"),
        ("RankHardLoss", "pair_size: 2", r"expected a batch of a multiple of 2 samples \(pair_size\), got 5"),
        ("RankHardLoss", "pair_size: 5 neg_num: 0", "expected a neg_num of 1 or more, got 0"),
        ("RangeLoss", "choose_k: 0", "expected a choose_k of 1 or more, got 0"),
        ("InterClass", "", "expected a num_output of 1 or more, got 0"),
        ("InterClass", "num_output: 2 alpha_stepvalue: 3 alpha_stepvalue: 3", "expected each alpha_stepvalue above"),
    ],
)
def test_refused(tmp_path, kind, fields, problem):
    with pytest.raises(caffeport.NetError, match=rf'layer "out" \({kind}\): {problem}'):
        build(tmp_path, kind, fields)


def test_shapes_that_do_not_fit(tmp_path):
    with pytest.raises(caffeport.NetError, match=r"expected anchors, positives and negatives of one shape"):
        layer(tmp_path, "TripletLoss", "", a=np.zeros((2, 3)), p=np.zeros((2, 3)), n=np.zeros((2, 4)))
