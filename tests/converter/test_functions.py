"""Elementwise functions of forks, and sums that broadcast or run over axes, against their formulas in NumPy."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import assert_all, assert_gradients, numbers

X = (2, 3, 4, 5)


def one_layer(tmp_path, kind, parameters="", shape=X):
    return nets.load(tmp_path, nets.inputs(x=shape) + nets.layer(kind, "x", "y", parameters))


def selu(scale, alpha):
    return lambda x: scale * np.where(x > 0, x, alpha * (np.exp(x) - 1))


FUNCTIONS = [
    ("Mish", "", lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    ("SeLU", "", selu(1.050700987, 1.67326324)),
    ("SeLu", "selu_param { lambda: 1.5 alpha: 0.7 }", selu(1.5, 0.7)),
    ("SELU", "selu_param { alpha: 2 }", selu(1.050700987, 2)),
    ("HardSigmoid", "", lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
    ("HardSigmoid", "hard_sigmoid_param { alpha: 0.7 beta: 0.1 }", lambda x: np.clip(0.7 * x + 0.1, 0, 1)),
    ("HSigmoid", "", lambda x: np.clip(x + 3, 0, 6) / 6),
    ("HardTanH", "", lambda x: np.clip(x, -1, 1)),
    ("Softplus", "", lambda x: np.log1p(np.exp(x))),
    ("Softsign", "", lambda x: x / (1 + np.abs(x))),
    ("ThresholdedReLU", "", lambda x: np.where(x > 1, x, 0)),
    ("ThresholdedReLU", "thresholded_relu_param { alpha: 0.3 }", lambda x: np.where(x > 0.3, x, 0)),
    ("ScaledTanH", "scaled_tanh_param { alpha: 1.7 beta: 0.6 }", lambda x: 1.7 * np.tanh(0.6 * x)),
    ("LogSoftmax", "", lambda x: x - np.log(np.exp(x).sum(1, keepdims=True))),
    ("LogSoftmax", "log_softmax_param { axis: -1 }", lambda x: x - np.log(np.exp(x).sum(3, keepdims=True))),
    ("Floor", "", np.floor),
    ("Ceil", "", np.ceil),
    ("Round", "", np.rint),
    ("Atan", "", np.arctan),
    ("Sin", "", np.sin),
    ("ReLU", "relu_param { relu6: true }", lambda x: np.clip(x, 0, 6)),
    ("ReLU", "relu_param { maximum: 1.5 negative_slope: 0.5 }", lambda x: np.minimum(np.where(x > 0, x, 0.5 * x), 1.5)),
    ("ReLU", "relu_param { maximum: 2 minimum: 0.5 }", lambda x: np.clip(x, 0.5, 2)),
]


@pytest.mark.parametrize(("kind", "parameters", "formula"), FUNCTIONS)
def test_functions(tmp_path, kind, parameters, formula):
    net = one_layer(tmp_path, kind, parameters)
    x = numbers(3, 3, 4, 5) * 4
    assert_all(net, tmp_path, formula(x.astype(np.float64)), x)
    if kind not in ("Floor", "Ceil", "Round"):
        assert_gradients(net, x)


def test_halves_are_rounded_to_even(tmp_path):
    x = np.resize(np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32), X)
    assert_all(one_layer(tmp_path, "Round"), tmp_path, np.resize([-2.0, -2, 0, 0, 2, 2], X), x)


PAIRS = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Maximum": np.maximum,
    "Minimum": np.minimum,
}  # fmt: skip


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize(("a", "b"), [(X, X), (X, (4, 1)), ((1, 5), (2, 3, 4, 1)), ((2, 1, 4), ()), ((1,), (2, 3))])
@pytest.mark.filterwarnings("ignore:.*fixes the batch size:caffeport.CaffeportWarning")
def test_pairs(tmp_path, kind, a, b):
    net = nets.load(tmp_path, nets.inputs(a=a, b=b) + nets.layer(kind, "a b", "y"))
    x, y = numbers(*a), np.asarray(numbers(*b, seed=1) + 3, np.float32)
    expected = PAIRS[kind](x.astype(np.float64), y.astype(np.float64))
    assert net.blob_shapes["y"] == expected.shape
    assert_all(net, tmp_path, expected, x, y)
    assert_gradients(net, x, y)


def test_mul_by_a_blob(tmp_path):
    net = one_layer(tmp_path, "Mul", "mul_param { mul_shape: 3 mul_shape: 1 mul_shape: 5 }")
    net.layers[-1].params[0].data = weight = numbers(3, 1, 5, seed=2)
    x = numbers(3, 3, 4, 5)
    assert_all(net, tmp_path, x * weight.astype(np.float64), x)
    model = net.to_torch()
    model(torch.tensor(x)).sum().backward()
    np.testing.assert_allclose(next(model.parameters()).grad, x.sum((0, 2))[:, None], 1e-4, 1e-4)


REDUCTIONS = {
    "ReduceSum": np.sum, "ReduceMean": np.mean, "ReduceMax": np.max, "ReduceMin": np.min, "ReduceProd": np.prod,
    "ReduceL1": lambda x, axis, keepdims: np.abs(x).sum(axis, keepdims=keepdims),
    "ReduceL2": lambda x, axis, keepdims: np.sqrt((x**2).sum(axis, keepdims=keepdims)),
}  # fmt: skip


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("axes", [(), (1,), (2, -1)])
def test_reductions(tmp_path, kind, keepdims, axes):
    message = {"ReduceL1": "reduce_l1_param", "ReduceL2": "reduce_l2_param"}.get(
        kind, f"reduce_{kind.removeprefix('Reduce').lower()}_param"
    )
    norm = kind[-1].isdigit()
    words = [f"{'axes' if norm else 'axis'}: {axis}" for axis in axes]
    words.append(f"keepdims: {int(keepdims) if norm else str(keepdims).lower()}")
    net = one_layer(tmp_path, kind, f"{message} {{ {' '.join(words)} }}")
    x = numbers(4, 3, 4, 5)
    expected = np.asarray(REDUCTIONS[kind](x.astype(np.float64), axis=axes or None, keepdims=keepdims))
    assert_all(net, tmp_path, expected, x)
    assert_gradients(net, x[:1])


@pytest.mark.parametrize(
    ("kind", "parameters", "words"),
    [
        ("ScaledTanH", "", "needs alpha and beta"),
        ("ReLU", "relu_param { saturate: Signed }", "asks for fixed-point"),
        ("Mul", "mul_param { mul_shape: 2 }", "axes of one length"),
        ("Mul", "mul_param { mul_shape: 0 }", "axes of 1 or more"),
        ("LogSoftmax", "log_softmax_param { axis: 7 }", "axis 7 is out of range"),
        ("ReduceSum", "reduce_sum_param { axis: 4 }", "axis 4 is out of range"),
    ],
)
def test_refusals(tmp_path, kind, parameters, words):
    with pytest.raises(caffeport.NetError, match=words):
        one_layer(tmp_path, kind, parameters)
