"""Layers for text lines: CTPN's Lstm, ContinuationIndicator, CtcLoss, against loops that follow their definitions."""

from __future__ import annotations

import itertools

import caffeport
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from support import nets
from support.backends import assert_all, assert_gradients, numbers


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, cont, weight_x, weight_h, bias):
    """Step by step, sequence by sequence; a state is used only where ``cont`` is not 0."""
    size = weight_h.shape[1]
    y, hidden, cell = np.zeros((*x.shape[:2], size)), np.zeros((x.shape[1], size)), np.zeros((x.shape[1], size))
    for t, n in itertools.product(range(x.shape[0]), range(x.shape[1])):
        gates = weight_x @ x[t, n].ravel() + bias
        if cont[t, n]:
            gates = gates + weight_h @ hidden[n]
        i, f, o, g = gates[:size], gates[size : 2 * size], gates[2 * size : 3 * size], gates[3 * size :]
        cell[n] = (sigmoid(f) * cell[n] if cont[t, n] else 0) + sigmoid(i) * np.tanh(g)
        hidden[n] = y[t, n] = sigmoid(o) * np.tanh(cell[n])
    return y


LSTM = f"lstm_param {{ num_output: 5 {nets.GAUSS} %s }}"


@pytest.mark.parametrize("shape", [(4, 2, 3), (4, 2, 3, 1, 2)])
def test_lstm(tmp_path, shape):
    net = nets.load(tmp_path, nets.inputs(x=shape) + nets.layer("Lstm", "x", "y", LSTM % ""))
    blobs = [blob.astype(np.float64) for blob in net.layers[-1].blobs]
    assert [blob.shape for blob in blobs] == [(20, np.prod(shape[2:])), (20, 5), (20,)]
    x, cont = numbers(*shape), np.ones(shape[:2])
    cont[0] = 0
    assert_all(net, tmp_path, lstm(x.astype(np.float64), cont, *blobs), x)
    assert_gradients(net, x)


@pytest.mark.parametrize("shape", [(4, 2), (4, 2, 1, 1)])
def test_lstm_with_the_starts_of_sequences(tmp_path, shape):
    text = nets.inputs(x=(4, 2, 3), cont=shape) + nets.layer("Lstm", "x cont", "y", LSTM % "")
    net = nets.load(tmp_path, text)
    x, cont = numbers(4, 2, 3), np.array([[0, 1], [1, 1], [0, 2], [1, 0]], np.float32)
    blobs = [blob.astype(np.float64) for blob in net.layers[-1].blobs]
    assert_all(net, tmp_path, lstm(x.astype(np.float64), cont, *blobs), x, cont.reshape(shape))
    assert_gradients(net, x, cont.reshape(shape))
    assert net.check().ok


def test_lstms_threshold_cuts_the_gradients_of_the_gates(tmp_path):
    """With one step, the gradient of the bias is the cut gradient of the gates, summed over the sequences."""
    bias = {}
    for threshold in (0, 0.01):
        text = nets.inputs(x=(1, 3, 4)) + nets.layer("Lstm", "x", "y", LSTM % f"clipping_threshold: {threshold}")
        model = nets.load(tmp_path, text, phase="train").to_torch()
        x = torch.tensor(numbers(1, 3, 4))
        gates = (x[0] @ model.y.weight_x.T + model.y.bias).detach().requires_grad_()
        i, f, o, g = gates.chunk(4, 1)
        (torch.sigmoid(o) * torch.tanh(torch.sigmoid(i) * torch.tanh(g) + 0 * f)).sum().backward()
        model(x).sum().backward()
        wanted = gates.grad if not threshold else gates.grad.clamp(-threshold, threshold)
        np.testing.assert_allclose(model.y.bias.grad, wanted.sum(0), 1e-5, 1e-7)
        bias[threshold] = model.y.bias.grad
    assert (bias[0] != bias[0.01]).any()


@pytest.mark.filterwarnings("ignore:.*fixes the batch size:caffeport.CaffeportWarning")
@pytest.mark.parametrize("flag", [False, True])
def test_continuation_indicator(tmp_path, flag):
    text = f"continuation_indicator_param {{ time_step: 4 batch_size: 3 flag: {str(flag).lower()} }}"
    net = nets.load(tmp_path, nets.inputs(x=(4, 3)) + nets.layer("ContinuationIndicator", "", "c", text) +
                    nets.layer("Eltwise", "x c", "y"))  # fmt: skip
    x, expected = numbers(4, 3), np.ones((4, 3))
    expected[0] = flag
    assert_all(net, tmp_path, x + expected, x)
    assert not net.to_torch().state_dict()
    given = nets.load(tmp_path, nets.inputs(x=(3,)) + nets.layer("ContinuationIndicator", "x", "y", text))
    x = np.array([1, 0.995, 0.98], np.float32)
    expected[0] = [1, 1, flag]
    assert_all(given, tmp_path, expected, x)


@pytest.mark.filterwarnings("ignore:.*fixes the batch size:caffeport.CaffeportWarning")
def test_a_crnn(tmp_path):
    """The indicator feeds BVLC's LSTM."""
    text = nets.inputs(x=(4, 2, 3))
    text += nets.layer("ContinuationIndicator", "", "c", "continuation_indicator_param { time_step: 4 batch_size: 2 }")
    net = nets.load(
        tmp_path, text + nets.layer("LSTM", "x c", "y", f"recurrent_param {{ num_output: 5 {nets.GAUSS} }}")
    )
    x, cont = numbers(4, 2, 3), np.ones((4, 2))
    cont[0] = 0
    weight_x, bias, weight_h = (blob.astype(np.float64) for blob in net.layers[-1].blobs)
    assert_all(net, tmp_path, lstm(x.astype(np.float64), cont, weight_x, weight_h, bias), x)


def rnn(x, blobs, first):
    """Return (the outputs, the last hidden state) of h = tanh(W_x x + b + W_h h), o = tanh(W_o h + b_o)."""
    weight_x, bias, weight_h, weight_o, bias_o = blobs
    hidden, outputs = first, []
    for step in x:
        hidden = np.tanh(step.reshape(len(step), -1) @ weight_x.T + bias + hidden @ weight_h.T)
        outputs.append(np.tanh(hidden @ weight_o.T + bias_o))
    return np.stack(outputs), hidden


def kinds(net, path):
    net.to_onnx(path)
    return [node.op_type for node in onnx.load(str(path)).graph.node]


ONE_START = nets.layer(
    "ContinuationIndicator", "", "c", "continuation_indicator_param { time_step: 4 batch_size: 2 %s }"
)
ALWAYS = "ignore:.*fixes the batch size:caffeport.CaffeportWarning"


@pytest.mark.filterwarnings(ALWAYS)
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_a_sequence_that_starts_once_is_a_node_of_onnx(tmp_path, kind):
    text = nets.inputs(x=(4, 2, 3, 2)) + ONE_START % ""
    text += nets.layer(kind, "x c", "y", f"recurrent_param {{ num_output: 5 {nets.GAUSS} }}")
    net = nets.load(tmp_path, text)
    assert kind in kinds(net, tmp_path / "k.onnx") and "Scan" not in kinds(net, tmp_path / "k.onnx")
    x, blobs = numbers(4, 2, 3, 2), [blob.astype(np.float64) for blob in net.layers[-1].blobs]
    if kind == "LSTM":
        weight_x, bias, weight_h = blobs
        expected = lstm(x.astype(np.float64), np.ones((4, 2)), weight_x, weight_h, bias)
    else:
        expected = rnn(x.astype(np.float64), blobs, np.zeros((2, 5)))[0]
    assert_all(net, tmp_path, expected, x)


@pytest.mark.filterwarnings(ALWAYS)
@pytest.mark.parametrize("flag", [False, True])
def test_first_states_of_an_rnn_count_where_it_goes_on(tmp_path, flag):
    text = nets.inputs(x=(4, 2, 3), h=(1, 2, 5)) + ONE_START % ("flag: true" if flag else "")
    parameters = f"recurrent_param {{ num_output: 5 expose_hidden: true {nets.GAUSS} }}"
    net = nets.load(tmp_path, text + nets.layer("RNN", "x c h", "y last", parameters))
    assert "Scan" not in kinds(net, tmp_path / "k.onnx")
    x, first, blobs = numbers(4, 2, 3), numbers(1, 2, 5), [b.astype(np.float64) for b in net.layers[-1].blobs]
    expected = rnn(x.astype(np.float64), blobs, first[0] * flag)
    session = onnxruntime.InferenceSession(str(tmp_path / "k.onnx"))
    y, last = session.run(["y", "last"], {"x": x, "h": first})
    np.testing.assert_allclose(y, expected[0], 1e-5, 1e-6)
    np.testing.assert_allclose(last, expected[1][None], 1e-5, 1e-6)
    assert net.check().ok


@pytest.mark.filterwarnings(ALWAYS)
def test_exposed_states_of_an_lstm(tmp_path):
    text = nets.inputs(x=(4, 2, 3), h=(1, 2, 5), k=(1, 2, 5)) + ONE_START % "flag: true"
    parameters = f"recurrent_param {{ num_output: 5 expose_hidden: true {nets.GAUSS} }}"
    net = nets.load(tmp_path, text + nets.layer("LSTM", "x c h k", "y last cell", parameters))
    assert "Scan" not in kinds(net, tmp_path / "k.onnx")
    report = net.check()  # torch's module steps by itself
    assert report.ok and len(report.rows) == 4


@pytest.mark.filterwarnings(ALWAYS)
def test_sequences_that_may_start_anywhere_are_a_scan(tmp_path):
    text = nets.inputs(x=(4, 2, 3), c=(4, 2))
    text += nets.layer("LSTM", "x c", "y", f"recurrent_param {{ num_output: 5 {nets.GAUSS} }}")
    assert "Scan" in kinds(nets.load(tmp_path, text), tmp_path / "k.onnx")


def ctc(x, labels, blank):
    """-log of the sum over every path of classes that reads as the labels, for one sequence."""
    e = np.exp(x - x.max(1, keepdims=True))
    p, total = e / e.sum(1, keepdims=True), 0.0
    for path in itertools.product(range(x.shape[1]), repeat=len(x)):
        read = [c for c, _ in itertools.groupby(path) if c != blank]
        if read == labels:
            total += np.prod([p[t, c] for t, c in enumerate(path)])
    return -np.log(total)


@pytest.mark.parametrize("blank", [0, 3])
def test_ctc_loss(tmp_path, blank):
    text = nets.inputs(x=(4, 3, 4), labels=(3, 2))
    text += nets.layer("CtcLoss", "x labels", "loss", "ctc_loss_param { alphabet_size: 4 time_step: 4 "
                       f"blank_label: {blank} }}")  # fmt: skip
    net = nets.load(tmp_path, text, phase="train")
    x, words = numbers(4, 3, 4), [[1, 2], [2], [1, 1]]
    labels = np.array([word + [blank] * (2 - len(word)) for word in words], np.float32)
    expected = np.mean([ctc(x[:, n].astype(np.float64), word, blank) for n, word in enumerate(words)])
    np.testing.assert_allclose(net.to_torch()(torch.tensor(x), torch.tensor(labels)), expected, 1e-5)
    assert_gradients(net, x, labels)
    with pytest.raises(caffeport.ExportError, match="loss layer"):
        net.to_onnx(tmp_path / "n.onnx")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (nets.inputs(x=(4, 2, 3)) + nets.layer("Lstm", "x", "y"), "num_output of 1 or more"),
        (nets.inputs(x=(4, 2, 3), c=(3, 2)) + nets.layer("Lstm", "x c", "y", LSTM % ""), "each of 4 steps"),
        (nets.inputs(x=(1,)) + nets.layer("ContinuationIndicator", "", "y"), "time_step of 1 or more"),
        (
            nets.inputs(x=(2,)) + nets.layer("ContinuationIndicator", "x", "y",
            "continuation_indicator_param { time_step: 4 batch_size: 3 }"), "each of 3 sequences",
        ),
        (nets.inputs(x=(4, 3, 4), y=(3, 2)) + nets.layer("CtcLoss", "x y", "z"), "time_step of 4, an alphabet_size"),
        (nets.inputs(x=(4, 3, 4), y=(2, 2)) + nets.layer("CtcLoss", "x y", "z"), "labels for 3 sequences"),
    ],
)  # fmt: skip
def test_refusals(tmp_path, text, words):
    with pytest.raises(caffeport.NetError, match=words):
        nets.load(tmp_path, text, phase="train")
