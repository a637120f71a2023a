"""LabelSpecificHardMargin, RadialRemovalMargin, LabelSpecificAffine and GlobalLSEMargin against NumPy."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import onnxruntime
import pytest
import torch
from support import nets
from support.face_layers import build, is_derivative, leaf, same

RANDOM = np.random.default_rng(4)
X = RANDOM.uniform(-0.97, 0.97, (6, 7))
LABELS = np.array([2.0, 0.0, 6.0, -1.0, 2.0, 5.0])
ROWS = np.flatnonzero(LABELS >= 0)
OWN = LABELS[ROWS].astype(int)
SCALES = RANDOM.uniform(1, 20, 6)


def others_of(x):
    """The scores of the other classes, (rows with a class, C - 1)."""
    return np.array([np.delete(x[i], y) for i, y in zip(ROWS, OWN, strict=True)])


def test_hard_margin(tmp_path):
    model = build(tmp_path, "LabelSpecificHardMargin", "positive_weight: 0.75", (6, 7), "out report")
    x = leaf(X)
    tops = model(x, torch.tensor(LABELS))
    expected = X.copy()
    expected[ROWS, OWN] = 0.75 * X[ROWS, OWN] + 0.25 * others_of(X).mean(1)
    same(tops["out"].detach().numpy(), expected)
    same(tops["report"].numpy(), [np.degrees((expected - X).sum() / len(ROWS))])
    tops["out"].sum().backward()
    same(x.grad.numpy(), np.ones((6, 7)))
    exact = build(tmp_path, "LabelSpecificHardMargin", "positive_weight: 0.75 exact_gradient: true", (6, 7))
    assert is_derivative(exact, X, LABELS)


@pytest.mark.parametrize("with_scales", [False, True])
def test_radial_removal(tmp_path, with_scales):
    bottoms = "data label scales" if with_scales else "data label"
    shapes = {"data": (6, 7), "label": (6,), **({"scales": (6,)} if with_scales else {})}
    text = nets.layer("RadialRemovalMargin", bottoms, "out report", "radial_removal_margin_param { scale: 8 }")
    model = nets.load(tmp_path, nets.inputs(**shapes) + text, phase="train").to_torch().double()
    x = leaf(X)
    tops = model(x, torch.tensor(LABELS), *([torch.tensor(SCALES)] if with_scales else []))
    scale = SCALES[ROWS][:, None] if with_scales else 8
    others = others_of(X)
    weights = np.exp(scale * others)
    expected = X.copy()
    expected[ROWS, OWN] = (others * weights).sum(1) / weights.sum(1)
    same(tops["out"].detach().numpy(), expected)
    own = X[ROWS, OWN]
    soft = np.log(weights.sum(1)) / np.ravel(scale)
    report = [own.mean(), others.max(1).mean(), (own - expected[ROWS, OWN]).mean(), soft.mean()]
    same(tops["report"].detach().numpy(), report)
    tops["out"].sum().backward()
    same(x.grad.numpy(), np.ones((6, 7)))


AFFINE = (
    "scale_base: 0.5 scale_gamma: 0.5 scale_power: 2 scale_min: 0 scale_max: 9 bias_base: -0.25 bias_gamma: 0.125 "
    "bias_min: -1 bias_max: 1 power_base: 3 power_gamma: 1 power_min: 0.5 power_max: 2.5 iteration: 1"
)


def test_affine_over_passes(tmp_path):
    model = build(tmp_path, "LabelSpecificAffine", AFFINE, (6, 7), "out report")
    for t in range(1, 5):
        scale, bias, power = 0.5 * (1 + 0.5 * t) ** 2, -0.25 + 0.125 * t, min(max(3 / (1 + t), 0.5), 2.5)
        tops = model(torch.tensor(X), torch.tensor(LABELS))
        expected = X.copy()
        for i, y in zip(ROWS, OWN, strict=True):
            if X[i, y] > 0:
                raised = scale * X[i, y] ** power
                expected[i, y] = raised + bias if raised > -bias else raised
        same(tops["out"].numpy(), expected)
        same(tops["report"].numpy(), [scale, bias, power])
        np.testing.assert_allclose(model.out.numbers.numpy(), [scale, bias, power], rtol=1e-6)
    assert (X[ROWS, OWN] > 0).any() and (X[ROWS, OWN] < 0).any()


def test_affine_gradients(tmp_path):
    fields = "scale_base: 2 scale_max: 9 power_base: 1.5 power_max: 9"
    assert is_derivative(build(tmp_path, "LabelSpecificAffine", fields, (6, 7)), X, LABELS)
    x = leaf(X)
    build(tmp_path, "LabelSpecificAffine", f"{fields} original_bp: true", (6, 7))(
        x, torch.tensor(LABELS)
    ).sum().backward()
    same(x.grad.numpy(), np.ones((6, 7)))


def test_global_lse_margin_over_passes(tmp_path):
    x = X.copy()
    x[ROWS, OWN] = [0.9, 0.85, 0.8, 0.95, 0.7]
    fields = "filler { value: 7 } max_value: 6"
    model = build(tmp_path, "GlobalLSEMargin", fields, (6, 7), "out report")
    margin = 0.0
    for turn in range(3):
        bottom = leaf(x)
        tops = model(bottom, torch.tensor(LABELS))
        soft = (np.log(np.exp(6 * others_of(x)).sum(1)) / 6).mean()
        short = np.log(1 - x[ROWS, OWN])
        target = 1 - math.exp(short.mean() - (short.std() * 5 / 4) ** 2)
        margin = target - soft if turn == 0 else 0.9 * margin + 0.1 * (target - soft)
        assert margin > 0
        expected = 6 * x
        expected[ROWS, OWN] -= 6 * margin
        same(tops["out"].detach().numpy(), expected)
        same(tops["report"].detach().numpy(), [6, target, soft, margin])
    model.zero_grad()
    gradient = RANDOM.normal(size=(6, 7))
    tops["out"].backward(torch.tensor(gradient))
    same(bottom.grad.numpy(), 6 * gradient)
    same(model.out.scale.grad.numpy(), [(gradient * expected / 6).sum()])


@pytest.mark.parametrize("with_scales", [False, True])
def test_global_lse_margin_in_test_and_onnx(tmp_path, with_scales):
    bottoms = "data label scales" if with_scales else "data label"
    shapes = {"data": (6, 7), "label": (6,), **({"scales": (6,)} if with_scales else {})}
    text = nets.inputs(**shapes) + nets.layer("GlobalLSEMargin", bottoms, "out", "scale_param { max_value: 20 }")
    net = nets.load(tmp_path, text)
    expected = X * SCALES[:, None] if with_scales else 20 * X
    inputs = {"data": X, "label": LABELS, "scales": SCALES}
    made = net.to_torch().eval().double()(*(torch.tensor(inputs[name]) for name in net.inputs))
    same(made.detach().numpy(), expected)
    net.to_onnx(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    feed = {entry.name: inputs[entry.name].astype(np.float32) for entry in session.get_inputs()}
    np.testing.assert_allclose(session.run(None, feed)[0], expected, rtol=1e-5)
    assert nets.load(tmp_path, text).layers[-1].blobs[0] == np.float32(30)


@pytest.mark.parametrize(
    ("kind", "fields", "shape", "problem"),
    [
        ("LabelSpecificHardMargin", "", (5, 1), "expected scores of 2 classes or more"),
        ("LabelSpecificAffine", "auto_tune: true", (5, 7), "auto_tune is not supported"),
        ("LabelSpecificAffine", "transform_test: true", (5, 7), "transform_test is not supported"),
    ],
)
def test_refused(tmp_path, kind, fields, shape, problem):
    with pytest.raises(caffeport.NetError, match=rf'layer "out" \({kind}\): {problem}'):
        build(tmp_path, kind, fields, shape)
