"""CosinAddm, CombinedMargin and AdaCosAddmScale against their formulas in NumPy, and what they refuse."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import onnxruntime
import pytest
import torch
from support import nets
from support.face_layers import build, is_derivative, leaf, one_layer, same

X = np.random.default_rng(3).uniform(-0.97, 0.97, (6, 7))
LABELS = np.array([2.0, 0.0, 6.0, -1.0, 2.0, 5.0])


def guarded(cosine: float, m1: float, m2: float, m3: float, arcface: bool) -> float:
    """cos(m1 theta + m2) - m3; beyond half a turn as the cosine, joined without a jump, or as ArcFace has it."""
    theta = math.acos(cosine)
    if m1 * theta + m2 <= math.pi:
        return math.cos(m1 * theta + m2) - m3
    last = (math.pi - m2) / m1
    return cosine - m3 - (m2 * math.sin(m2) if arcface else math.cos(last) + 1)


def with_margin(x, labels, m1, m2, m3=0.0, arcface=True, t=1.0):
    y = x.copy()
    for i, label in enumerate(labels.astype(int)):
        if label < 0:
            continue
        score = guarded(x[i, label], m1, m2, m3, arcface)
        hard = x[i] > score
        y[i, hard] = t * x[i, hard] + t - 1
        y[i, label] = score
    return y


CASES = [
    ("CosinAddm", "", with_margin(X, LABELS, 1, 0.5)),
    ("CosinAddm", "m: 1.25 t: 1.5", with_margin(X, LABELS, 1, 1.25, t=1.5)),
    ("CombinedMargin", "", with_margin(X, LABELS, 4, 0.5, 0.35, arcface=False)),
    ("CombinedMargin", "m1: 1 m2: 0.5 m3: 0.25", with_margin(X, LABELS, 1, 0.5, 0.25)),
    ("CombinedMargin", "m1: 0.5 m2: 0.25 m3: 0", with_margin(X, LABELS, 0.5, 0.25, arcface=False)),
]


@pytest.mark.parametrize(("kind", "fields", "expected"), CASES)
def test_scores(tmp_path, kind, fields, expected):
    """Text has 0.35 as a float32."""
    made = build(tmp_path, kind, fields, (6, 7))(torch.tensor(X), torch.tensor(LABELS)).numpy()
    np.testing.assert_allclose(made, expected, rtol=1e-7, atol=1e-7)
    tested = build(tmp_path, kind, fields, (6, 7), phase="test").eval()
    same(tested(torch.tensor(X), torch.tensor(LABELS)).numpy(), X)
    acting = build(tmp_path, kind, f"{fields} transform_test: true", (6, 7), phase="test").eval()
    np.testing.assert_allclose(acting(torch.tensor(X), torch.tensor(LABELS)).numpy(), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("kind", "fields", "expected"), CASES)
def test_the_gradient_is_the_derivative(tmp_path, kind, fields, expected):
    assert is_derivative(build(tmp_path, kind, fields, (6, 7)), X, LABELS)


@pytest.mark.parametrize("fields", ["m1: 4 m2: 0.5", "m1: 1 m2: 2.75", "m1: 2.5 m2: -0.5", "m1: 0.5 m2: 0.25"])
def test_the_score_never_rises_with_the_angle(tmp_path, fields):
    x = leaf(np.cos(np.linspace(0.01, 3.13, 200))[:, None])
    y = build(tmp_path, "CombinedMargin", fields, (200, 1))(x, torch.zeros(200))
    assert (y.diff(dim=0) < 0).all()
    y.sum().backward()
    assert (x.grad >= 0).all()


@pytest.mark.parametrize("kind", ["CosinAddm", "CombinedMargin", "AdaCosAddmScale"])
def test_cosines_at_and_beyond_one(tmp_path, kind):
    x = leaf(np.array([[1.0, 0.2], [1.0001, 0.2], [-1.0, 0.2], [-1.0001, 0.2]]))
    y = build(tmp_path, kind, "num_classes: 4" if kind[0] == "A" else "", (4, 2))(x, torch.zeros(4))
    y.sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all() and x.grad.abs().max() < 2e4


def test_the_scale_of_adacos_follows_the_scores(tmp_path):
    model = build(tmp_path, "AdaCosAddmScale", "m: 0.5 num_classes: 100", (6, 7))
    scale = math.sqrt(2) * math.log(99)
    has_class = LABELS >= 0
    for _ in range(3):
        others = np.exp(scale * X)
        others[has_class, LABELS[has_class].astype(int)] = 1  # exp of 0, as published
        angle = min(np.arccos(X[has_class]).mean(), math.pi / 4)
        scale = math.log(others[has_class].sum() / has_class.sum()) / math.cos(angle)
        x = leaf(X)
        y = model(x, torch.tensor(LABELS))
        same(y.detach().numpy(), scale * with_margin(X, LABELS, 1, 0.5))
    y.sum().backward()
    same(x.grad[3].numpy(), np.full(7, scale))  # without a class; the scale is a constant


def test_onnx_passes_scores_through(tmp_path):
    for kind in ("CosinAddm", "CombinedMargin", "AdaCosAddmScale"):
        net = nets.load(tmp_path, one_layer(kind, "", (6, 7)))
        net.to_onnx(tmp_path / "net.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
        x = X.astype(np.float32)
        (y,) = session.run(None, {name: x if name == "data" else LABELS.astype(np.float32)
                                  for name in [entry.name for entry in session.get_inputs()]})  # fmt: skip
        np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize(
    ("kind", "fields", "problem"),
    [
        ("CosinAddm", "t: 0.5", "expected a t of 1 or more, got 0.5"),
        ("CombinedMargin", "m1: 0", "expected an m1 above 0, got 0"),
        ("AdaCosAddmScale", "num_classes: 2", "expected a num_classes above 2, got 2"),
        ("AdaCosAddmScale", "num_classes: inf", "expected a finite num_classes"),
    ],
)
def test_refused(tmp_path, kind, fields, problem):
    with pytest.raises(caffeport.NetError, match=rf'layer "out" \({kind}\): {problem}'):
        build(tmp_path, kind, fields)
