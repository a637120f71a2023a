"""The layers of DeconvNet, against loops that follow their definitions."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import assert_all, assert_gradients, numbers


def unpool(x, how, kernel, stride, size, mask=None):
    y = np.zeros((*x.shape[:2], *size))
    for n, c, i, j in np.ndindex(*x.shape):
        if how == "MAX":
            place = (i * stride, j * stride) if mask is None else divmod(int(mask[n, c, i, j]), size[1])
            y[(n, c, *place)] = x[n, c, i, j]
            continue
        rows = slice(i * stride, min(i * stride + kernel, size[0]))
        columns = slice(j * stride, min(j * stride + kernel, size[1]))
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        y[n, c, rows, columns] += x[n, c, i, j] / (area if how == "AVE" else 1)
    return y


@pytest.mark.parametrize("how", ["MAX", "AVE", "TILE"])
@pytest.mark.parametrize(
    ("kernel", "stride", "size"), [(2, 2, (6, 8)), (3, 2, (7, 9)), (3, 2, (6, 8)), (2, 3, (9, 12)), (1, 1, (3, 4))]
)
def test_unpooling(tmp_path, how, kernel, stride, size):
    text = f"unpooling_param {{ unpool: {how} kernel_size: {kernel} stride: {stride} "
    text += f"unpool_h: {size[0]} unpool_w: {size[1]} }}"
    net = nets.load(tmp_path, nets.inputs(x=(1, 3, 3, 4)) + nets.layer("Unpooling", "x", "y", text))
    x = numbers(2, 3, 3, 4)
    assert_all(net, tmp_path, unpool(x.astype(np.float64), how, kernel, stride, size), x)
    if how != "TILE":
        assert_gradients(net, x[:1])
        return
    tensor, weights = torch.tensor(x, requires_grad=True), numbers(2, 3, *size, seed=1)
    (net.to_torch()(tensor) * torch.tensor(weights)).sum().backward()
    expected = np.zeros(x.shape)
    for i, j in np.ndindex(3, 4):  # the mean over each window
        window = weights[:, :, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
        expected[:, :, i, j] = window.mean((2, 3))
    np.testing.assert_allclose(tensor.grad, expected, 1e-4, 1e-6)


def test_unpooling_by_a_mask(tmp_path):
    """A MAX pooling and back, as in DeconvNet."""
    text = nets.inputs(x=(1, 2, 6, 8)) + nets.layer(
        "Pooling", "x", "p mask", "pooling_param { kernel_size: 2 stride: 2 }"
    )
    unpooling = "unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_h: 6 unpool_w: 8 }"
    net = nets.load(tmp_path, text + nets.layer("Unpooling", "p mask", "y", unpooling))
    x = numbers(2, 2, 6, 8)
    highest = x.reshape(2, 2, 3, 2, 4, 2).max((3, 5), keepdims=True)
    expected = np.where(x.reshape(2, 2, 3, 2, 4, 2) == highest, highest, 0).reshape(x.shape)
    assert_all(net, tmp_path, expected, x)
    given = nets.inputs(x=(1, 2, 2, 2), m=(1, 2, 2, 2)) + nets.layer("Unpooling", "x m", "y", unpooling)
    values, mask = numbers(3, 2, 2, 2), np.arange(24, dtype=np.float32).reshape(3, 2, 2, 2) * 2
    net = nets.load(tmp_path, given)
    assert_all(net, tmp_path, unpool(values, "MAX", 2, 2, (6, 8), mask), values, mask)
    assert_gradients(net, values, mask)
    assert net.check().ok


@pytest.mark.parametrize("text", ["", "top_k: 2", "ignore_label: 255", "use_label: 1", "top_k: 2 ignore_label: 0"])
def test_eltwise_accuracy(tmp_path, text):
    layers = nets.inputs(x=(2, 4, 3, 5), label=(2, 1, 3, 5))
    layers += nets.layer("EltwiseAccuracy", "x label", "a", f"eltwise_accuracy_param {{ {text} }}")
    net = nets.load(tmp_path, layers)
    options = dict(zip(text.replace(":", "").split()[::2], map(int, text.replace(":", "").split()[1::2]), strict=True))
    random = np.random.default_rng(0)
    x, label = random.integers(0, 4, (2, 4, 3, 5)).astype(np.float32), random.integers(0, 4, (2, 1, 3, 5))
    if "ignore_label" in options:
        label[0, 0, 0] = options["ignore_label"]
    right = seen = 0
    for n, i, j in np.ndindex(2, 3, 5):
        wanted = label[n, 0, i, j]
        if wanted == options.get("ignore_label") or options.get("use_label", wanted) != wanted:
            continue
        order = sorted(((x[n, c, i, j], c) for c in range(4)), reverse=True)  # of equal scores the later class first
        right, seen = right + (wanted in [c for _, c in order[: options.get("top_k", 1)]]), seen + 1
    made = net.to_torch()(torch.tensor(x), torch.tensor(label).float())
    assert made.shape == (1, 1, 1, 1)
    np.testing.assert_allclose(made.item(), right / seen, 1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kernel_size: 2 stride: 2", "a size \\(unpool_size\\) of 1 or more"),
        ("unpool_size: 8", "a kernel of 1 or more"),
        ("kernel_size: 2 stride: 2 unpool_size: 8 pad: 1", "expected no pad"),
        ("kernel_size: 2 stride: 2 unpool_size: 3", "beyond the unpool size"),
    ],
)
def test_refusals(tmp_path, text, words):
    with pytest.raises(caffeport.NetError, match=words):
        nets.load(
            tmp_path, nets.inputs(x=(1, 2, 3, 3)) + nets.layer("Unpooling", "x", "y", f"unpooling_param {{ {text} }}")
        )
    with pytest.raises(caffeport.NetError, match="a mask is for MAX only"):
        layer = nets.layer("Unpooling", "x x", "y", "unpooling_param { unpool: AVE kernel_size: 2 unpool_size: 8 }")
        nets.load(tmp_path, nets.inputs(x=(1, 2, 3, 3)) + layer)
