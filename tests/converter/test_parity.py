"""The check itself: it must see what is wrong, name where, and not cry wolf."""

from __future__ import annotations

import json

import caffeport
import numpy as np
import pytest
import torch
from caffeport.difference import difference
from support import nets


@pytest.fixture
def net(tmp_path):
    return nets.load(tmp_path, nets.SMALL)


def recorded(net, batch=2):
    """Blobs as a reference would have them: computed in float64 by the torch module."""
    x = torch.tensor(np.random.default_rng(3).standard_normal((batch, 3, 12, 10)))
    blobs = net.to_torch().double().blobs(x)
    return {name: blobs[name].detach().numpy().astype(np.float32) for name in net.blobs}


def test_every_layer_has_a_row_in_order(net):
    report = caffeport.check(net)
    assert report.ok
    assert [row.layer for row in report.rows] == ["conv1", "bn1", "scale1", "relu1", "pool1", "fc"]
    assert [row.blob for row in report.rows] == ["conv1@conv1", "conv1@bn1", "conv1@scale1", "conv1", "pool1", "fc"]
    assert all(row.baseline == "torch" and set(row.errors) == {"onnx"} for row in report.rows)
    assert [row.blob for row in report.exported] == ["fc"]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_reference_of_any_batch_size(net, batch):
    report = caffeport.check(net, reference=recorded(net, batch))
    assert report.ok, report.summary
    assert report.rows[-1].shape == (batch, 5)
    assert report.rows[-1].baseline == "reference"
    assert set(report.rows[-1].errors) == {"torch", "onnx"}


@pytest.mark.parametrize("blob", ["conv1", "pool1", "fc"])
def test_the_first_layer_that_differs_is_named(net, blob, tmp_path):
    blobs = recorded(net)
    blobs[blob] = blobs[blob].copy()
    blobs[blob].flat[7] += 0.001 * blobs[blob].std()
    np.savez(tmp_path / "blobs.npz", **{f"data/{name}": array for name, array in blobs.items()})
    report = caffeport.check(net, reference=tmp_path / "blobs.npz")
    assert not report.ok
    assert report.first_difference.blob == blob
    assert f'blob "{blob}"' in report.summary


def test_wrong_weights_are_seen_at_their_layer(net):
    blobs = recorded(net)
    weight, bias = net.layer("fc").blobs
    changed = net.with_weights({"fc": [weight * 1.01, bias]})
    report = caffeport.check(changed, reference=blobs)
    assert report.first_difference.layer == "fc"
    assert all(row.ok for row in report.rows[:-1])


def test_a_backend_that_computes_something_else_is_seen(tmp_path):
    @caffeport.layer_type("Double")
    class Double(caffeport.Operator):
        def module(self, bottoms):
            class Module(torch.nn.Module):
                def forward(self, x):
                    return x * 2

            return Module()

        def onnx(self, g, *x):
            return g.mul(x[0], 2.01)

    text = nets.inputs(data=(1, 4)) + nets.layer("TanH", "data", "t") + nets.layer("Double", "t", "y")
    report = nets.load(tmp_path, text, custom_layers=[Double]).check()
    assert report.first_difference.layer == "y"


def test_losses_are_compared_with_a_reference_in_torch_only(tmp_path):
    text = nets.inputs(data=(4, 6), label=(4,)) + nets.inner_product("data", "fc", 3)
    net = nets.load(tmp_path, text + nets.layer("SoftmaxWithLoss", "fc label", "loss"), phase="train")
    report = net.check()
    assert report.ok
    assert [row.note for row in report.rows] == ["", "torch only"]
    weight, bias = net.layer("fc").blobs
    x, label = np.random.default_rng(0).standard_normal((4, 6)), np.array([0.0, 2, 1, 1])
    scores = x @ weight.T + bias
    loss = np.mean(np.log(np.exp(scores).sum(1)) - scores[range(4), label.astype(int)])
    blobs = {"data": x, "label": label, "fc": scores, "loss": np.array(loss)}
    assert net.check(reference=blobs).ok
    assert not net.check(reference=blobs | {"loss": np.array(loss + 0.01)}).ok


def test_a_net_of_which_nothing_is_compared_is_not_ok(tmp_path):
    text = nets.inputs(data=(4, 6), label=(4,)) + nets.layer("SoftmaxWithLoss", "data label", "loss")
    text += nets.layer("HingeLoss", "data label", "hinge")
    net = nets.load(tmp_path, text, phase="train")
    words = (
        r'nothing could be compared: layer "loss" \(SoftmaxWithLoss\): torch only; layer "hinge" \(Hinge.*--reference'
    )
    with pytest.raises(caffeport.CaffeportError, match=words):
        net.check()
    x, label = net.sample_inputs().values()
    shifted = x - x.max(1, keepdims=True)
    loss = np.mean(np.log(np.exp(shifted).sum(1)) - shifted[range(4), label.astype(int)])
    report = net.check({"data": x, "label": label}, reference={"loss": np.array(loss)})
    assert report.ok and report.summary.startswith("1 of 2 blobs compared")


def test_a_fragment_whose_input_is_given_by_its_shape(tmp_path):
    net = nets.load(tmp_path, nets.inner_product("somewhere", "fc", 3), input_shapes={"somewhere": (2, 5)})
    assert [row.blob for row in net.check().rows] == ["fc"]
    assert net.check().ok


def test_a_layer_that_needs_labels_is_left_to_torch(tmp_path):
    margin = 'margin_inner_product_param { num_output: 4 weight_filler { type: "xavier" } }'
    text = nets.inputs(data=(2, 5), label=(2,)) + nets.layer("TanH", "data", "x")
    text += nets.layer("MarginInnerProduct", "x label", "m", margin) + nets.layer("Softmax", "m", "p")
    text += nets.layer("LabelSpecificAdd", "x label", "a", "label_specific_add_param { transform_test: true }")
    text += nets.layer("LabelSpecificRescale", "x label", "r weight")
    report = nets.load(tmp_path, text).check()
    assert report.ok and [row.note for row in report.rows] == ["", *["torch only"] * 5]


def test_random_inputs_suit_the_layers(tmp_path):
    """Labels, indices and flags must be such that the layer can run."""
    text = nets.inputs(data=(4, 3), index=(4,), words=(4, 2), x=(5, 2, 4), cont=(5, 2), flags=(4,))
    text += nets.layer("BatchReindex", "data index", "a")
    text += nets.layer("Embed", "words", "b", "embed_param { num_output: 3 input_dim: 7 }")
    text += nets.layer("LSTM", "x cont", "c", f"recurrent_param {{ num_output: 3 {nets.GAUSS} }}")
    text += nets.layer("Filter", "data flags", "d")
    report = nets.load(tmp_path, text).check()
    assert report.ok, report.summary


def test_difference_is_relative_to_the_size_of_the_blob():
    expected = np.array([100.0, -100.0, 0.0])
    assert difference(np.array([100.0, -100.0, 0.005]), expected, 1e-4, 0)[2]  # rms 82: rounding of big sums
    assert not difference(np.array([100.0, -100.0, 0.01]), expected, 1e-4, 0)[2]
    largest, relative, _ = difference(np.array([100.5, -100.0, 0.0]), expected, 1e-4, 0)
    assert (largest, relative) == (0.5, 0.005)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_difference_of_numbers_that_are_none(value):
    expected = np.array([1.0, value])
    assert difference(expected, expected, 0, 0) == (0, 0, True)
    assert not difference(np.array([1.0, 2.0]), expected, 1e-4, 1e-5)[2]
    assert not difference(expected, np.array([1.0, 2.0]), 1e-4, 1e-5)[2]


def test_report_is_json(net):
    content = json.loads(caffeport.check(net).to_json())
    assert content["ok"] is True
    assert [row["blob"] for row in content["rows"]][-1] == "fc"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backends": ("torch",)}, "two things at least"),
        ({"backends": ("torch", "onyx")}, 'unknown backend "onyx".*did you mean "onnx"'),
        ({"reference": {"nothing": np.zeros(3)}}, "holds no blob of this net: it has nothing"),
        ({"reference": {"fc": np.zeros((1, 5))}}, 'lacks the input "data"'),
        ({"inputs": {"dta": np.zeros((1, 3, 12, 10))}}, 'no input for "data"'),
        ({"inputs": {"data": "abc"}}, 'input "data" is no array of numbers'),
        ({"seed": -1}, "seed is 0 or more, got -1"),
        ({"inputs": [np.zeros((1, 3, 12))]}, 'input "data" is 2x3x12x10, got 1x3x12'),
        ({"inputs": [np.zeros((1, 3, 40, 40))]}, '"fc".*blob 0 would be 5x2400'),
        ({"inputs": [np.zeros((1, 4, 12, 10))]}, "conv1.*blob 0 would be 6x4x3x3"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_unfitting_wishes(net, options, message):
    with pytest.raises(caffeport.CaffeportError, match=message):
        caffeport.check(net, **options)
