"""AttPooling and PwAttend against a loop over the windows that follows their definition."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import assert_all, assert_gradients, numbers


def attend(x, weights, size, pad=0, stride=1, dilation=1, everywhere=False):
    """Place by place; everywhere: the only window serves every place of the weights."""
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    y = np.zeros((*x.shape[:2], *weights.shape[2:]))
    for n, i, j in np.ndindex(len(x), *weights.shape[2:]):
        for row, column in np.ndindex(size, size):
            top, left = (0, 0) if everywhere else (i * stride, j * stride)
            pixel = x[n, :, top + row * dilation, left + column * dilation]
            y[n, :, i, j] += weights[n, row * size + column, i, j] * pixel
    return y


def load(tmp_path, x, weights, text, kind="AttPooling", field="att_pooling_param"):
    return nets.load(
        tmp_path, nets.inputs(x=x, weights=weights) + nets.layer(kind, "x weights", "y", f"{field} {{ {text} }}")
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "pad", "stride", "dilation", "places"),
    [(3, 1, 1, 1, (5, 6)), (2, 0, 1, 1, (4, 5)), (3, 2, 2, 2, (3, 3)), (1, 0, 1, 1, (5, 6)), (3, 6, 1, 6, (5, 6))],
)
def test_local(tmp_path, size, pad, stride, dilation, places):
    text = f"kernel_size: {size} pad: {pad} stride: {stride} dilation: {dilation}"
    net = load(tmp_path, (1, 2, 5, 6), (1, size**2, *places), text)
    x, weights = numbers(2, 2, 5, 6), numbers(2, size**2, *places, seed=1)
    assert_all(net, tmp_path, attend(x, weights, size, pad, stride, dilation), x, weights)
    assert_gradients(net, x[:1], weights[:1])


@pytest.mark.parametrize(
    ("text", "size", "pad", "dilation"),
    [("", 4, 0, 1), ("kernel_size: 4", 4, 0, 1), ("kernel_size: 3 pad: 1 dilation: 2", 3, 1, 2)],
)
def test_global(tmp_path, text, size, pad, dilation):
    side = dilation * (size - 1) + 1 - 2 * pad
    net = load(tmp_path, (1, 2, side, side), (1, size**2, 3, 5), f"att_mode: GLOBAL {text}")
    x, weights = numbers(2, 2, side, side), numbers(2, size**2, 3, 5, seed=1)
    assert_all(net, tmp_path, attend(x, weights, size, pad, 1, dilation, everywhere=True), x, weights)
    assert_gradients(net, x[:1], weights[:1])


def test_the_earlier_name(tmp_path):
    text = "att_mode: LOCAL kernel_size: 5 pad: 2"
    net = load(tmp_path, (2, 3, 8, 8), (2, 25, 8, 8), text, "PwAttend", "pw_attend_param")
    x, weights = numbers(2, 3, 8, 8), numbers(2, 25, 8, 8, seed=1)
    assert_all(net, tmp_path, attend(x, weights, 5, 2), x, weights)


def test_another_size(tmp_path):
    model = load(tmp_path, (1, 2, 5, 6), (1, 9, 5, 6), "kernel_size: 3 pad: 1").to_torch()
    x, weights = numbers(1, 2, 7, 4), numbers(1, 9, 7, 4, seed=1)
    # Sums of nine products in float32.
    np.testing.assert_allclose(model(torch.tensor(x), torch.tensor(weights)), attend(x, weights, 3, 1), 1e-5, 1e-6)


@pytest.mark.parametrize(
    ("x", "weights", "text", "message"),
    [
        ((1, 2, 5, 5), (1, 9, 5, 5), "pad: 1", "expected a kernel_size"),
        ((1, 2, 5, 5), (1, 9, 5, 5), "kernel_size: 33", "expected a kernel_size from 1 to 32, got 33"),
        ((1, 2, 5, 5), (1, 9, 5, 5), "kernel_size: 3 stride: 0", "expected a stride and a dilation of 1 or more"),
        ((1, 2, 5, 5), (1, 25, 1, 1), "att_mode: GLOBAL stride: 2", "expected a stride of 1 with a GLOBAL att_mode"),
        ((1, 2, 5, 6), (1, 30, 1, 1), "att_mode: GLOBAL", "expected a square first bottom"),
        ((1, 2, 5, 5), (1, 9, 1, 1), "att_mode: GLOBAL kernel_size: 3", r"has \(3, 3\) places for it"),
        ((1, 2, 5, 5), (1, 9, 5, 5), "kernel_size: 3", r"expected weights of \(1, 9, 3, 3\)"),
        ((1, 2, 40, 40), (1, 1600, 1, 1), "att_mode: GLOBAL", "at most 32 rows"),
        ((1, 2, 2, 2), (1, 9, 1, 1), "kernel_size: 3", "expected weights of"),
    ],
)
def test_refused(tmp_path, x, weights, text, message):
    with pytest.raises(caffeport.CaffeportError, match=message):
        load(tmp_path, x, weights, text)
