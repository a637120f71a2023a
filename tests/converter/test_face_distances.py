"""The unit vectors and distances of NormFace: the options that the fork's recordings (test_golden.py) do not have."""

from __future__ import annotations

import nets
import numpy as np
import pytest
import torch
from backends import assert_all, numbers, runs

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


@pytest.mark.parametrize(("kind", "fields"), [("L1", "exact_gradient: true"), ("L2", "")])
@pytest.mark.parametrize("bottoms", [1, 2])
def test_update_center_only_leaves_the_bottom_without_a_gradient(tmp_path, kind, fields, bottoms):
    message = f'inner_distance_param {{ distance_type: "{kind}" num_output: 5 update_center_only: true {fields} }}'
    if bottoms == 1:
        net = layer(tmp_path, "InnerDistance", message)
    else:
        text = nets.inputs(data=X.shape, w=W.shape) + nets.layer("InnerDistance", "data w", "out", message)
        net = nets.load(tmp_path, text)
    model = net.to_torch()
    x = torch.tensor(X, requires_grad=True)
    w = model.out.weight if bottoms == 1 else torch.tensor(W, requires_grad=True)
    made = model(x) if bottoms == 1 else model(x, w)
    (made * torch.tensor(G)).sum().backward()
    apart = X[:, None] - W
    np.testing.assert_allclose(
        made.detach().numpy(), np.abs(apart).sum(2) if kind == "L1" else (apart**2).sum(2), 1e-5, 1e-5
    )
    slope = np.sign(apart) if kind == "L1" else 2 * apart
    np.testing.assert_allclose(w.grad.numpy(), -(G[:, :, None] * slope).sum(0), 1e-5, 1e-5)
    assert x.grad is None


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
