"""The face losses and margins against their bare formulas, row by row in NumPy, and against finite differences.

tests/golden/face_layers holds the fork's own numbers (test_golden.py); here are the options, shapes and
parameters that it does not record.
"""

from __future__ import annotations

import math

import caffeport
import nets
import numpy as np
import onnxruntime
import pytest
import torch
from torch.autograd import gradcheck

TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}  # both sides compute in float64, from parameters that float64 holds


MESSAGES = {
    "CenterLoss": "center_loss_param",
    "GeneralContrastiveLoss": "general_contrastive_loss_param",
    "GeneralTripletLoss": "general_triplet_loss_param",
    "MarginInnerProduct": "margin_inner_product_param",
    "LargeMarginInnerProduct": "largemargin_inner_product_param",
    "LabelSpecificRescale": "label_specific_rescale_param",
    "LabelSpecificMargin": "label_specific_margin_param",
}


def one_layer(kind, fields="", shape=(5, 7), labels=None, tops="out", extra=""):
    """The text of one layer on ``data`` and ``label``."""
    message = f"{MESSAGES[kind]} {{ {fields} }} {extra}"
    return nets.inputs(data=shape, label=(labels or shape[0],)) + nets.layer(kind, "data label", tops, message)


def build(tmp_path, kind, fields="", shape=(5, 7), tops="out", extra="", phase="train", **options):
    """The layer as a float64 module."""
    text = one_layer(kind, fields, shape, tops=tops, extra=extra)
    return nets.load(tmp_path, text, phase=phase, **options).to_torch().double()


def leaf(array):
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


def run(model, x, labels):
    """(the tops by name, the gradient in x of the weighted losses)"""
    x = leaf(x)
    tops = model(x, torch.tensor(labels))
    if torch.is_tensor(tops):
        tops = {model.output_names[0]: tops}
    (gradient,) = torch.autograd.grad(model.loss(tops), x, allow_unused=True)
    return {name: top.detach().numpy() for name, top in tops.items()}, gradient.numpy()


def same(found, expected):
    np.testing.assert_allclose(found, expected, **TOLERANCE)


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


@pytest.mark.parametrize("weight", [0.25, 3.0])
@pytest.mark.parametrize("kind", ["L1", "L2"])
def test_the_centers_step_ignores_the_loss_weight_and_counts_every_sample(tmp_path, kind, weight):
    model = center_loss(tmp_path, f'distance_type: "{kind}"')
    (weight * model(leaf(FEATURES.reshape(5, 2, 3)), torch.tensor(LABELS))).backward()
    centers = model.out.centers.detach().numpy()
    expected = np.zeros_like(centers)
    for j in range(4):
        pull = centers[j] - FEATURES[j == LABELS]
        expected[j] = len(pull) / (1 + len(pull)) * (np.sign(pull) if kind == "L1" else pull).sum(0)
    same(model.out.centers.grad.numpy(), expected)
    assert not expected[1].any()


@pytest.mark.parametrize("kind", ["L1", "L2"])
def test_center_loss_exact_gradients(tmp_path, kind):
    model = center_loss(tmp_path, f'distance_type: "{kind}"', exact_gradients=True)
    assert is_derivative(model, FEATURES.reshape(5, 2, 3), LABELS)


def is_derivative(model, x, labels):
    """gradcheck in the bottom and in every parameter."""
    names, values = zip(*model.named_parameters(), strict=True) if list(model.parameters()) else ((), ())

    def top(x, *values):
        tops = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (x, torch.tensor(labels)))
        return tops if torch.is_tensor(tops) else tops["out"]

    return gradcheck(top, (leaf(x), *(leaf(value.detach().numpy()) for value in values)))


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


def text(given):
    return " ".join(f"{name}: {str(value).lower()}" for name, value in given.items())


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


@pytest.mark.parametrize("given", [g for g in CONTRASTIVE_CASES if "normalize_negative" not in g], ids=text)
def test_general_contrastive_loss_exact_gradients(tmp_path, given):
    model = build(tmp_path, "GeneralContrastiveLoss", text(given), (6, 5), "out means", exact_gradients=True)
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


@pytest.mark.parametrize("given", TRIPLET_CASES, ids=text)
def test_general_triplet_loss_exact_gradients(tmp_path, given):
    model = build(tmp_path, "GeneralTripletLoss", text(given), (6, 5), exact_gradients=True)
    assert is_derivative(model, DISTANCES, CLASSES)
    same(run(model, DISTANCES, CLASSES)[0]["out"], triplet(DISTANCES, CLASSES, **given)[0])


# ---------------------------------------------------------------- MarginInnerProduct, LargeMarginInnerProduct

MARGINS = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "QUADRUPLE": 4}
MARGIN_LAYERS = ["MarginInnerProduct", "LargeMarginInnerProduct"]


def margin_layer(tmp_path, kind, margin, schedule="base: 0.5", **options):
    fields = f'num_output: 4 type: {margin} weight_filler {{ type: "gaussian" }} {schedule}'
    return build(tmp_path, kind, fields, (8, 3, 2), "out lambda", **options)


def at_all_angles(model):
    """(x, labels) with label angles in every interval of psi for m = 4."""
    weight = model.out.weight.detach().numpy()
    random = np.random.default_rng(5)
    labels = np.array([0.0, 1.0, 2.0, 3.0, 3.0, 2.0, 0.0, 1.0])
    rows = []
    for degrees, y in zip((10, 40, 55, 80, 100, 125, 150, 175), labels.astype(int), strict=True):
        unit = weight[y] / np.linalg.norm(weight[y])
        across = random.normal(size=6)
        across -= across @ unit * unit
        across /= np.linalg.norm(across)
        theta = math.radians(degrees)
        rows.append(random.uniform(0.5, 2) * (math.cos(theta) * unit + math.sin(theta) * across))
    return np.array(rows), labels


def margin_reference(x, weight, labels, m, decay, unit):
    """(scores, coefficients (a, b) of the gradient a w + b x of |w| |x| psi at the labels)"""
    if unit:
        weight = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    scores, coefficients = x @ weight.T, []
    for i, y in enumerate(labels.astype(int)):
        length, size = np.linalg.norm(x[i]), np.linalg.norm(weight[y])
        theta = math.acos(scores[i, y] / length / size)
        k = math.floor(m * theta / math.pi)
        psi = (-1) ** k * math.cos(m * theta) - 2 * k
        slope = (-1) ** k * m * math.sin(m * theta) / math.sin(theta)
        coefficients.append((slope, (psi - math.cos(theta) * slope) * size / length))
        if m > 1:
            scores[i, y] = (length * size * psi + decay * scores[i, y]) / (1 + decay)
    return scores, coefficients


# The modules add 1e-9 to |x| |w| and 1e-12 under the root of |w|.
MARGIN_TOLERANCE = {"rtol": 1e-7, "atol": 1e-8}


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("kind", MARGIN_LAYERS)
def test_margin_scores(tmp_path, kind, margin):
    model = margin_layer(tmp_path, kind, margin)
    x, labels = at_all_angles(model)
    before = model.out.weight.detach().clone()
    tops = model(torch.tensor(x.reshape(8, 3, 2)), torch.tensor(labels))
    unit = kind == "MarginInnerProduct"
    expected, _ = margin_reference(x, before.numpy(), labels, MARGINS[margin], 0.5, unit)
    np.testing.assert_allclose(tops["out"].detach().numpy(), expected, **MARGIN_TOLERANCE)
    assert torch.equal(model.out.weight, before)


@pytest.mark.parametrize("margin", MARGINS)
def test_margin_inner_product_has_the_forks_gradients(tmp_path, margin):
    model = margin_layer(tmp_path, "MarginInnerProduct", margin)
    x, labels = at_all_angles(model)
    g = np.random.default_rng(6).normal(size=(8, 4))
    bottom = leaf(x.reshape(8, 3, 2))
    (model(bottom, torch.tensor(labels))["out"] * torch.tensor(g)).sum().backward()
    np.testing.assert_allclose(model.out.weight.grad.numpy(), g.T @ x, **MARGIN_TOLERANCE)
    weight = model.out.weight.detach().numpy()
    weight = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    dx = g @ weight
    if margin != "SINGLE":
        _, coefficients = margin_reference(x, weight, labels, MARGINS[margin], 0.5, True)
        for i, (y, (a, b)) in enumerate(zip(labels.astype(int), coefficients, strict=True)):
            step = (a * weight[y] + b * x[i]) / math.hypot(a, b)
            dx[i] += g[i, y] * (step - weight[y]) / 1.5
    np.testing.assert_allclose(bottom.grad.numpy().reshape(8, 6), dx, **MARGIN_TOLERANCE)


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("kind", MARGIN_LAYERS)
def test_margin_exact_gradients(tmp_path, kind, margin):
    model = margin_layer(tmp_path, kind, margin, exact_gradients=True)
    x, labels = at_all_angles(model)
    assert is_derivative(model, x.reshape(8, 3, 2), labels)


@pytest.mark.parametrize("margin", MARGINS)
def test_large_margins_own_gradient_is_the_derivative(tmp_path, margin):
    model = margin_layer(tmp_path, "LargeMarginInnerProduct", margin)
    x, labels = at_all_angles(model)
    assert is_derivative(model, x.reshape(8, 3, 2), labels)


@pytest.mark.parametrize("kind", MARGIN_LAYERS)
def test_lambda_falls_with_the_training_passes_down_to_its_least(tmp_path, kind):
    model = margin_layer(tmp_path, kind, "DOUBLE", "base: 8 gamma: 0.5 power: 2 lambda_min: 0.25 iteration: 3")
    x, labels = at_all_angles(model)
    batch = torch.tensor(x.reshape(8, 3, 2)), torch.tensor(labels)
    for t in range(4, 14):
        same(model(*batch)["lambda"].item(), max(0.25, 8 * (1 + 0.5 * t) ** -2))
        assert model.out.iteration == t
    weight = model.out.weight.detach().numpy()
    expected, _ = margin_reference(x, weight, labels, 2, 0.25, kind == "MarginInnerProduct")
    np.testing.assert_allclose(model.eval()(*batch)["out"].detach().numpy(), expected, **MARGIN_TOLERANCE)
    assert model.out.iteration == 13


@pytest.mark.parametrize("kind", MARGIN_LAYERS)
@pytest.mark.parametrize("exact", [False, True])
def test_a_zero_vector_has_finite_scores_and_gradients(tmp_path, kind, exact):
    model = margin_layer(tmp_path, kind, "QUADRUPLE", exact_gradients=exact)
    x = torch.zeros(8, 3, 2, dtype=torch.float64, requires_grad=True)
    out = model(x, torch.zeros(8))["out"]
    out.sum().backward()
    assert torch.equal(out, torch.zeros_like(out)) or out.abs().max() < 1e-8
    assert x.grad.isfinite().all() and model.out.weight.grad.isfinite().all()


# ---------------------------------------------------------------- LabelSpecificRescale, LabelSpecificMargin

SCORES = np.random.default_rng(7).uniform(-0.95, 0.95, (6, 5))
SCORES[[0, 1], [0, 4]] = -0.5, 0.5  # for_ip tells these labels apart


def outer(model, x, labels, g):
    bottom = leaf(x)
    tops = model(bottom, torch.tensor(labels))
    (tops["out"] * torch.tensor(g)).sum().backward()
    return tops["out"].detach().numpy(), tops["size"].item(), bottom.grad.numpy()


G = np.random.default_rng(8).normal(size=(6, 5))


@pytest.mark.parametrize(
    "given",
    [
        {"positive_weight": 0.75},
        {"positive_weight": 0.5, "negative_weight": 1.25},
        {"positive_weight": 0.5, "for_ip": True},
        {"positive_weight": 2.5, "bias_fix": True, "for_ip": True, "negative_weight": 0.5},
    ],
    ids=text,
)
def test_label_specific_rescale(tmp_path, given):
    model = build(tmp_path, "LabelSpecificRescale", text(given), (6, 5), "out size")
    out, size, dx = outer(model, SCORES, CLASSES, G)
    expected, slope = SCORES * given.get("negative_weight", 1), np.full_like(G, given.get("negative_weight", 1))
    for i, y in enumerate(CLASSES.astype(int)):
        weight = given["positive_weight"] if SCORES[i, y] > 0 or not given.get("for_ip") else 1
        expected[i, y] = SCORES[i, y] * weight + (1 - weight if given.get("bias_fix") else 0)
        slope[i, y] = weight
    same(out, expected)
    same(dx, G * slope)
    assert size == given["positive_weight"]
    same(model.eval()(torch.tensor(SCORES), torch.tensor(CLASSES))["out"].numpy(), SCORES)


def test_rescale_test_acts_in_the_test_phase_too(tmp_path):
    fields = "positive_weight: 0.5 rescale_test: true"
    model = build(tmp_path, "LabelSpecificRescale", fields, (6, 5), phase="test")
    made = model(torch.tensor(SCORES), torch.tensor(CLASSES)).numpy()
    rows = np.arange(6), CLASSES.astype(int)
    same(made[rows], SCORES[rows] / 2)


def test_the_positive_weight_follows_its_schedule_in_training(tmp_path):
    schedule = "positive_weight_base: 2 gamma: 0.5 power: 1 iteration: 1"
    bounds = "positive_weight_min: 0.25 positive_weight_max: 0.75"
    model = build(tmp_path, "LabelSpecificRescale", f"{schedule} {bounds}", (6, 5), "out size")
    for t in range(2, 20):
        out, size, _ = outer(model, SCORES, CLASSES, G)
        same(size, min(max(2 / (1 + 0.5 * t), 0.25), 0.75))
        same(out[0, 0], SCORES[0, 0] * size)
    assert model.out.iteration == 19


def at_angle(scores, labels, degrees):
    out = scores.copy()
    for i, y in enumerate(labels.astype(int)):
        out[i, y] = math.cos(math.acos(scores[i, y]) + math.radians(degrees))
    return out


def fixed_margin(tmp_path, degrees, **options):
    net = nets.load(tmp_path, one_layer("LabelSpecificMargin", shape=(6, 5), tops="out size"), phase="train", **options)
    return net.with_weights({"out": [np.array([degrees], np.float32)]}).to_torch().double()


def test_label_specific_margin_has_the_forks_gradient(tmp_path):
    model = fixed_margin(tmp_path, 20.0)
    out, size, dx = outer(model, SCORES, CLASSES, G)
    assert size == 20
    same(out, at_angle(SCORES, CLASSES, 20))
    expected, m = G.copy(), math.radians(20)
    for i, y in enumerate(CLASSES.astype(int)):
        c = SCORES[i, y]
        expected[i, y] *= math.cos(m) - c / math.sqrt(1 - c * c) * math.sin(m)
    same(dx, expected)
    same(model.eval()(torch.tensor(SCORES), torch.tensor(CLASSES))["out"].numpy(), SCORES)


def test_label_specific_margin_exact_gradients(tmp_path):
    assert is_derivative(fixed_margin(tmp_path, 20.0, exact_gradients=True), SCORES, CLASSES)


@pytest.mark.parametrize("exact", [False, True])
def test_a_cosine_beyond_1_by_rounding_is_no_nan(tmp_path, exact):
    model = fixed_margin(tmp_path, 20.0, exact_gradients=exact)
    scores = SCORES.copy()
    scores[0, 0] = 1 + 1e-7
    out, _, dx = outer(model, scores, CLASSES, G)
    np.testing.assert_allclose(out[0, 0], math.cos(math.radians(20)), rtol=1e-6)
    assert np.isfinite(dx).all()


def test_the_margin_grows_by_its_schedule_and_is_kept_in_the_blob(tmp_path):
    schedule = "margin_base: 2 gamma: 0.5 power: 2 margin_max: 10 iteration: 1"
    model = build(tmp_path, "LabelSpecificMargin", schedule, (6, 5), "out size")
    for t in range(1, 7):
        out, size, _ = outer(model, SCORES, CLASSES, G)
        same(size, min(2 + (1 + 0.5 * t) ** 2 - 1, 10))
        same(out, at_angle(SCORES, CLASSES, size))
        assert model.out.margin.item() == size
    assert size == 10
    assert "out.margin" in model.state_dict() and not list(model.parameters())


# ---------------------------------------------------------------- what is refused

EVERY = {
    "CenterLoss": "num_output: 7",
    "GeneralContrastiveLoss": "",
    "GeneralTripletLoss": "",
    "MarginInnerProduct": 'num_output: 7 type: DOUBLE weight_filler { type: "xavier" }',
    "LargeMarginInnerProduct": 'num_output: 7 type: DOUBLE weight_filler { type: "xavier" }',
    "LabelSpecificRescale": "",
    "LabelSpecificMargin": "margin_base: 4",
}


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("label", [7, -1])
def test_a_label_out_of_range_is_an_error(tmp_path, kind, label):
    model = build(tmp_path, kind, EVERY[kind])
    x, labels = torch.zeros(5, 7, dtype=torch.float64), torch.zeros(5)
    model(x, labels)
    labels[3] = label
    with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
        model(x, labels)


@pytest.mark.parametrize("kind", EVERY)
def test_labels_must_be_as_many_as_rows(tmp_path, kind):
    with pytest.raises(caffeport.NetError, match=rf'layer "out" \({kind}\): expected .*label'):
        nets.load(tmp_path, one_layer(kind, EVERY[kind], labels=4), phase="train")


@pytest.mark.parametrize("kind", [kind for kind in EVERY if not kind.startswith("LabelSpecific")])
def test_onnx_refuses(tmp_path, kind):
    net = nets.load(tmp_path, one_layer(kind, EVERY[kind]))
    with pytest.raises(caffeport.ExportError, match="loss layer" if kind.endswith("Loss") else "it needs labels"):
        net.to_onnx(tmp_path / "net.onnx")


def test_onnx_refuses_to_rescale_in_the_test_phase(tmp_path):
    with pytest.raises(caffeport.ExportError, match="with rescale_test it needs labels"):
        nets.load(tmp_path, one_layer("LabelSpecificRescale", "rescale_test: true")).to_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize("kind", [kind for kind in EVERY if kind.startswith("LabelSpecific")])
def test_a_deployed_net_passes_scores_through(tmp_path, kind):
    nets.load(tmp_path, one_layer(kind, EVERY[kind])).to_onnx(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(9).normal(size=(3, 7)).astype(np.float32)
    feed = {"data": x, "label": np.zeros(3, np.float32)}
    (out,) = session.run(None, {bottom.name: feed[bottom.name] for bottom in session.get_inputs()})
    assert np.array_equal(out, x)


@pytest.mark.parametrize(
    ("kind", "fields", "problem"),
    [
        ("CenterLoss", "", "expected a num_output of 1 or more, got 0"),
        ("CenterLoss", 'num_output: 2 distance_type: "L3"', 'expected distance_type "L1" or "L2", got "L3"'),
        ("CenterLoss", "num_output: 2 axis: 0", "expected axis 1, got 0"),
        ("GeneralContrastiveLoss", "square: true", "square is not supported"),
        ("GeneralContrastiveLoss", "negative_weight: -1", "expected a negative_weight of 0 or more, got -1"),
        ("GeneralTripletLoss", "positive_weight: -1", "expected a positive_weight of 0 or more, got -1"),
        ("MarginInnerProduct", "", "expected a num_output of 1 or more, got 0"),
        ("LabelSpecificRescale", "power_on_positive: true", "power_on_positive is not supported"),
        ("LabelSpecificRescale", "positive_lower_bound: 0.1", "positive_lower_bound is not supported"),
        ("LabelSpecificRescale", "negative_upper_bound: 0.1", "negative_upper_bound is not supported"),
        ("LabelSpecificMargin", "type: SOFT", "type SOFT is not supported"),
        ("LabelSpecificMargin", "auto_tune: true", "auto_tune is not supported"),
        ("LabelSpecificMargin", "reset_margin: true", "reset_margin is not supported"),
        ("LabelSpecificMargin", "margin_on_test: true", "margin_on_test is not supported"),
    ],
)
def test_what_the_layers_refuse(tmp_path, kind, fields, problem):
    with pytest.raises(caffeport.NetError, match=rf'layer "out" \({kind}\): {problem}'):
        build(tmp_path, kind, fields)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("GeneralContrastiveLoss", "normalize_negative: 1"), ("GeneralTripletLoss", "positive_weight: 2")],
)
def test_exact_gradients_refuse_what_acts_on_the_gradient_only(tmp_path, kind, fields):
    with pytest.raises(caffeport.NetError, match=f"{fields.partition(':')[0]} changes the gradient only"):
        build(tmp_path, kind, fields, exact_gradients=True)
