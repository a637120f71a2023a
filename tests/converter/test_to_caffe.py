"""Weights back into Caffe's files."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
import torch
from caffeport.formats import caffemodel
from support import nets


@pytest.fixture
def net(tmp_path):
    return nets.load(tmp_path, nets.SMALL)


def bits(net):
    return {layer.name: [blob.tobytes() for blob in layer.blobs] for layer in net.layers}


def test_tuned_weights_come_back(net, tmp_path):
    model = net.to_torch()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    tuned = net.with_weights(model)
    tuned.save(tmp_path / "t.caffemodel", prototxt=tmp_path / "t.prototxt")
    again = caffeport.load(tmp_path / "t.prototxt", tmp_path / "t.caffemodel")
    assert bits(again) == bits(tuned) != bits(net)
    x = torch.randn(2, 3, 12, 10)
    assert torch.equal(again.to_torch()(x), model(x))


def test_the_old_net_stays_as_it_was(net):
    before = bits(net)
    net.with_weights({"fc": [np.zeros((5, 180), np.float32), np.ones(5, np.float32)]})
    assert bits(net) == before


WRAPPERS = [torch.nn.DataParallel, lambda m: torch.compile(m, backend="eager"), lambda m: m.half()]


@pytest.mark.parametrize("wrap", WRAPPERS, ids=["parallel", "compiled", "half"])
def test_wrapped_modules_and_their_state(net, wrap):
    model = net.to_torch()
    tuned = net.with_weights(wrap(model))
    np.testing.assert_allclose(tuned.layer("fc").blobs[0], net.layer("fc").blobs[0], 1e-3, 1e-6)
    assert bits(net.with_weights(net.to_torch().state_dict())) == bits(net)


def test_safetensors_hold_the_state_dict(net, tmp_path):
    from caffeport.to_torch.safetensors_file import save_safetensors
    from safetensors.torch import load_file

    save_safetensors(net, tmp_path / "n.safetensors")
    model = net.to_torch()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model.load_state_dict(load_file(tmp_path / "n.safetensors"))
    assert bits(net.with_weights(model)) == bits(net)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"fd": [np.zeros(3)]}, 'no layer "fd" with weights.*did you mean "fc"'),
        ({"fc": [np.zeros((5, 180))]}, '"fc".*expected 2 blobs, got 1'),
        ({"fc": [np.zeros((180, 5)), np.zeros(5)]}, '"fc".*blob 0 .weight. is 5x180, got 180x5'),
        ({"conv1.weight": np.zeros((6, 3, 3, 3))}, 'the weights have no "conv1.bias"'),
        (7, "expected a module, a state_dict"),
    ],
    ids=["layer", "count", "shape", "state", "type"],
)
def test_weights_that_do_not_fit(net, weights, message):
    with pytest.raises(caffeport.WeightsError, match=message):
        net.with_weights(weights)


def test_a_failed_save_leaves_the_old_file(net, tmp_path, monkeypatch):
    net.save(tmp_path / "n.caffemodel")
    before = (tmp_path / "n.caffemodel").read_bytes()
    monkeypatch.setattr(np, "ascontiguousarray", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        net.save(tmp_path / "n.caffemodel")
    assert (tmp_path / "n.caffemodel").read_bytes() == before
    assert not list(tmp_path.glob(".*part"))


def test_what_only_the_weights_file_told_is_kept(tmp_path, recwarn):
    """An input size found in the weights, and SSD's Normalize, known by its blob alone."""
    text = 'layer { name: "d" type: "Data" top: "data" data_param { source: "x" batch_size: 2 } }'
    text += nets.layer("Normalize", "data", "n", name="norm") + nets.inner_product("n", "fc", 5)
    declared = nets.load(tmp_path, text, input_shapes={"data": (2, 3, 28, 28)})
    blobs = {layer.name: layer.blobs for layer in declared.layers}
    scale = np.full(1, 20, np.float32)
    layers = [("norm", "Normalize", [], [], [scale]), ("fc", "InnerProduct", [], [], blobs["fc"])]
    caffemodel.write(tmp_path / "w.caffemodel", "n", layers)
    net = caffeport.load(tmp_path / "net.prototxt", tmp_path / "w.caffemodel")
    assert net.blob_shapes["data"] == (2, 3, 28, 28)
    recwarn.clear()
    tuned = net.with_weights(net.to_torch())
    assert tuned.blob_shapes == net.blob_shapes
    assert bits(tuned) == bits(net)
    assert not recwarn.list  # what was told once is not told again
