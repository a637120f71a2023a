"""The face losses against their bare formulas, row by row in NumPy, and against finite differences.

tests/golden/face_layers holds the fork's own numbers (test_golden.py); here are the options, shapes and
parameters that it does not record.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.face_layers import build, is_derivative, leaf, run, same, text

# ---------------------------------------------------------------- CenterLoss

FEATURES = np.random.default_rng(1).normal(size=(5, 6))
LABELS = np.array([2.0, 0.0, 2.0, 3.0, 2.0])


def center_loss(tmp_path, fields="", **options):
    fields = f'num_output: 4 center_filler {{ type: "gaussian" }} {fields}'
    return build(tmp_path, "CenterLoss", fields, (5, 2, 3), extra="loss_weight: 0.25", **options)


@pytest.mark.parametrize("kind", ["L1", "L2"])
def test_center_loss(tmp_path, kind):
    model = center_loss(tmp_path, f'distance_type: "{kind}"')
    centers = model.out.centers.detach().numpy()
    tops, dx = run(model, FEATURES.reshape(5, 2, 3), LABELS)
    apart = FEATURES - centers[LABELS.astype(int)]
    same(tops["out"], np.abs(apart).sum() / 5 if kind == "L1" else (apart**2).sum() / 10)
    slope = np.sign(apart) if kind == "L1" else apart
    same(dx.reshape(5, 6), 0.25 * slope / 5)


@pytest.mark.parametrize("step", ["", "FORK", "PAPER"])
@pytest.mark.parametrize("weight", [0.25, 3.0])
@pytest.mark.parametrize("kind", ["L1", "L2"])
def test_the_centers_step_ignores_the_loss_weight_and_counts_every_sample(tmp_path, kind, weight, step):
    """Once in the paper, where its n samples share it; n times in the fork."""
    model = center_loss(tmp_path, f'distance_type: "{kind}"' + (f" center_step: {step}" if step else ""))
    x = leaf(FEATURES.reshape(5, 2, 3))
    (weight * model(x, torch.tensor(LABELS))).backward()
    centers = model.out.centers.detach().numpy()
    expected = np.zeros_like(centers)
    for j in range(4):
        pull = centers[j] - FEATURES[j == LABELS]
        times = len(pull) if step == "FORK" else 1
        expected[j] = times / (1 + len(pull)) * (np.sign(pull) if kind == "L1" else pull).sum(0)
    same(model.out.centers.grad.numpy(), expected)
    assert not expected[1].any()
    apart = FEATURES - centers[LABELS.astype(int)]
    same(x.grad.numpy().reshape(5, 6), weight * (np.sign(apart) if kind == "L1" else apart) / 5)


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ("", {"exact_gradients": True}),
        ("center_step: DERIVATIVE", {}),
        ("center_step: PAPER", {"exact_gradients": True}),
    ],
)
@pytest.mark.parametrize("kind", ["L1", "L2"])
def test_center_loss_exact_gradients(tmp_path, kind, fields, options):
    model = center_loss(tmp_path, f'distance_type: "{kind}" {fields}', **options)
    assert is_derivative(model, FEATURES.reshape(5, 2, 3), LABELS)


# ---------------------------------------------------------------- GeneralContrastiveLoss

DISTANCES = np.random.default_rng(2).uniform(0.05, 2.2, (6, 5))
CLASSES = np.array([0.0, 4.0, 0.0, 2.0, 1.0, 0.0])
DISTANCES[0, 0], DISTANCES[2, 0] = 0.02, 2.1  # class 0 as the label: its term once below all others, once above

CONTRASTIVE = {
    "positive_margin": 0.0, "negative_margin": 1.0, "positive_weight": 1.0, "negative_weight": 1.0,
    "normalize_negative": None, "positive_outlier_thresh": 4.0, "max_negative_only": False,
    "max_positive_only": False, "positive_first": False, "positive_upper_bound": 1.0, "exp_negative_weight": False,
}  # fmt: skip


def contrastive(d, labels, **given):
    """(loss, gradient the fork reports, means of the positive and the negative terms)"""
    p = CONTRASTIVE | given
    rows, classes = d.shape
    labels = labels.astype(int)
    clipped = [min(max(d[i, y] - p["positive_margin"], 0), p["positive_outlier_thresh"]) for i, y in enumerate(labels)]
    smallest = int(np.argmin(clipped))
    loss, hinges, gradient = 0.0, 0.0, np.zeros_like(d)
    for i, y in enumerate(labels):
        far = p["positive_first"] and d[i, y] > p["positive_upper_bound"]
        counts = not p["max_positive_only"] or i == smallest
        loss += p["positive_weight"] * clipped[i] * counts
        inside = p["positive_margin"] < d[i, y] < p["positive_outlier_thresh"] and counts
        gradient[i, y] = p["positive_weight"] * (inside or far)
        terms = {}
        for j in range(classes):
            short = p["negative_margin"] - d[i, j]
            if j != y and short > 0:
                hinges += short
                terms[j] = p["negative_weight"] * (math.exp(-d[i, j]) if p["exp_negative_weight"] else short)
        if p["max_negative_only"] and terms:
            best = max(terms, key=terms.get)
            beaten = y == 0 and terms[best] <= p["positive_weight"] * clipped[i]
            terms = {} if beaten else {best: terms[best]}
        for j, term in terms.items() if not far else ():
            loss += term
            gradient[i, j] = -(term if p["exp_negative_weight"] else p["negative_weight"])
    if p["normalize_negative"] is not None:
        mean = -gradient[gradient < 0].sum() / p["normalize_negative"] / rows
        if mean > p["positive_weight"]:
            gradient[gradient < 0] /= mean
    return loss / rows, gradient / rows, [sum(clipped) / rows, hinges / rows / (classes - 1)]


CONTRASTIVE_CASES = [
    {},
    {"positive_margin": 0.5, "negative_margin": 1.5, "positive_weight": 2.0, "negative_weight": 0.5},
    {"positive_margin": 0.5, "positive_outlier_thresh": 1.25},
    {"exp_negative_weight": True, "negative_weight": 0.75},
    {"max_negative_only": True, "negative_margin": 1.5},
    {"max_negative_only": True, "exp_negative_weight": True, "negative_margin": 1.5},
    {"max_positive_only": True, "positive_weight": 0.5},
    {"positive_first": True, "positive_upper_bound": 0.75, "positive_outlier_thresh": 1.25},
    {"positive_first": True, "max_positive_only": True, "max_negative_only": True, "negative_margin": 2.0},
    {"normalize_negative": 0.5},
    {"normalize_negative": 2.0, "exp_negative_weight": True, "positive_weight": 0.125},
    {"normalize_negative": 64.0},
]


@pytest.mark.parametrize("given", CONTRASTIVE_CASES, ids=text)
def test_general_contrastive_loss(tmp_path, given):
    weights = "loss_weight: 1.5 loss_weight: 1"
    model = build(tmp_path, "GeneralContrastiveLoss", text(given), (6, 5, 1, 1), "out means", weights)
    tops, gradient = run(model, DISTANCES[:, :, None, None], CLASSES)
    loss, slope, means = contrastive(DISTANCES, CLASSES, **given)
    same(tops["out"], loss)
    same(tops["means"], means)
    same(gradient[:, :, 0, 0], 1.5 * slope)  # nothing from the second top, though it has a loss_weight


def test_max_negative_only_meets_the_label_as_class_0():
    """The reference's rows: the positive of row 2 beats its negatives, that of row 0 does not."""
    gradient = contrastive(DISTANCES, CLASSES, max_negative_only=True, negative_margin=1.5)[1]
    assert (gradient[0] < 0).sum() == 1
    assert (gradient[2] < 0).sum() == 0


# Asked for in the layer's text, or for the whole net.
EXACT = pytest.mark.parametrize(("field", "options"), [(" exact_gradient: true", {}), ("", {"exact_gradients": True})])


@EXACT
@pytest.mark.parametrize("given", [g for g in CONTRASTIVE_CASES if "normalize_negative" not in g], ids=text)
def test_general_contrastive_loss_exact_gradients(tmp_path, given, field, options):
    model = build(tmp_path, "GeneralContrastiveLoss", text(given) + field, (6, 5), "out means", **options)
    assert is_derivative(model, DISTANCES, CLASSES)
    same(run(model, DISTANCES, CLASSES)[0]["out"], contrastive(DISTANCES, CLASSES, **given)[0])


def test_add_intra_mae_widens_the_margin_pass_by_pass(tmp_path):
    fields = "add_intra_mae: true negative_margin: 0.5 max_negative_margin: 0.03125"
    model = build(tmp_path, "GeneralContrastiveLoss", fields, (6, 5), "out means")
    running, seen = 0.0, []
    for _ in range(4):
        loss, slope, means = contrastive(DISTANCES, CLASSES, negative_margin=0.5 + running)
        running = min(0.99 * running + 0.01 * means[0], 0.03125)
        tops, gradient = run(model, DISTANCES, CLASSES)
        same(tops["out"], loss)
        same(tops["means"], [*means, running])
        same(gradient, slope)
        seen.append(running)
        same(run(model.eval(), DISTANCES, CLASSES)[0]["means"][2], running)
        model.train()
    assert seen[0] < seen[1] < seen[-1] == 0.03125


# ---------------------------------------------------------------- GeneralTripletLoss

TRIPLET = {
    "margin": 0.2, "add_center_loss": True, "hardest_only": False, "positive_first": False,
    "positive_upper_bound": 1.0, "positive_weight": 1.0, "negative_weight": 1.0,
}  # fmt: skip


def triplet(d, labels, **given):
    """(loss, gradient the fork reports, means of the label's distance and of the others)"""
    p = TRIPLET | given
    rows, classes = d.shape
    labels = labels.astype(int)
    loss, gradient = 0.0, np.zeros_like(d)
    for i, y in enumerate(labels):
        far = p["positive_first"] and d[i, y] > p["positive_upper_bound"]
        terms = {j: d[i, y] + p["margin"] - d[i, j] for j in range(classes) if j != y}
        terms = {j: term for j, term in terms.items() if term > 0 and not far}
        if p["hardest_only"] and terms:
            hardest = max(terms, key=terms.get)
            terms = {hardest: terms[hardest]}
        loss += p["negative_weight"] * sum(terms.values())
        for j in terms:
            gradient[i, j] = -p["negative_weight"]
        gradient[i, y] = p["positive_weight"] * bool(terms or far or p["add_center_loss"])
    positive = d[np.arange(rows), labels]
    return loss / rows, gradient / rows, [positive.mean(), (d.sum() - positive.sum()) / rows / (classes - 1)]


TRIPLET_CASES = [
    {"margin": 0.25},
    {"margin": 0.75, "add_center_loss": False},
    {"margin": -0.75},
    {"margin": -0.75, "add_center_loss": False},
    {"margin": 0.125, "add_center_loss": False, "hardest_only": True},
    {"margin": 0.5, "negative_weight": 0.5, "hardest_only": True},
    {"margin": 0.5, "positive_first": True, "positive_upper_bound": 0.75, "add_center_loss": False},
    {"margin": 0.5, "positive_first": True, "positive_upper_bound": 0.25, "hardest_only": True},
]


@pytest.mark.parametrize("given", [*TRIPLET_CASES, {"margin": 0.5, "positive_weight": 3.0}], ids=text)
def test_general_triplet_loss(tmp_path, given):
    weights = "loss_weight: 0.5 loss_weight: 1"
    model = build(tmp_path, "GeneralTripletLoss", text(given), (6, 5), "out means", weights)
    tops, gradient = run(model, DISTANCES, CLASSES)
    loss, slope, means = triplet(DISTANCES, CLASSES, **given)
    same(tops["out"], loss)
    same(tops["means"], means)
    same(gradient, 0.5 * slope)


def test_general_triplet_loss_of_one_class(tmp_path):
    """There is no other class to be apart from, whose mean distance is 0, as in the C++ layer."""
    model = build(tmp_path, "GeneralTripletLoss", "", (3, 1), "out means")
    tops, gradient = run(model, np.array([[1.5], [2.0], [4.0]]), np.zeros(3))
    same(tops["means"], [2.5, 0])
    assert np.isfinite(gradient).all()


@EXACT
@pytest.mark.parametrize("given", TRIPLET_CASES, ids=text)
def test_general_triplet_loss_exact_gradients(tmp_path, given, field, options):
    model = build(tmp_path, "GeneralTripletLoss", text(given) + field, (6, 5), **options)
    assert is_derivative(model, DISTANCES, CLASSES)
    same(run(model, DISTANCES, CLASSES)[0]["out"], triplet(DISTANCES, CLASSES, **given)[0])
