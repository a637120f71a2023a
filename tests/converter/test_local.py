"""Local against a loop over the places that follows its definition."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
from support import nets
from support.backends import assert_all, assert_gradients, numbers


def local(x, weight, bias, size, stride=1, pad=0):
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    rows, columns = ((n - size) // stride + 1 for n in x.shape[2:])
    y = np.zeros((len(x), len(weight), rows, columns))
    for n, m, i, j in np.ndindex(*y.shape):
        window = x[n, :, i * stride : i * stride + size, j * stride : j * stride + size]
        y[n, m, i, j] = window.ravel() @ weight[m, 0, :, i * columns + j]
        if bias is not None:
            y[n, m, i, j] += bias[0, 0, m, i * columns + j]
    return y


@pytest.mark.slow
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(("size", "stride", "pad"), [(3, 1, 0), (2, 2, 1), (3, 2, 2), (1, 1, 0)])
def test_local(tmp_path, size, stride, pad, has_bias):
    text = f"local_param {{ num_output: 3 kernel_size: {size} stride: {stride} pad: {pad} {nets.GAUSS} "
    text += f"bias_term: {str(has_bias).lower()} }}"
    net = nets.load(tmp_path, nets.inputs(x=(2, 2, 5, 6)) + nets.layer("Local", "x", "y", text))
    x = numbers(2, 2, 5, 6)
    weight, bias = [param.data for param in net.params] + ([] if has_bias else [None])
    places = ((5 + 2 * pad - size) // stride + 1) * ((6 + 2 * pad - size) // stride + 1)
    assert weight.shape == (3, 1, 2 * size**2, places)
    assert bias is None or bias.shape == (1, 1, 3, places)
    assert_all(net, tmp_path, local(x, weight, bias, size, stride, pad), x)
    assert_gradients(net, x[:1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kernel_size: 2", "expected a num_output of 1 or more"),
        ("num_output: 2", "expected a kernel_size and a stride of 1 or more"),
        ("num_output: 2 kernel_size: 2 stride: 0", "expected a kernel_size and a stride of 1 or more"),
        ("num_output: 2 kernel_size: 6 pad: 2", r"a kernel_size of 6 does not fit a bottom of \(1, 2, 5, 6\)"),
        ("num_output: 2 kernel_h: 2 kernel_w: 2", "kernel_h"),
    ],
)
def test_refused(tmp_path, text, message):
    with pytest.raises(caffeport.CaffeportError, match=message):
        nets.load(tmp_path, nets.inputs(x=(1, 2, 5, 6)) + nets.layer("Local", "x", "y", f"local_param {{ {text} }}"))
