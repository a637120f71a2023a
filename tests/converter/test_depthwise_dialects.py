"""ConvolutionDepthwise: one fork reads neither num_output nor group, another obeys both; stored weights tell which."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import nets, protos

TEXT = nets.inputs(x=(2, 4, 5, 5)) + nets.layer(
    "ConvolutionDepthwise",
    "x",
    "y",
    'convolution_param { num_output: 2 group: 2 kernel_size: 3 bias_term: false weight_filler { type: "xavier" } }',
)


def reference(x: np.ndarray, weight: np.ndarray, groups: int) -> np.ndarray:
    """y[n, o] = sum over the channels c of o's group of W[o, c] * x[n, c], every window written out."""
    outputs, each, high, wide = weight.shape
    tall, broad = x.shape[2] - high + 1, x.shape[3] - wide + 1
    y = np.zeros((x.shape[0], outputs, tall, broad))
    for o in range(outputs):
        first = o // (outputs // groups) * each
        for i in range(tall):
            for j in range(broad):
                y[:, o, i, j] = (x[:, first : first + each, i : i + high, j : j + wide] * weight[o]).sum((1, 2, 3))
    return y


@pytest.mark.parametrize(("shape", "groups"), [((4, 1, 3, 3), 4), ((2, 2, 3, 3), 2)], ids=["ignores", "obeys"])
def test_the_weights_tell(tmp_path, shape, groups):
    random = np.random.default_rng(0)
    weight = random.standard_normal(shape).astype(np.float32)
    stored = protos.net(protos.layer("y", "ConvolutionDepthwise", weight))
    net = nets.load(tmp_path, TEXT, protos.write(tmp_path / "n.caffemodel", stored))
    x = random.standard_normal((2, 4, 5, 5)).astype(np.float32)
    want = reference(x.astype(np.float64), weight.astype(np.float64), groups)
    got = net.to_torch()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)  # sums of 9 and 18 products in float32
    assert net.check().ok


def test_without_weights_there_are_as_many_outputs_as_channels(tmp_path):
    net = nets.load(tmp_path, TEXT)
    assert net.blob_shapes["y"] == (2, 4, 3, 3) and net.params[0].shape == (4, 1, 3, 3)
    several = nets.load(tmp_path, TEXT.replace("num_output: 2", "num_output: 8"))
    assert several.blob_shapes["y"] == (2, 8, 3, 3) and several.params[0].shape == (8, 1, 3, 3)
