"""Layers of one name: with weights of their own they are refused; sharing all of them they work, as in Caffe."""

from __future__ import annotations

import re

import caffeport
import numpy as np
import pytest
import torch
from caffeport import NetError, WeightsWarning
from support import nets, protos

EYE = np.eye(3, dtype=np.float32)
ZERO = np.zeros(3, np.float32)


def fc(bottom: str, top: str, extra: str = "", name: str = "fc") -> str:
    return nets.layer("InnerProduct", bottom, top, f"inner_product_param {{ num_output: 3 }} {extra}", name)


SHARE = 'param { name: "w" } param { name: "b" }'
DATA = nets.inputs(data=(1, 3))
V1 = """input: "data" input_dim: 1 input_dim: 3 input_dim: 1 input_dim: 1
layers { name: "fc" type: INNER_PRODUCT bottom: "data" top: "a" %s inner_product_param { num_output: 3 } }
layers { name: "fc" type: INNER_PRODUCT bottom: "a" top: "b" %s inner_product_param { num_output: 3 } }
"""
V0 = """input: "data" input_dim: 1 input_dim: 3 input_dim: 1 input_dim: 1
layers { layer { name: "fc" type: "innerproduct" num_output: 3 } bottom: "data" top: "a" }
layers { layer { name: "fc" type: "innerproduct" num_output: 3 } bottom: "a" top: "b" }
"""
DIFFERENT = protos.net(protos.layer("fc", "InnerProduct", EYE, ZERO), protos.layer("fc", "InnerProduct", 2 * EYE, ZERO))


@pytest.mark.parametrize(
    "text",
    [
        DATA + fc("data", "a") + fc("a", "b"),
        DATA + fc("data", "a", 'param { name: "w" }') + fc("a", "b", 'param { name: "w" }'),  # the biases are apart
        V1 % ("", ""),
        V0,
    ],
    ids=["V2", "half shared", "V1", "V0"],
)
@pytest.mark.parametrize("weights", [False, True])
def test_weights_of_their_own_are_refused_with_both_places(tmp_path, text, weights):
    path = protos.write(tmp_path / "n.caffemodel", DIFFERENT) if weights else None
    first, second = (i + 1 for i, line in enumerate(text.splitlines()) if '"fc"' in line)
    place = re.escape(str(tmp_path / "net.prototxt"))
    problem = (
        rf'^{place}:{second}:\d+: layer "fc" \(InnerProduct\): another layer is called "fc" too, at {place}:{first}:'
    )
    with pytest.raises(NetError, match=problem + r"\d+, and both have weights.*Rename one, or let them share"):
        nets.load(tmp_path, text, path)


@pytest.mark.parametrize(
    "text", [DATA + fc("data", "a", SHARE) + fc("a", "b", SHARE), V1 % (('param: "w" param: "b"',) * 2)]
)
def test_shared_weights_work(tmp_path, text):
    weight, bias = np.arange(9, dtype=np.float32).reshape(3, 3), np.array([1, 2, 3], np.float32)
    twice = protos.net(*(protos.layer("fc", "InnerProduct", weight, bias) for _ in range(2)))
    net = nets.load(tmp_path, text, protos.write(tmp_path / "n.caffemodel", twice))
    assert len(net.params) == 2
    x = np.ones((1, 3), np.float32)
    expected = (x @ weight.T + bias) @ weight.T + bias
    model = net.to_torch()
    assert len(list(model.parameters())) == 2
    np.testing.assert_allclose(model(torch.from_numpy(x).reshape(net.input_values[0].shape)).detach(), expected)
    assert caffeport.check(net).ok

    changed = net.with_weights({"fc": [2 * weight, bias]})
    state = {key: value * 2 if "weight" in key else value for key, value in model.state_dict().items()}
    for other in (changed, net.with_weights(state)):
        other.save(tmp_path / "tuned.caffemodel", prototxt=tmp_path / "tuned.prototxt")
        again = caffeport.load(tmp_path / "tuned.prototxt", tmp_path / "tuned.caffemodel")
        assert [[blob.tolist() for blob in layer.blobs] for layer in again.layers[1:]] == [
            [(2 * weight).tolist(), bias.tolist()]
        ] * 2


def test_shared_weights_of_one_name_in_safetensors(tmp_path):
    from caffeport.to_torch.safetensors_file import save_safetensors
    from safetensors.torch import load_file

    # A layer that is called as the second one's module would be.
    net = nets.load(tmp_path, DATA + fc("data", "a", SHARE) + fc("a", "b", SHARE) + fc("b", "c", name="fc_2"))
    save_safetensors(net, tmp_path / "n.safetensors")
    model = net.to_torch()
    model.load_state_dict(load_file(tmp_path / "n.safetensors"))
    assert set(model.state_dict()) == {
        f"{name}.{blob}" for name in ("fc", "fc_2", "fc_3") for blob in ("weight", "bias")
    }
    assert model.get_parameter("fc.weight") is model.get_parameter("fc_3.weight")


def test_a_layer_without_weights_may_have_the_name_of_one_with(tmp_path):
    """Caffe's own copy fails on it; it can mean only one thing."""
    relu = nets.layer("ReLU", "a", "a", name="fc")
    text = DATA + nets.layer("ReLU", "data", "x", name="fc") + fc("x", "a") + relu
    file = protos.net(
        protos.layer("fc", "ReLU"), protos.layer("fc", "InnerProduct", EYE, ZERO), protos.layer("fc", "ReLU")
    )
    net = nets.load(tmp_path, text, protos.write(tmp_path / "n.caffemodel", file))
    assert (net.layers[2].blobs[0] == EYE).all()
    model = net.to_torch()
    assert set(model.state_dict()) == {"fc.weight", "fc.bias"}
    assert caffeport.check(net).ok
    net.with_weights(model).save(tmp_path / "again.caffemodel")
    assert (caffeport.load(tmp_path / "net.prototxt", tmp_path / "again.caffemodel").layers[2].blobs[0] == EYE).all()


def test_two_stored_layers_that_differ_are_told(tmp_path):
    path = protos.write(tmp_path / "n.caffemodel", DIFFERENT)
    with pytest.warns(WeightsWarning, match=r'layers 1 and 2 of the file are called "fc" and differ; .* the last one'):
        net = nets.load(tmp_path, DATA + fc("data", "a"), path)
    assert (net.layers[1].blobs[0] == 2 * EYE).all()  # as in Caffe


def test_unnamed_layers(tmp_path):
    text = DATA + fc("data", "a", name="@") + nets.layer("ReLU", "a", "b", name="@")
    net = nets.load(tmp_path, text.replace('name: "@"', ""))
    assert set(net.to_torch().state_dict()) == {"InnerProduct.weight", "InnerProduct.bias"}
    with pytest.raises(NetError, match='another layer is called "" too'):
        nets.load(tmp_path, (text + fc("b", "c", name="@")).replace('name: "@"', ""))
