"""Layers for video: ConvLSTM, FlowWarp and ChannelNorm, against loops that follow their definitions."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import assert_all, assert_gradients, numbers


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def convolve(x, w, dilation=1):
    """Over (N, C, H, W), padded so that the size stays."""
    reach = dilation * (w.shape[2] // 2)
    padded = np.pad(x, [(0, 0), (0, 0), (reach, reach), (reach, reach)])
    y = np.zeros((len(x), len(w), *x.shape[2:]))
    for a, b in np.ndindex(*w.shape[2:]):
        rows, columns = (slice(i * dilation, i * dilation + n) for i, n in zip((a, b), x.shape[2:], strict=True))
        y += np.einsum("nchw,oc->nohw", padded[:, :, rows, columns], w[:, :, a, b])
    return y


def conv_lstm(x, cont, blobs, states, static=None, dilation=1, peepholes=None):
    weight_x, *weights = blobs
    weight_static = weights.pop(0) if static is not None else None
    weight_h, bias = weights[:2]
    h, c = states
    tops = []
    for t in range(len(x)):
        here = cont[t][:, None, None, None]
        gates = convolve(x[t], weight_x, dilation) + convolve(h * here, weight_h, dilation) + bias.reshape(1, -1, 1, 1)
        if static is not None:
            gates += convolve(static[0], weight_static, dilation)
        i, f, o, g = np.split(gates, 4, 1)
        if peepholes is not None:
            i, f, o = (gate + factor * c for gate, factor in zip((i, f, o), peepholes, strict=True))
        c = here * sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        tops.append(h)
    return np.stack(tops), h[None], c[None]


CONV = f"lstm_conv_param {{ num_output: 2 kernel_size: 3 %s {nets.GAUSS} }}"
X, CONT = (3, 2, 4, 5, 6), np.array([[0, 0], [1, 0], [1, 1]], np.float32)


def set_peepholes(net, shape):
    for index, param in enumerate(net.layers[-1].params[-3:]):
        assert (param.data == 1).all() and param.shape == shape  # Scale's own filler
        param.data = numbers(*shape, seed=index)


@pytest.mark.slow
@pytest.mark.parametrize(("pad", "dilation"), [("pad: 1", 1), ("pad: 2 dilation: 2", 2)])
def test_conv_lstm(tmp_path, pad, dilation):
    text = nets.inputs(x=X, cont=X[:2]) + nets.layer("ConvLSTM", "x cont", "y", CONV % pad)
    net = nets.load(tmp_path, text)
    set_peepholes(net, (5, 6))
    blobs = [blob.astype(np.float64) for blob in net.layers[-1].blobs]
    assert [blob.shape for blob in blobs] == [(8, 4, 3, 3), (8, 2, 3, 3), (8,), *[(5, 6)] * 3]
    x, zeros = numbers(*X), np.zeros((2, 2, 5, 6))
    expected = conv_lstm(x, CONT, blobs, (zeros, zeros), dilation=dilation, peepholes=blobs[-3:])[0]
    assert_all(net, tmp_path, expected, x, CONT)
    assert net.check().ok


def test_conv_lstm_with_its_states_and_a_static_input(tmp_path):
    """As DAVSOD's encoder has it, the states of which are tops."""
    state = (1, 2, 2, 5, 6)
    text = nets.inputs(x=X, cont=X[:2], s=(1, 2, 3, 5, 6), h=state, c=state)
    parameters = "recurrent_param { expose_hidden: true } lstm_debug_param { disable_hadamard: true }"
    net = nets.load(tmp_path, text + nets.layer("ConvLSTM", "x cont s h c", "y yh yc", CONV % "pad: 1" + parameters))
    blobs = [blob.astype(np.float64) for blob in net.layers[-1].blobs]
    x, s, h, c = numbers(*X), numbers(1, 2, 3, 5, 6), numbers(*state), numbers(*state, seed=1)
    cont = np.array([[1, 0], [1, 1], [0, 1]], np.float32)
    expected = conv_lstm(x, cont, blobs, (h[0], c[0]), static=s)
    made = net.to_torch()(*map(torch.tensor, (x, cont, s, h, c)))
    for name, wanted in zip(("y", "yh", "yc"), expected, strict=True):
        np.testing.assert_allclose(made[name].detach(), wanted, 1e-4, 1e-5)
    assert net.check().ok


def test_conv_lstms_gradient(tmp_path):
    text = nets.inputs(x=(2, 1, 2, 3, 3), cont=(2, 1)) + nets.layer("ConvLSTM", "x cont", "y", CONV % "pad: 1")
    assert_gradients(nets.load(tmp_path, text), numbers(2, 1, 2, 3, 3), CONT[:2, :1])


def warp(image, flow, fill):
    y = np.full(image.shape, fill)
    height, width = image.shape[2:]
    for n, row, column in np.ndindex(image.shape[0], height, width):
        x2, y2 = column + flow[n, 0, row, column], row + flow[n, 1, row, column]
        if not (0 <= x2 < width and 0 <= y2 < height):
            continue
        left, above = int(x2), int(y2)
        right, below = min(left + 1, width - 1), min(above + 1, height - 1)
        a, b = x2 - left, y2 - above
        y[n, :, row, column] = (
            (1 - a) * (1 - b) * image[n, :, above, left] + a * (1 - b) * image[n, :, above, right]
            + (1 - a) * b * image[n, :, below, left] + a * b * image[n, :, below, right]
        )  # fmt: skip
    return y


@pytest.mark.slow
@pytest.mark.parametrize("fill", ["", "NOT_A_NUMBER"])
def test_flow_warp(tmp_path, fill):
    text = f"flow_warp_param {{ fill_value: {fill} }}" if fill else ""
    net = nets.load(tmp_path, nets.inputs(x=(1, 3, 4, 5), f=(1, 2, 4, 5)) + nets.layer("FlowWarp", "x f", "y", text))
    image, flow = numbers(2, 3, 6, 7), numbers(2, 2, 6, 7, seed=1) * 2  # the ONNX file leaves the size free
    flow[0, :, 0, 0], flow[1, :, 5, 6] = (
        (0.5, 0.125),
        (0.5, 0.25),
    )  # the second lies between the last pixel and the border
    expected = warp(image.astype(np.float64), flow.astype(np.float64), np.nan if fill else 0.0)
    assert np.isnan(expected).any() == bool(fill) and expected[1, 0, 5, 6] == image[1, 0, 5, 6]
    assert_all(net, tmp_path, expected, image, flow)
    if not fill:
        assert_gradients(net, image[:1, :, :4, :5], flow[:1, :, :4, :5])
        model = net.to_torch().double()
        still = torch.tensor(image[:1, :, :4, :5]).double()
        motion = torch.tensor(flow[:1, :, :4, :5]).double().requires_grad_()
        assert torch.autograd.gradcheck(lambda f: model(still, f), [motion])


def test_channel_norm(tmp_path):
    net = nets.load(tmp_path, nets.inputs(x=(1, 3, 4, 5)) + nets.layer("ChannelNorm", "x", "y"))
    x = numbers(2, 3, 6, 7)
    assert_all(net, tmp_path, np.sqrt((x.astype(np.float64) ** 2).sum(1, keepdims=True)), x)
    assert_gradients(net, x)
    zero = torch.zeros(1, 3, 2, 2, requires_grad=True)
    net.to_torch()(zero).sum().backward()
    assert not zero.grad.any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (nets.inputs(x=X, c=(3, 1)) + nets.layer("ConvLSTM", "x c", "y", CONV % "pad: 1"), "cont \\(T, N\\)"),
        (nets.inputs(x=X, c=X[:2]) + nets.layer("ConvLSTM", "x c", "y", CONV % ""), "a window that keeps the size"),
        (nets.inputs(x=X, c=X[:2]) + nets.layer("ConvLSTM", "x c", "y", "lstm_conv_param { kernel_size: 3 }"),
         "num_output of 1 or more"),
        (nets.inputs(x=X, c=X[:2]) + nets.layer("ConvLSTM", "x c", "y", CONV % "pad: 1" +
         "lstm_debug_param { ignore_x: true }"), "expose and ignore_x"),
        (nets.inputs(x=X, c=X[:2]) + nets.layer("ConvLSTM", "x c", "y", CONV % "pad: 1" +
         "lstm_debug_param { axis_hadamard: 4 }"), "axes 4 to 5"),
        (nets.inputs(x=X, c=X[:2]) + nets.layer("ConvLSTM", "x c", "y z w", CONV % "pad: 1"), "and 1 tops"),
        (nets.inputs(x=(1, 3, 4, 5), f=(1, 3, 4, 5)) + nets.layer("FlowWarp", "x f", "y"), "expected a flow of"),
    ],
)  # fmt: skip
def test_refusals(tmp_path, text, words):
    with pytest.raises(caffeport.NetError, match=words):
        nets.load(tmp_path, text)
