"""Synopsys' resizes and blocks, against loops that follow TensorFlow's definitions of these operators."""

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


def nhwc(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def nearest(x, height, width, rule):
    """Loops in exact arithmetic; sizes below have no tie that float32 could decide otherwise."""

    def place(i, old, new):
        if rule == "align_corners":
            return math.floor(i * (old - 1) / (new - 1) + 0.5) if new > 1 else 0
        shift = {"": 0.0, "half_pixel_centers": 0.5, "half_pixel_onnx": 0.5}[rule]
        return math.floor((i + shift) * old / new - (0.5 if rule == "half_pixel_onnx" else 0))

    rows = [min(max(place(i, x.shape[2], height), 0), x.shape[2] - 1) for i in range(height)]
    columns = [min(max(place(j, x.shape[3], width), 0), x.shape[3] - 1) for j in range(width)]
    return x[:, :, rows][:, :, :, columns]


RULES = ["", "align_corners", "half_pixel_centers", "half_pixel_onnx"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("height", "width"), [(8, 10), (3, 11), (1, 4)])
def test_resize_nearest_neighbor(tmp_path, rule, last, height, width):
    x = numbers(2, 3, 4, 5)
    text = f"resize_nearest_neighbor_param {{ output_height: {height} output_width: {width} "
    text += ("" if last else 'data_format: "NCHW" ') + (f"{rule}: true }}" if rule else "}")
    x, expected = x, nearest(x, height, width, rule)
    x, expected = (nhwc(x), nhwc(expected)) if last else (x, expected)
    net = one_layer(tmp_path, "ResizeNearestNeighbor", x.shape, text)
    assert_all(net, tmp_path, expected, x)
    assert_gradients(net, x[:1])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scale", [2, 3, 1.5])
def test_resize_nearest_neighbor_by_a_scale(tmp_path, rule, scale):
    """A whole scale leaves the size free in ONNX."""
    text = f'resize_nearest_neighbor_param {{ data_format: "NCHW" scale_height: {scale} scale_width: {scale} '
    net = one_layer(tmp_path, "ResizeNearestNeighbor", (1, 3, 4, 6), text + (f"{rule}: true }}" if rule else "}"))
    free = scale == int(scale) and rule in ("", "half_pixel_centers")
    x = numbers(1, 3, *((6, 8) if free else (4, 6)))
    height, width = int(x.shape[2] * scale), int(x.shape[3] * scale)
    assert_all(net, tmp_path, nearest(x, height, width, rule), x)


def test_a_factor_whose_inverse_rounds_down(tmp_path):
    """In float32, 41 * (1 / 41) is below 1: the fork's pixel 41 copies pixel 0, and so does every backend."""
    text = 'resize_nearest_neighbor_param { data_format: "NCHW" scale_height: 41 }'
    net = one_layer(tmp_path, "ResizeNearestNeighbor", (1, 1, 3, 1), text)
    places = np.floor(np.arange(123, dtype=np.float32) * (np.float32(3) / np.float32(123))).astype(int)
    x = numbers(1, 1, 3, 1)
    assert_all(net, tmp_path, x[:, :, places], x)


def linear(x, sizes, rule):
    """Along each of the last axes, the two neighbours weighed by the distance."""
    for axis, new in zip(range(2, 2 + len(sizes)), sizes, strict=True):
        old, parts = x.shape[axis], []
        for i in range(new):
            if rule == "align_corners" and new > 1:
                place = i * (old - 1) / (new - 1)
            elif rule == "half_pixel_centers" or (rule == "pytorch_half_pixel" and new > 1):
                place = (i + 0.5) * old / new - 0.5
            else:
                place = i * old / new if rule != "pytorch_half_pixel" else -0.5
            low, share = math.floor(place), place - math.floor(place)
            below, above = (np.take(x, min(max(p, 0), old - 1), axis) for p in (low, math.ceil(place)))
            parts.append(below * (1 - share) + above * share)
        x = np.stack(parts, axis)
    return x


LINEAR = ["", "align_corners", "half_pixel_centers", "pytorch_half_pixel"]


@pytest.mark.parametrize("rule", LINEAR)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("height", "width"), [(8, 10), (3, 11), (1, 4)])
def test_resize_bilinear(tmp_path, rule, last, height, width):
    x = numbers(2, 3, 4, 5)
    text = f"resize_bilinear_param {{ output_height: {height} output_width: {width} "
    text += ("" if last else 'data_format: "NCHW" ') + (f"{rule}: true }}" if rule else "}")
    expected = linear(x.astype(np.float64), (height, width), rule)
    x, expected = (nhwc(x), nhwc(expected)) if last else (x, expected)
    net = one_layer(tmp_path, "ResizeBilinear", x.shape, text)
    assert_all(net, tmp_path, expected, x)
    assert_gradients(net, x[:1])


@pytest.mark.parametrize("rule", LINEAR)
@pytest.mark.parametrize("scale", [2, 1.5])
def test_resize_bilinear_by_a_scale(tmp_path, rule, scale):
    text = f'resize_bilinear_param {{ data_format: "NCHW" scale_height: {scale} scale_width: {scale} '
    net = one_layer(tmp_path, "ResizeBilinear", (1, 3, 4, 6), text + (f"{rule}: true }}" if rule else "}"))
    x = numbers(2, 3, 6, 9)  # the ONNX file leaves the size free
    assert_all(net, tmp_path, linear(x.astype(np.float64), (int(6 * scale), int(9 * scale)), rule), x)


@pytest.mark.parametrize("rule", ["align_corners", "half_pixel_centers", ""])
def test_resize_trilinear(tmp_path, rule):
    text = 'resize_bilinear_param { data_format: "NCHWD" output_height: 5 output_width: 4 output_depth: 6 '
    net = one_layer(tmp_path, "ResizeBilinear", (2, 3, 3, 4, 5), text + (f"{rule}: true }}" if rule else "}"))
    x = numbers(2, 3, 3, 4, 5)
    assert_all(net, tmp_path, linear(x.astype(np.float64), (5, 4, 6), rule), x)


@pytest.mark.parametrize("stride", [1, 2, 3, 41])
def test_upsample_darknet(tmp_path, stride):
    net = one_layer(tmp_path, "UpsampleDarknet", (1, 2, 4, 3), f"upsample_darknet_param {{ stride: {stride} }}")
    x = numbers(2, 2, 5, 7)
    assert_all(net, tmp_path, np.kron(x, np.ones((stride, stride))), x)
    assert_gradients(one_layer(tmp_path, "UpsampleDarknet", (1, 1, 2, 2), "upsample_darknet_param { stride: 2 }"),
                     numbers(1, 1, 2, 2))  # fmt: skip


@pytest.mark.parametrize("format", ["NHWC", "NCHW", "CRD"])
def test_depth_to_space(tmp_path, format):
    x, block, outputs = numbers(2, 12, 3, 4), 2, 3
    expected = np.zeros((2, outputs, 6, 8), np.float32)
    for c, i, j in np.ndindex(outputs, block, block):
        channel = (c * block + i) * block + j if format == "CRD" else (i * block + j) * outputs + c
        expected[:, c, i::block, j::block] = x[:, channel]
    x, expected = (nhwc(x), nhwc(expected)) if format == "NHWC" else (x, expected)
    text = f'depth_to_space_param {{ block_size: 2 data_format: "{format}" }}'
    net = one_layer(tmp_path, "DepthToSpace", (1, *x.shape[1:]), text)
    assert_all(net, tmp_path, expected, x)
    assert_gradients(net, x[:1])


def test_reshape_as_pixel_shuffle(tmp_path):
    net = one_layer(tmp_path, "Reshape", (1, 12, 3, 4), "reshape_param { pixelshuffler: 2 }")
    x = numbers(2, 12, 5, 4)
    expected = np.zeros((2, 3, 10, 8), np.float32)
    for c, i, j in np.ndindex(3, 2, 2):
        expected[:, c, i::2, j::2] = x[:, (c * 2 + i) * 2 + j]
    assert_all(net, tmp_path, expected, x)
    with pytest.raises(caffeport.NetError, match="pixelshuffler 5 expects"):
        one_layer(tmp_path, "Reshape", (1, 12, 3, 4), "reshape_param { pixelshuffler: 5 }")


@pytest.mark.parametrize("format", ["NHWC", "NCHW"])
def test_space_to_depth(tmp_path, format):
    x, block = numbers(2, 3, 6, 4), 2
    expected = np.zeros((2, 12, 3, 2), np.float32)
    for c, i, j in np.ndindex(3, block, block):
        expected[:, (i * block + j) * 3 + c] = x[:, c, i::block, j::block]
    x, expected = (nhwc(x), nhwc(expected)) if format == "NHWC" else (x, expected)
    text = f'space_to_depth_param {{ block_size: 2 data_format: "{format}" }}'
    net = one_layer(tmp_path, "SpaceToDepth", (1, *x.shape[1:]), text)
    assert_all(net, tmp_path, expected, x)
    assert_gradients(net, x[:1])


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (2, 5, 4)])
def test_space_to_batch_and_back(tmp_path, shape):
    x, pads = numbers(*shape), (1, 0, 1, 1)
    padded = np.pad(x, [(0, 0), pads[:2], pads[2:], *[(0, 0)] * (len(shape) - 3)])
    # Batch (i * 2 + j) * N + n holds every third row from i and every second column from j of image n.
    expected = np.concatenate([padded[:, i::3, j::2] for i in range(3) for j in range(2)])
    text = "space_to_batch_nd_param { block_shape: 3 block_shape: 2 " + "".join(f"paddings: {p} " for p in pads) + "}"
    net = one_layer(tmp_path, "SpaceToBatchND", (1, *shape[1:]), text)
    assert_all(net, tmp_path, expected, x)
    assert_gradients(net, x[:1])
    crops = "batch_to_space_nd_param { block_shape: 3 block_shape: 2 " + "".join(f"crops: {p} " for p in pads) + "}"
    back = one_layer(tmp_path, "BatchToSpaceND", (6, *expected.shape[1:]), crops)
    assert_all(back, tmp_path, x, expected)
    assert_gradients(back, expected[:6])


@pytest.mark.parametrize(
    ("kind", "shape", "text", "words"),
    [
        (
            "ResizeBilinear",
            (1, 2, 4, 4),
            "resize_bilinear_param { align_corners: true half_pixel_centers: true }",
            "align_corners and half_pixel_centers",
        ),
        ("ResizeBilinear", (1, 2, 4, 4), "resize_bilinear_param { output_scale: 0.5 }", "output_scale 0.5 asks"),
        ("ResizeBilinear", (1, 2, 4, 4), "resize_bilinear_param { saturate: Signed }", "saturate Signed asks"),
        ("ResizeNearestNeighbor", (1, 2, 4, 4), 'resize_nearest_neighbor_param { data_format: "HWC" }', "NHWC or NCHW"),
        ("ResizeNearestNeighbor", (1, 4, 4, 2), "resize_nearest_neighbor_param { scale_height: 0.1 }", "is empty"),
        ("UpsampleDarknet", (1, 2, 4, 4), "upsample_darknet_param { stride: 0 }", "stride of 1 or more"),
        ("DepthToSpace", (1, 6, 4, 4), 'depth_to_space_param { block_size: 2 data_format: "NCHW" }', "not divide 6"),
        ("SpaceToDepth", (1, 3, 4, 4), "space_to_depth_param { block_size: 2 }", "does not divide a bottom of 3x4"),
        (
            "SpaceToBatchND",
            (1, 3, 4),
            "space_to_batch_nd_param { block_shape: 2 paddings: 0 paddings: 0 }",
            "does not divide",
        ),
        ("BatchToSpaceND", (3, 3, 4), "batch_to_space_nd_param { block_shape: 2 crops: 0 crops: 0 }", "batch of 3"),
        ("BatchToSpaceND", (2, 3, 4), "batch_to_space_nd_param { block_shape: 2 crops: 3 crops: 3 }", "leave nothing"),
    ],
)
def test_refusals(tmp_path, kind, shape, text, words):
    with pytest.raises(caffeport.NetError, match=words):
        one_layer(tmp_path, kind, shape, text)


def test_stock_modules(tmp_path):
    text = 'resize_bilinear_param { data_format: "NCHW" output_height: 7 output_width: 9 align_corners: true }'
    modules = [type(m) for m in one_layer(tmp_path, "ResizeBilinear", (1, 2, 4, 4), text).to_torch().modules()]
    assert torch.nn.Upsample in modules
