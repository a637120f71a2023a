"""The margins on the label's score against their bare formulas, and against finite differences.

tests/golden/face_layers holds the fork's own numbers (test_golden.py); here are the options, shapes and
parameters that it does not record.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support import nets
from support.face_layers import build, is_derivative, leaf, one_layer, same, text

# ---------------------------------------------------------------- MarginInnerProduct, LargeMarginInnerProduct

CLASSES = np.array([0.0, 4.0, 0.0, 2.0, 1.0, 0.0])
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
def test_margin_inner_product_has_the_derivative_if_its_text_says_so(tmp_path, margin):
    model = margin_layer(tmp_path, "MarginInnerProduct", margin, "base: 0.5 exact_gradient: true")
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


# ---------------------------------------------------------------- LabelSpecificAdd, -Rescale, -Margin

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


def fixed_margin(tmp_path, degrees, fields="", phase="train", **options):
    text = one_layer("LabelSpecificMargin", fields, shape=(6, 5), tops="out size")
    net = nets.load(tmp_path, text, phase=phase, **options)
    return net.with_weights({"out": [np.array([degrees], np.float32)]}).to_torch().double()


def test_label_specific_margin_has_the_derivative(tmp_path):
    """d cos(theta + m) / d cos(theta) = sin(theta + m) / sin(theta)"""
    model = fixed_margin(tmp_path, 20.0)
    out, size, dx = outer(model, SCORES, CLASSES, G)
    assert size == 20
    same(out, at_angle(SCORES, CLASSES, 20))
    expected = G.copy()
    for i, y in enumerate(CLASSES.astype(int)):
        theta = math.acos(SCORES[i, y])
        expected[i, y] *= math.sin(theta + math.radians(20)) / math.sin(theta)
    same(dx, expected)
    same(model.eval()(torch.tensor(SCORES), torch.tensor(CLASSES))["out"].numpy(), SCORES)


def label_slope(model, cosine):
    """(the label's score, its derivative) where the label's cosine is that."""
    scores, g = np.zeros((6, 5)), np.ones((6, 5))
    scores[0, 0] = cosine
    out, _, dx = outer(model, scores, CLASSES, g)
    return out[0, 0], dx[0, 0]


def test_a_near_sample_is_drawn_nearer(tmp_path):
    """0.5 radians are ArcFace's margin; with the fork's first sign the slope is -2.49."""
    degrees = math.degrees(0.5)
    _, slope = label_slope(fixed_margin(tmp_path, degrees), 0.99)
    theta = math.acos(0.99)
    assert slope == pytest.approx(math.sin(theta + 0.5) / math.sin(theta), rel=1e-6)
    assert slope == pytest.approx(4.24, abs=0.01)
    _, slope = label_slope(fixed_margin(tmp_path, degrees, "exact_gradient: false"), 0.99)
    assert slope == pytest.approx(-2.49, abs=0.01)


def test_label_specific_margin_of_the_forks_first_version(tmp_path):
    """A minus in the gradient, and no guard."""
    model = fixed_margin(tmp_path, 20.0, "exact_gradient: false")
    scores = SCORES.copy()
    scores[0, 0] = -0.97  # beyond theta + m = pi
    out, _, dx = outer(model, scores, CLASSES, G)
    same(out, at_angle(scores, CLASSES, 20))
    expected, m = G.copy(), math.radians(20)
    for i, y in enumerate(CLASSES.astype(int)):
        c = scores[i, y]
        expected[i, y] *= math.cos(m) - c / math.sqrt(1 - c * c) * math.sin(m)
    same(dx, expected)


@pytest.mark.parametrize("degrees", [20.0, 90.0, 130.0, -35.0])
@pytest.mark.parametrize(("fields", "options"), [("", {}), ("exact_gradient: false", {"exact_gradients": True})])
def test_label_specific_margin_is_its_own_derivative_on_both_sides_of_the_guard(tmp_path, degrees, fields, options):
    model = fixed_margin(tmp_path, degrees, fields, **options)
    assert is_derivative(model, SCORES, CLASSES)
    scores = SCORES.copy()
    scores[range(6), CLASSES.astype(int)] = [-0.999, -0.985, -0.9, 0.9, 0.985, 0.999]
    assert is_derivative(model, scores, CLASSES)


def guarded(cosine, m):
    """ArcFace (easy_margin off): cos(theta + m), and cos(theta) - m sin m beyond theta + m = pi."""
    theta = math.acos(cosine)
    return math.cos(theta + m) if theta + m < math.pi else cosine - m * math.sin(m)


@pytest.mark.parametrize("degrees", [5.0, 20.0, 28.65, 60.0, 90.0])
def test_the_score_beyond_pi_is_arcfaces(tmp_path, degrees):
    model = fixed_margin(tmp_path, degrees)
    m = math.radians(np.float32(degrees))
    for cosine in np.linspace(-0.9999, 0.9999, 32):
        score, slope = label_slope(model, cosine)
        assert score == pytest.approx(guarded(cosine, m), rel=1e-9, abs=1e-9)
        if math.acos(cosine) + m > math.pi:
            assert slope == 1


@pytest.mark.parametrize("degrees", [1.0, 28.65, 100.0, 132.0, 135.0, 150.0, 180.0, 200.0, -28.65, -150.0])
def test_the_score_never_rises_with_the_angle(tmp_path, degrees):
    model = fixed_margin(tmp_path, degrees)
    found = [label_slope(model, math.cos(theta)) for theta in np.linspace(0.001, math.pi - 0.002, 187)]
    scores, slopes = np.array(found).T
    assert (np.diff(scores) < 0).all()
    assert (slopes > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("degrees", [28.65, 90.0, -28.65])
def test_the_slope_is_bounded_where_the_angle_is_0_or_half_a_turn(tmp_path, degrees, dtype):
    """sin(theta) counts as 1e-3 at least, so that |cos m + cot(theta) sin m| is at most 1 + 1000 |sin m|."""
    model = fixed_margin(tmp_path, degrees).to(dtype)
    most = 1 + 1000 * abs(math.sin(math.radians(degrees)))
    for edge in (1.0, 1 + 1e-6, 1 - 1e-7, 1 - 1e-9, -1.0, -1 - 1e-6, -1 + 1e-9):
        x = torch.zeros(6, 5, dtype=dtype)
        x[0, 0] = edge
        x.requires_grad_()
        model(x, torch.tensor(CLASSES))["out"].sum().backward()
        assert 0 < x.grad[0, 0].item() <= most * (1 + 1e-6)
    # Down to that angle it is the derivative.
    theta = 1.0001e-3
    _, slope = label_slope(model.double(), math.cos(theta))
    if degrees > 0:
        expected = math.sin(theta + math.radians(np.float32(degrees))) / math.sin(theta)
        assert slope == pytest.approx(expected, rel=1e-5)


def test_label_specific_margin_is_no_gradient_to_a_zero_margin(tmp_path):
    model = fixed_margin(tmp_path, 0.0)
    out, _, dx = outer(model, SCORES, CLASSES, G)
    same(out, SCORES)
    same(dx, G)


def test_margin_on_test_acts_in_the_test_phase_too_with_the_blobs_margin(tmp_path):
    model = fixed_margin(tmp_path, 20.0, "margin_base: 3 margin_on_test: true", phase="test")
    for _ in range(2):  # no schedule, and nothing is counted
        out, size, _ = outer(model, SCORES, CLASSES, G)
        assert size == 20
        same(out, at_angle(SCORES, CLASSES, 20))
    assert model.out.iteration == 0
    model = fixed_margin(tmp_path, 20.0, "margin_max: 15 margin_on_test: true", phase="test")
    out, size, _ = outer(model, SCORES, CLASSES, G)
    assert size == 15
    assert model.out.margin.item() == 20  # TEST stores nothing
    same(out, at_angle(SCORES, CLASSES, 15))


def added(scores, labels, bias):
    out = scores.copy()
    for i, y in enumerate(labels.astype(int)):
        out[i, y] += bias if scores[i, y] > -bias else 0
    return out


def test_transform_test_acts_in_the_test_phase_too_with_the_plain_bias(tmp_path):
    schedule = "bias: -0.375 bias_base: -0.125 bias_gamma: 0.25 bias_min: -1 bias_max: 1 transform_test: true"
    model = build(tmp_path, "LabelSpecificAdd", schedule, (6, 5), "out size")
    for t in range(3):
        out, size, dx = outer(model, SCORES, CLASSES, G)
        same(size, -0.125 + 0.25 * t)
        same(out, added(SCORES, CLASSES, size))
        same(dx, G)
    out, size, dx = outer(model.eval(), SCORES, CLASSES, G)
    assert size == -0.375 and model.out.iteration == 3
    same(out, added(SCORES, CLASSES, -0.375))
    same(dx, G)
    assert (out != SCORES).any()
    model = build(tmp_path, "LabelSpecificAdd", "bias: -0.375", (6, 5), "out size", phase="test")
    same(outer(model, SCORES, CLASSES, G)[0], SCORES)


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
