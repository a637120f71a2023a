"""Pads: Synopsys' fields of convolutions and poolings, against loops over windows."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import assert_all, assert_gradients, numbers


def one_layer(tmp_path, kind, shape, parameters):
    return nets.load(tmp_path, nets.inputs(x=shape) + nets.layer(kind, "x", "y", parameters))


def same(size, kernel, stride):
    """TensorFlow's SAME: (positions, pad before)."""
    positions = math.ceil(size / stride)
    return positions, max((positions - 1) * stride + kernel - size, 0) // 2


def convolve(x, w, b, stride, dilation, near, positions):
    """Position by position; a pixel outside the image is zero."""
    y = np.zeros((len(x), len(w), *positions))
    for i, j in np.ndindex(*positions):
        for a, c in np.ndindex(*w.shape[2:]):
            row, column = i * stride - near[0] + a * dilation, j * stride - near[1] + c * dilation
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                y[:, :, i, j] += x[:, :, row, column] @ w[:, :, a, c].T
    return y + b.reshape(1, -1, 1, 1)


CONV = f"convolution_param {{ num_output: 4 {nets.GAUSS} %s }}"


@pytest.mark.parametrize("size", [(7, 8), (8, 5)])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 1, 1), (2, 1, 1), (3, 2, 1), (4, 3, 1), (1, 2, 1), (3, 1, 2), (3, 2, 2)]
)
def test_convolution_same(tmp_path, size, kernel, stride, dilation):
    text = f"kernel_size: {kernel} stride: {stride} dilation: {dilation} pad_type: 1"
    net = one_layer(tmp_path, "Convolution", (2, 3, 7, 8), CONV % text)
    model, x = net.to_torch(), numbers(2, 3, *size)
    weight, bias = (blob.astype(np.float64) for blob in net.layers[-1].blobs)
    # The pad before is that of the kernel without its dilation.
    plan = [same(n, kernel, stride) for n in size]
    expected = convolve(x, weight, bias, stride, dilation, [p[1] for p in plan], [p[0] for p in plan])
    np.testing.assert_allclose(model(torch.tensor(x)).detach(), expected, 1e-4, 1e-5)  # the module at any size
    if size == (7, 8) or stride == 1:  # the ONNX file is for the declared size where the stride is not 1
        assert_all(net, tmp_path, expected, x)
        assert_gradients(net, x[:1])


@pytest.mark.parametrize("sides", [(1, 0, 2, 1), (0, 1, 0, 0)])
def test_convolution_with_four_pads(tmp_path, sides):
    top, left, bottom, right = sides
    text = f"kernel_size: 3 stride: 2 pad_t: {top} pad_l: {left} pad_b: {bottom} pad_r: {right}"
    net = one_layer(tmp_path, "Convolution", (1, 3, 7, 8), CONV % text)
    x = numbers(2, 3, 9, 6)  # the ONNX file leaves the size free
    weight, bias = (blob.astype(np.float64) for blob in net.layers[-1].blobs)
    positions = [(9 + top + bottom - 3) // 2 + 1, (6 + left + right - 3) // 2 + 1]
    assert_all(net, tmp_path, convolve(x, weight, bias, 2, 1, (top, left), positions), x)
    assert_gradients(net, x[:1])


def test_deconvolution_with_four_pads(tmp_path):
    text = "kernel_size: 3 stride: 2 pad_t: 1 pad_r: 2"
    net = one_layer(tmp_path, "Deconvolution", (1, 3, 4, 5), CONV % text)
    x = numbers(2, 3, 5, 4)
    weight, bias = (blob.astype(np.float64) for blob in net.layers[-1].blobs)
    whole = np.zeros((2, 4, 11, 9))
    for i, j in np.ndindex(5, 4):
        whole[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.einsum("nc,cokl->nokl", x[:, :, i, j], weight)
    expected = (whole + bias.reshape(1, -1, 1, 1))[:, :, 1:, :-2]
    assert_all(net, tmp_path, expected, x)
    assert_gradients(net, x[:1])


def test_a_same_convolution_of_odd_kernel_is_torchs_own(tmp_path):
    model = one_layer(tmp_path, "Convolution", (1, 3, 7, 8), CONV % "kernel_size: 3 pad_type: 1").to_torch()
    assert [type(module) for module in model.modules() if hasattr(module, "weight")] == [torch.nn.Conv2d]


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("Convolution", "kernel_size: 3 pad: 1 pad_type: 1", "gives both pad and pad_type"),
        ("Convolution", "kernel_size: 3 pad_l: 1 pad_type: 1", "gives both pad_type and pad_l"),
        ("Convolution", "kernel_size: 3 pad_l: -1", "pad of 0 to"),
        ("Convolution", "kernel_size: 3 output_scale: 0.5", "output_scale 0.5 asks for fixed-point"),
        ("Convolution", "kernel_size: 3 per_channel_scale_weight: true", "asks for fixed-point"),
        ("Convolution", "kernel_size: 3 submanifold_sparse: true", "submanifold_sparse is not"),
        ("Deconvolution", "kernel_size: 3 pad_type: 1", "SAME has no meaning"),
        ("Im2col", "kernel_size: 3 pad_l: 1", "other pads are for convolutions"),
    ],
)
def test_refused_pads(tmp_path, kind, text, words):
    with pytest.raises(caffeport.NetError, match=words):
        one_layer(tmp_path, kind, (1, 3, 7, 8), CONV % text)
