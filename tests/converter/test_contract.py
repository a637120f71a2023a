"""What a Net tells whoever reads it: layers, blobs, learned blobs, multiply-adds."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
from support import nets

CONV1 = 2 * 6 * 12 * 10 * 3 * 3 * 3  # N, outputs, H, W, inputs, kernel
FC = 2 * 5 * 6 * 6 * 5  # N, outputs, and what pool1 (3 over 12x10, stride 2) leaves: 6 channels of 6x5


@pytest.fixture
def net(tmp_path) -> caffeport.Net:
    return caffeport.load(nets.write(tmp_path, nets.SMALL))


def test_multiply_adds(net):
    """Convolutions and inner products alone: the count that papers give."""
    assert net.multiply_adds == CONV1 + FC and type(net.multiply_adds) is int
    counts = {layer.name: layer.multiply_adds for layer in net.layers}
    assert counts["conv1"] == CONV1 and counts["fc"] == FC and sum(counts.values()) == CONV1 + FC


def test_multiply_adds_follow_the_declared_shapes(net, tmp_path):
    half = caffeport.load(nets.write(tmp_path, nets.SMALL), input_shapes={"data": (1, 3, 12, 10)})
    assert 2 * half.multiply_adds == net.multiply_adds


def test_layers_and_blob_shapes(net):
    (layer,) = [layer for layer in net.layers if layer.name == "scale1"]
    assert (layer.type, layer.bottoms, layer.tops) == ("Scale", ["conv1"], ["conv1"])
    assert [blob.shape for blob in layer.blobs] == [(6,), (6,)]
    assert net.blob_shapes == {"data": (2, 3, 12, 10), "conv1": (2, 6, 12, 10), "pool1": (2, 6, 6, 5), "fc": (2, 5)}


def test_params(net):
    rows = [(param.layer, param.name, param.shape, param.trained) for param in net.params]
    assert rows == [
        ("conv1", "weight", (6, 3, 3, 3), True),
        ("conv1", "bias", (6,), True),
        ("bn1", "mean", (6,), False),
        ("bn1", "variance", (6,), False),
        ("bn1", "scale_factor", (1,), False),
        ("scale1", "weight", (6,), True),
        ("scale1", "bias", (6,), True),
        ("relu1", "weight", (6,), True),
        ("fc", "weight", (5, 180), True),
        ("fc", "bias", (5,), True),
    ]
    assert all(param.data.dtype == np.float32 and param.data.shape == param.shape for param in net.params)
