"""A net in torch and in ONNX Runtime, against what a test expects of it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch

RTOL, ATOL = 1e-4, 1e-5  # float32 against float64
OPSETS = (13, 21)
"""The oldest and the newest that are written."""


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def runs(net, tmp_path, *arrays, opsets=OPSETS, **options):
    """Yield the first output from torch and, for every opset, from ONNX Runtime."""
    with torch.no_grad():
        yield net.to_torch()(*map(torch.tensor, arrays)).numpy()
    for opset in opsets:
        net.to_onnx(tmp_path / "n.onnx", opset=opset, **options)
        session = onnxruntime.InferenceSession(str(tmp_path / "n.onnx"), providers=["CPUExecutionProvider"])
        yield session.run(None, dict(zip(net.inputs, arrays, strict=True)))[0]


def assert_all(net, tmp_path, expected, *arrays, **options):
    for output in runs(net, tmp_path, *arrays, **options):
        assert (output.shape, output.dtype) == (expected.shape, np.float32)
        np.testing.assert_allclose(output, expected, RTOL, ATOL)


def assert_gradients(net, *arrays):
    """Check the gradient of the first input by finite differences."""
    model = net.to_torch().double()
    inputs = [torch.tensor(array).double() for array in arrays]
    inputs[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: model(x, *inputs[1:]), inputs[:1])


def run_file(path, feed):
    """{output: array} of an ONNX file; ONNX Runtime refuses an input that the file does not have, or lacks one."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, feed), strict=True))


def inner_product(x, net, layer):
    """Compute that InnerProduct of the net on x (N, ...), in float64."""
    weight, bias = net.layer(layer).blobs
    return x.reshape(len(x), -1).astype(np.float64) @ weight.T.astype(np.float64) + bias
