"""Convolution and pooling over time and space, against loops over windows."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import assert_all, assert_gradients, numbers

X = (2, 3, 5, 6, 7)


def one_layer(tmp_path, kind, parameters, shape=X):
    return nets.load(tmp_path, nets.inputs(x=shape) + nets.layer(kind, "x", "y", parameters))


def convolve(x, w, b, stride, pad):
    x = np.pad(x, [(0, 0), (0, 0), *[(p, p) for p in pad]])
    positions = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], w.shape[2:], stride, strict=True)]
    y = np.zeros((len(x), len(w), *positions))
    for place in np.ndindex(*positions):
        window = tuple(slice(i * s, i * s + k) for i, s, k in zip(place, stride, w.shape[2:], strict=True))
        y[(slice(None), slice(None), *place)] = np.tensordot(
            x[(slice(None), slice(None), *window)], w, ((1, 2, 3, 4),) * 2
        )
    return y + b.reshape(1, -1, 1, 1, 1)


C3D = f"num_output: 4 kernel_size: 3 kernel_depth: 2 stride: 2 pad: 1 temporal_pad: 1 {nets.GAUSS}"
ND = f"num_output: 4 kernel_shape {{ dim: [2, 3, 3] }} {nets.GAUSS} "
ND += "stride_shape { dim: [1, 2, 2] } pad_shape { dim: 1 dim: 1 dim: 1 }"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("Convolution3D", f"convolution3d_param {{ {C3D} }}"),
        ("Convolution3D", f"convolution_param {{ {C3D} filter_group: 2 }}"),  # C3D 1.0
        ("NdConvolution", f"convolution_param {{ {ND} }}"),
    ],
)
def test_convolution(tmp_path, kind, parameters):
    net = one_layer(tmp_path, kind, parameters)
    weight, bias = (blob.astype(np.float64) for blob in net.layers[-1].blobs)
    assert weight.shape == (4, 3, 2, 3, 3)
    x = numbers(*X)
    assert_all(net, tmp_path, convolve(x, weight, bias, (1, 2, 2), (1, 1, 1)), x)
    assert_gradients(net, x[:1])
    assert torch.nn.Conv3d in [type(module) for module in net.to_torch().modules()]
    top = net.blob_shapes["y"]
    assert net.layers[-1].op.multiply_adds([X], [top]) == math.prod(top) * 3 * 2 * 9


def test_deconvolution(tmp_path):
    net = one_layer(tmp_path, "Deconvolution3D", f"convolution3d_param {{ {C3D} }}", (2, 3, 4, 3, 3))
    weight, bias = (blob.astype(np.float64) for blob in net.layers[-1].blobs)
    assert weight.shape == (3, 4, 2, 3, 3)
    x, whole = numbers(2, 3, 4, 3, 3), np.zeros((2, 4, 5, 7, 7))
    for place in np.ndindex(4, 3, 3):
        span = tuple(slice(i * s, i * s + k) for i, s, k in zip(place, (1, 2, 2), (2, 3, 3), strict=True))
        whole[(slice(None), slice(None), *span)] += np.tensordot(x[(slice(None), slice(None), *place)], weight, (1, 0))
    expected = whole[:, :, 1:-1, 1:-1, 1:-1] + bias.reshape(1, -1, 1, 1, 1)
    assert_all(net, tmp_path, expected, x)
    assert_gradients(net, x[:1])


def pool(x, method, kernel, stride, pad, clips):
    positions = [
        math.ceil((n + 2 * p - k) / s) + 1 for n, k, s, p in zip(x.shape[2:], kernel, stride, pad, strict=True)
    ]
    if clips:
        positions = [
            c - (p > 0 and (c - 1) * s >= n + p) for c, n, s, p in zip(positions, x.shape[2:], stride, pad, strict=True)
        ]
    y = np.zeros((*x.shape[:2], *positions))
    for place in np.ndindex(*positions):
        starts = [i * s - p for i, s, p in zip(place, stride, pad, strict=True)]
        ends = [min(a + k, n + p) for a, k, n, p in zip(starts, kernel, x.shape[2:], pad, strict=True)]
        area = np.prod([b - a for a, b in zip(starts, ends, strict=True)])
        window = tuple(slice(max(a, 0), min(b, n)) for a, b, n in zip(starts, ends, x.shape[2:], strict=True))
        inside = x[(slice(None), slice(None), *window)].reshape(*x.shape[:2], -1)
        y[(slice(None), slice(None), *place)] = inside.max(-1) if method == "MAX" else inside.sum(-1) / area
    return y


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(
    ("depth", "size", "temporal", "stride", "pad"),
    [(1, 2, 1, 2, 0), (2, 2, 2, 2, 0), (2, 3, 2, 2, 0), (3, 3, 1, 2, 1), (2, 3, 1, 3, 1), (1, 2, 4, 5, 0)],
)
def test_pooling_3d(tmp_path, method, depth, size, temporal, stride, pad):
    if method == "MAX" and pad:
        pytest.skip("a pad is for AVE only")
    text = f"pool: {method} kernel_depth: {depth} kernel_size: {size} temporal_stride: {temporal} "
    text += f"stride: {stride} pad: {pad}"
    x = numbers(*X)
    for message in ("pooling3d_param", "pooling_param"):
        net = one_layer(tmp_path, "Pooling3D", f"{message} {{ {text} }}")
        expected = pool(
            x.astype(np.float64), method, (depth, size, size), (temporal, stride, stride), (0, pad, pad), False
        )
        assert_all(net, tmp_path, expected, x)
    assert_gradients(net, x[:1, :1])


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize("shape", [(2, 3, 5, 6, 7), (2, 3, 8, 9), (2, 3, 9)])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (3, 3, 1), (3, 1, 1), (3, 3, 2)])
def test_nd_pooling(tmp_path, method, shape, kernel, stride, pad):
    axes = len(shape) - 2
    parts = {"kernel_shape": kernel, "stride_shape": stride, "pad_shape": pad}
    text = " ".join(f"{name} {{ dim: {[size] * axes} }}" for name, size in parts.items())
    net = one_layer(tmp_path, "NdPooling", f"pooling_param {{ pool: {method} {text} }}", shape)
    x = numbers(*shape)
    expected = pool(x.astype(np.float64), method, (kernel,) * axes, (stride,) * axes, (pad,) * axes, True)
    assert_all(net, tmp_path, expected, x)


def test_global_nd_pooling(tmp_path):
    net = one_layer(tmp_path, "NdPooling", "pooling_param { pool: AVE kernel_shape { dim: 1 } global_pooling: true }")
    x = numbers(*X)
    assert_all(net, tmp_path, x.astype(np.float64).mean((2, 3, 4), keepdims=True), x)


def test_c3d_names_its_types_in_capitals(tmp_path):
    """C3D 1.0 has V1 texts, whose types are CONVOLUTION3D and POOLING3D; its fields are those of 2-D layers."""
    text = f"""name: "c3d" input: "data" input_shape {{ dim: [1, 3, 8, 16, 16] }}
    layer {{ name: "c" type: "Convolution3D" bottom: "data" top: "c"
      convolution_param {{ num_output: 4 kernel_size: 3 kernel_depth: 3 pad: 1 temporal_pad: 1 {nets.GAUSS} }} }}
    layer {{ name: "p" type: "Pooling3D" bottom: "c" top: "p"
      pooling_param {{ pool: MAX kernel_size: 2 kernel_depth: 1 stride: 2 temporal_stride: 1 }} }}"""
    net = nets.load(tmp_path, text)
    assert net.blob_shapes["p"] == (1, 4, 8, 8, 8)
    assert net.check().ok


@pytest.mark.parametrize(
    ("kind", "parameters", "words"),
    [
        ("Convolution3D", "convolution3d_param { num_output: 4 kernel_size: 3 }", "a kernel_size and a kernel_depth"),
        ("Convolution3D", f"convolution3d_param {{ {C3D} filter_group: 3 }}", "that filter_group divides"),
        ("Convolution3D", "convolution3d_param { num_output: 4 kernel_size: 9 kernel_depth: 1 }", "does not fit"),
        ("NdConvolution", "convolution_param { num_output: 4 kernel_size: 3 }", "expected a kernel_shape"),
        ("NdConvolution", "convolution_param { num_output: 4 kernel_shape { dim: 3 } }", "a kernel_shape of 3 values"),
        ("NdConvolution", f"convolution_param {{ {ND} pad: 1 }}", "in place of kernel_size"),
        ("Pooling3D", "pooling3d_param { kernel_size: 3 }", "a kernel_size and a kernel_depth"),
        ("Pooling3D", "pooling3d_param { kernel_size: 3 kernel_depth: 1 pad: 1 }", "a pad is for AVE only"),
        ("Pooling3D", "pooling3d_param { pool: STOCHASTIC kernel_size: 3 kernel_depth: 1 }", "MAX or AVE"),
        ("Pooling3D", "pooling3d_param { kernel_size: 9 kernel_depth: 1 }", "does not fit"),
        ("Pooling3D", "pooling3d_param { kernel_size: 2 kernel_depth: 1 temporal_stride: 3 }", "lies beyond a bottom"),
        ("NdPooling", "pooling_param { kernel_shape { dim: 2 } }", "expected 3 values"),
    ],
)
def test_refusals(tmp_path, kind, parameters, words):
    with pytest.raises(caffeport.NetError, match=words):
        one_layer(tmp_path, kind, parameters)
