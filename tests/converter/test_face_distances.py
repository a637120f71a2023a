"""The unit vectors and distances of NormFace: the options that the fork's recordings (test_golden.py) do not have."""

from __future__ import annotations

import caffeport
import numpy as np
import onnxruntime
import pytest
import torch
from support import nets
from support.backends import assert_all, numbers, runs

X, W = numbers(4, 6, seed=1), numbers(5, 6, seed=2)
G = numbers(4, 5, seed=3)


def layer(tmp_path, kind, message, weight=W, **options):
    text = nets.inputs(data=X.shape) + nets.layer(kind, "data", "out", message)
    return nets.load(tmp_path, text, **options).with_weights({"out": [weight]})


def unit(weight, eps):
    return weight / np.sqrt((weight**2).sum(1, keepdims=True) + eps)


@pytest.mark.parametrize("eps", [None, 0.5])
def test_inner_product_of_unit_rows(tmp_path, eps):
    fields = f"normalize_eps: {eps}" if eps else ""
    message = f"inner_product_param {{ num_output: 5 bias_term: false normalize: true {fields} }}"
    assert_all(layer(tmp_path, "InnerProduct", message), tmp_path, X @ unit(W, eps or 1e-6).T, X)
    message = f"inner_product_param {{ num_output: 5 bias_term: false normalize: true transpose: true {fields} }}"
    assert_all(layer(tmp_path, "InnerProduct", message, W.T.copy()), tmp_path, X @ unit(W, eps or 1e-6).T, X)


def test_layers_that_share_a_weight_but_not_the_eps(tmp_path):
    text = nets.inputs(data=X.shape)
    for name, eps in (("a", 0.5), ("b", 2.0)):
        message = f"inner_product_param {{ num_output: 5 bias_term: false normalize: true normalize_eps: {eps} }}"
        text += nets.layer("InnerProduct", "data", name, 'param { name: "w" } ' + message)
    net = nets.load(tmp_path, text + nets.layer("Concat", "a b", "out")).with_weights({"a": [W]})
    assert_all(net, tmp_path, np.concatenate([X @ unit(W, 0.5).T, X @ unit(W, 2.0).T], 1), X)


def squared(x, w):
    return ((x[:, None] - w) ** 2).sum(2)


@pytest.mark.parametrize("eps", [None, 0.5])
def test_inner_distance_to_unit_rows(tmp_path, eps):
    fields = f"normalize_eps: {eps}" if eps else ""
    message = f"inner_distance_param {{ num_output: 5 normalize: true {fields} }}"
    assert_all(layer(tmp_path, "InnerDistance", message), tmp_path, squared(X, unit(W, eps or 1e-6)), X)


LABELS = np.array([2, 0, 2, 4])  # class 2 has two samples, 1 and 3 have none


def own_rows(kind, x, w, labels, g):
    """(distances, dx, dW) in float64, one sample and class after another; kind "L1 fork" has its macro's gradient."""

    def slope(gradient, apart):
        if kind == "L2":
            return 2 * gradient * apart
        if kind == "L1":
            return gradient * np.sign(apart)
        return np.where(apart > 0, gradient, np.where(apart < 0, -1.0, 0.0))

    x, w, g = x.astype(np.float64), w.astype(np.float64), g.astype(np.float64)
    distances, dx, dw = np.zeros_like(g), np.zeros_like(x), np.zeros_like(w)
    for i, sample in enumerate(x):
        for j, row in enumerate(w):
            apart = sample - row
            distances[i, j] = (apart**2 if kind == "L2" else np.abs(apart)).sum()
            dx[i] += slope(g[i, j], apart)
            if j == labels[i]:
                dw[j] += slope(g[i, j], -apart)
    return distances, dx, dw


@pytest.mark.parametrize("kind", ["L2", "L1", "L1 fork"])
@pytest.mark.parametrize("form", ["blob", "blob, rows of unit length", "bottom", "bottom of four axes"])
def test_update_center_only_moves_only_a_samples_own_row(tmp_path, kind, form):
    """The fork's meaning: dW's part of a sample only in the row of its label (the last bottom), dx whole."""
    fields = f'distance_type: "{kind[:2]}" num_output: 5 update_center_only: true'
    fields += " exact_gradient: true" if kind == "L1" else ""
    fields += " normalize: true" if "unit" in form else ""
    shape = (*W.shape, 1, 1) if "four" in form else W.shape
    if "blob" in form:
        text = nets.inputs(data=X.shape, label=(4,))
        text += nets.layer("InnerDistance", "data label", "out", f"inner_distance_param {{ {fields} }}")
        net = nets.load(tmp_path, text, phase="train").with_weights({"out": [W]})
    else:
        text = nets.inputs(data=X.shape, w=shape, label=(4,))
        text += nets.layer("InnerDistance", "data w label", "out", f"inner_distance_param {{ {fields} }}")
        net = nets.load(tmp_path, text, phase="train")
    model = net.to_torch()
    x, label = torch.tensor(X, requires_grad=True), torch.tensor(LABELS, dtype=torch.float32)
    w = model.out.weight if "blob" in form else torch.tensor(W.reshape(shape), requires_grad=True)
    made = model(x, label) if "blob" in form else model(x, w, label)
    (made * torch.tensor(G)).sum().backward()
    used = unit(W, 1e-6) if "unit" in form else W
    distances, dx, dw = own_rows(kind, X, used, LABELS, G)
    np.testing.assert_allclose(made.detach().numpy(), distances, 1e-5, 1e-5)
    np.testing.assert_allclose(x.grad.numpy(), dx, 1e-5, 1e-5)
    np.testing.assert_allclose(w.grad.numpy().reshape(W.shape), dw, 1e-5, 1e-5)
    assert not w.grad[[1, 3]].any()


def test_update_center_only_with_more_axes_before_the_features(tmp_path):
    """x (2, 2, 6) and axis 2: four rows, four labels."""
    text = nets.inputs(data=(2, 2, 6), label=(2, 2))
    message = "inner_distance_param { num_output: 5 axis: 2 update_center_only: true }"
    net = nets.load(tmp_path, text + nets.layer("InnerDistance", "data label", "out", message), phase="train")
    model = net.with_weights({"out": [W]}).to_torch()
    made = model(torch.tensor(X.reshape(2, 2, 6)), torch.tensor(LABELS.reshape(2, 2), dtype=torch.float32))
    (made * torch.tensor(G.reshape(2, 2, 5))).sum().backward()
    distances, _, dw = own_rows("L2", X, W, LABELS, G)
    np.testing.assert_allclose(made.detach().numpy().reshape(4, 5), distances, 1e-5, 1e-5)
    np.testing.assert_allclose(model.out.weight.grad.numpy(), dw, 1e-5, 1e-5)


@pytest.mark.parametrize(
    ("bottoms", "fields", "problem"),
    [
        ("data", "num_output: 5 update_center_only: true", r"takes the labels as the last bottom: .*got one bottom"),
        ("data label", "update_center_only: true", "expected a num_output of 1 or more, got 0"),
        ("data w", "num_output: 5 update_center_only: true", r"expected 4 labels for a bottom \(4, 6\) .*got \(5, 6\)"),
        ("data w w", "update_center_only: true", r"expected 4 labels .*got \(5, 6\)"),
        ("data w label", "", "labels as bottom 2 are for update_center_only"),
    ],
)
def test_labels_of_inner_distance_that_do_not_fit_are_refused(tmp_path, bottoms, fields, problem):
    text = nets.inputs(data=X.shape, w=W.shape, label=(4,))
    text += nets.layer("InnerDistance", bottoms, "out", f"inner_distance_param {{ {fields} }}")
    with pytest.raises(caffeport.NetError, match=rf'layer "out" \(InnerDistance\): .*{problem}'):
        nets.load(tmp_path, text)


def test_a_label_of_inner_distance_out_of_range_is_an_error(tmp_path):
    text = nets.inputs(data=X.shape, label=(4,))
    message = "inner_distance_param { num_output: 5 update_center_only: true }"
    model = nets.load(tmp_path, text + nets.layer("InnerDistance", "data label", "out", message)).to_torch()
    for wrong in (5.0, float("nan")):
        with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
            model(torch.tensor(X), torch.tensor([0.0, 1.0, wrong, 0.0]))


def test_onnx_of_update_center_only_is_the_distances(tmp_path):
    text = nets.inputs(data=X.shape, label=(4,))
    message = "inner_distance_param { num_output: 5 update_center_only: true }"
    net = nets.load(tmp_path, text + nets.layer("InnerDistance", "data label", "out", message))
    net.with_weights({"out": [W]}).to_onnx(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    feed = {"data": X, "label": LABELS.astype(np.float32)}
    (out,) = session.run(None, {bottom.name: feed[bottom.name] for bottom in session.get_inputs()})
    np.testing.assert_allclose(out, squared(X, W), 1e-5, 1e-5)


@pytest.mark.parametrize(("field", "options"), [("exact_gradient: true", {}), ("", {"exact_gradients": True})])
def test_l1_distance_exact_gradients(tmp_path, field, options):
    message = f'inner_distance_param {{ distance_type: "L1" num_output: 5 {field} }}'
    model = layer(tmp_path, "InnerDistance", message, **options).to_torch()
    x = torch.tensor(X, requires_grad=True)
    (model(x) * torch.tensor(G)).sum().backward()
    slope = G[:, :, None] * np.sign(X[:, None] - W)
    np.testing.assert_allclose(x.grad.numpy(), slope.sum(1), 1e-5, 1e-6)
    np.testing.assert_allclose(model.out.weight.grad.numpy(), -slope.sum(0), 1e-5, 1e-6)


@pytest.mark.parametrize("eps", [1e-6, 0.5])
@pytest.mark.parametrize("kind", ["L1", "L2"])
def test_normalize_by_a_norm_with_an_eps(tmp_path, kind, eps):
    text = nets.inputs(data=X.shape)
    text += nets.layer("Normalize", "data", "out", f'normalize_param {{ normalize_type: "{kind}" eps: {eps} }}')
    norm = np.abs(X).sum(1, keepdims=True) + eps if kind == "L1" else np.sqrt((X**2).sum(1, keepdims=True) + eps)
    net = nets.load(tmp_path, text)
    assert_all(net, tmp_path, (X / norm)[:, :, None, None], X)
    for found in runs(net, tmp_path, np.zeros_like(X)):
        assert not found.any()
