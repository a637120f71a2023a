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


def pool(x, method, kernel, stride, near, positions, behind):
    """Windows clipped to the image padded by ``near`` and ``behind``; an average over all of it, or the pixels only."""
    y = np.zeros((*x.shape[:2], *positions))
    for i, j in np.ndindex(*positions):
        spans = []
        for place, axis in ((i, 0), (j, 1)):
            start = place * stride - near[axis]
            spans.append((start, min(start + kernel, x.shape[axis + 2] + behind[axis])))
        rows, columns = (slice(max(a, 0), min(b, n)) for (a, b), n in zip(spans, x.shape[2:], strict=True))
        window = x[:, :, rows, columns].reshape(*x.shape[:2], -1)
        area = np.prod([b - a for a, b in spans]) if method == "AVE" else window.shape[-1]
        y[:, :, i, j] = window.max(-1) if method == "MAX" else window.sum(-1) / area
    return y


METHODS = ["MAX", "AVE", "AVE_EXC_PAD"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 1), (2, 1), (4, 3), (2, 3)])
def test_pooling_same(tmp_path, method, kernel, stride):
    text = f"pooling_param {{ pool: {method} kernel_size: {kernel} stride: {stride} pad_type: SAME }}"
    net = one_layer(tmp_path, "Pooling", (1, 2, 9, 8), text)
    for size in ((9, 8), (6, 11)):
        x = numbers(1, 2, *size)
        plan = [same(n, kernel, stride) for n in size]
        totals = [max((p - 1) * stride + kernel - n, 0) for (p, _), n in zip(plan, size, strict=True)]
        near, behind = [p[1] for p in plan], [total - p[1] for total, p in zip(totals, plan, strict=True)]
        expected = pool(x.astype(np.float64), method, kernel, stride, near, [p[0] for p in plan], behind)
        np.testing.assert_allclose(net.to_torch()(torch.tensor(x)), expected, 1e-4, 1e-5)
        if size == (9, 8) or stride == 1:
            assert_all(net, tmp_path, expected, x)
    assert_gradients(net, numbers(1, 1, 5, 4))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ceil", [True, False])
@pytest.mark.parametrize("sides", [(1, 0, 2, 1), (0, 2, 0, 0), (1, 1, 1, 1)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (3, 1), (4, 3)])
def test_pooling_with_four_pads(tmp_path, method, ceil, sides, kernel, stride):
    top, left, bottom, right = sides
    text = f"pooling_param {{ pool: {method} kernel_size: {kernel} stride: {stride} pad_t: {top} pad_l: {left} "
    text += f"pad_b: {bottom} pad_r: {right} ceil_mode: {str(ceil).lower()} }}"
    net = one_layer(tmp_path, "Pooling", (1, 2, 9, 8), text)
    for size in ((9, 8), (7, 10)):
        positions = []
        for n, near, behind in ((size[0], top, bottom), (size[1], left, right)):
            room = (n + near + behind - kernel) / stride
            count = (math.ceil(room) if ceil else math.floor(room)) + 1
            positions.append(count - ((count - 1) * stride >= n + near))
        x = numbers(2, 2, *size)
        expected = pool(x.astype(np.float64), method, kernel, stride, (top, left), positions, (bottom, right))
        assert_all(net, tmp_path, expected, x)


@pytest.mark.parametrize("size", [(9, 8), (7, 10)])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 2, 1), (3, 3, 2), (2, 2, 0), (3, 1, 1)])
def test_average_without_the_pads(tmp_path, size, kernel, stride, pad):
    text = f"pooling_param {{ pool: AVE_TF kernel_size: {kernel} stride: {stride} pad: {pad} }}"
    net = one_layer(tmp_path, "Pooling", (1, 2, 9, 8), text)
    counts = [math.ceil((n + 2 * pad - kernel) / stride) + 1 for n in size]
    positions = [c - (pad > 0 and (c - 1) * stride >= n + pad) for c, n in zip(counts, size, strict=True)]
    x = numbers(2, 2, *size)
    expected = pool(x.astype(np.float64), "AVE_EXC_PAD", kernel, stride, (pad, pad), positions, (pad, pad))
    assert_all(net, tmp_path, expected, x)
    assert_gradients(net, x[:1])


def test_a_mask_with_four_pads(tmp_path):
    text = "pooling_param { pool: MAX kernel_size: 3 stride: 2 pad_t: 1 pad_r: 2 }"
    net = nets.load(tmp_path, nets.inputs(x=(1, 2, 7, 8)) + nets.layer("Pooling", "x", "y mask", text))
    x = numbers(1, 2, 7, 8)
    top, mask = (net.to_torch().blobs(torch.tensor(x))[name].numpy() for name in ("y", "mask"))
    np.testing.assert_array_equal(x.reshape(1, 2, -1)[0, 1][mask[0, 1].astype(int)], top[0, 1])
    assert net.check().ok


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pad: 1 pad_type: 1", "gives both pad and pad_type"),
        ("pad_h: 1 pad_w: 1 pad_l: 1", "gives both pad and pad_l"),
        ("pad_l: 3", "pad smaller than the kernel"),
        ("output_zero_point: 3", "output_zero_point 3 asks for fixed-point"),
        ("output_shift_instead_division: 2", "output_shift_instead_division asks for"),
        ("pool: STOCHASTIC pad_type: 1", "MAX and AVE pooling only"),
    ],
)
def test_refused_pads_of_pooling(tmp_path, text, words):
    with pytest.raises(caffeport.NetError, match=words):
        one_layer(tmp_path, "Pooling", (1, 3, 7, 8), f"pooling_param {{ kernel_size: 3 {text} }}")


def test_fixed_point_fields_at_their_defaults_are_taken(tmp_path):
    text = "pooling_param { kernel_size: 3 input_scale: 1 output_zero_point: 0 saturate: None quantize_method: ONNX }"
    assert one_layer(tmp_path, "Pooling", (1, 3, 7, 8), text).blob_shapes["y"] == (1, 3, 5, 6)
