"""Layers that move numbers along axes without changing them, against NumPy's functions of the same meaning."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import assert_all, assert_gradients, numbers


def one_layer(tmp_path, kind, shape, parameters="", tops="y"):
    return nets.load(tmp_path, nets.inputs(x=shape) + nets.layer(kind, "x", tops, parameters))


X = (2, 3, 4, 5)
ONE = (2, 1, 4, 1)
# Layer, parameters, shape, NumPy's version.
CASES = [
    ("Reverse", "reverse_param { axis: 0 }", X, lambda x: x[::-1]),
    ("Reverse", "", (4, 2, 3), lambda x: x[::-1]),
    ("Reverse", "reverse_param { axis: 1 axis: -1 }", X, lambda x: x[:, ::-1, :, ::-1]),
    ("Transpose", "transpose_param { dim: 3 dim: 2 dim: 0 dim: 1 }", X, lambda x: x.transpose(3, 2, 0, 1)),
    ("Squeeze", "", ONE, lambda x: x[:, 0, :, 0]),
    ("Squeeze", "squeeze_param { axis: -1 }", ONE, lambda x: x[..., 0]),
    ("Squeeze", "squeeze_param { axis: 1 axis: 3 }", ONE, lambda x: x[:, 0, :, 0]),
    ("Squeeze", "", X, lambda x: x),
    ("ExpandDimsND", "expand_dims_nd_param { axis: 1 }", (2, 3), lambda x: x[:, None]),
    ("ExpandDimsND", "expand_dims_nd_param { axis: -1 }", (2, 3), lambda x: x[..., None]),
    ("ExpandDimsND", "expand_dims_nd_param { axis: 0 axis: 1 }", (2, 3), lambda x: x[None, :, None]),
    ("ExpandDimsND", "expand_dims_nd_param { axis: 1 axis: 2 }", (2, 3), lambda x: x[:, None, :, None]),
    ("Stack", "", (2, 3), lambda x: x[None]),
    ("TileND", "tile_nd_param { multiples: 1 multiples: 2 multiples: 3 }", (2, 3, 4), lambda x: np.tile(x, (1, 2, 3))),
    (
        "BroadcastTo",
        "broadcast_to_param { shape: 3 shape: 2 shape: 4 }",
        (2, 1),
        lambda x: np.broadcast_to(x, (3, 2, 4)),
    ),
    ("Gather", "gather_param { indices: 2 indices: 0 indices: 2 shape: 3 axis: 1 }", X, lambda x: x[:, [2, 0, 2]]),
    ("Gather", "gather_param { indices: [1, 0, 3, 3] shape: [2, 2] axis: -2 }", X, lambda x: x[:, :, [[1, 0], [3, 3]]]),
    ("Gather", "gather_param { indices: 1 shape: 0 axis: 1 }", X, lambda x: x[:, 1]),
    ("Piece", "piece_param { begin: [0, 1, 2, 0] size: [-1, 2, -1, 3] }", X, lambda x: x[:, 1:3, 2:, :3]),
    ("StridedSlice", "strided_slice_param { begin: [0, 1] end: [2, 3] }", X, lambda x: x[0:2, 1:3]),
    (
        "StridedSlice",
        "strided_slice_param { begin: [0, 0, 9, -2] end: [0, 0, -9, 9] strides: [1, 1, -2, 1] "
        "begin_mask: 1 end_mask: 3 }",
        X,
        lambda x: x[:, :, ::-2, -2:],
    ),
    (
        "StridedSlice",
        "strided_slice_param { begin: [0, -1] end: [0, 0] begin_mask: 1 end_mask: 1 shrink_axis_mask: 2 }",
        X,
        lambda x: x[:, -1],
    ),
    ("StridedSlice", "strided_slice_param { begin: 1 end: -1 axes: -1 strides: 2 }", X, lambda x: x[..., 1:-1:2]),
    (
        "Pad",
        "pad_param { paddings: [0, 0, 1, 0, 0, 2, 3, 1] constant_values: 2.5 }",
        X,
        lambda x: np.pad(x, [(0, 0), (1, 0), (0, 2), (3, 1)], constant_values=2.5),
    ),
    *[
        (
            "MirrorPad",
            f'mirror_pad_param {{ paddings: [0, 0, 0, 0, 1, 2, 3, 0] mode: "{mode}" }}',
            X,
            lambda x, mode=mode: np.pad(x, [(0, 0), (0, 0), (1, 2), (3, 0)], mode.lower()),
        )
        for mode in ("CONSTANT", "REFLECT", "SYMMETRIC", "EDGE")
    ],
    ("CropCenter", "crop_center_param { crop_size: [0, 0, 1, 2] }", X, lambda x: x[:, :, 1:-1, 2:-2]),
]


@pytest.mark.filterwarnings("ignore:.*fixes the batch size:caffeport.CaffeportWarning")
@pytest.mark.parametrize(("kind", "parameters", "shape", "expected"), CASES)
def test_moves(tmp_path, kind, parameters, shape, expected):
    net = one_layer(tmp_path, kind, shape, parameters)
    x = numbers(*shape)
    assert net.blob_shapes["y"] == expected(x).shape
    assert_all(net, tmp_path, expected(x), x)
    assert_gradients(net, x)


@pytest.mark.parametrize(
    ("kind", "parameters", "expected"),
    [
        ("Reverse", "reverse_param { axis: 2 }", lambda x: x[:, :, ::-1]),
        (
            "Pad",
            "pad_param { paddings: [0, 0, 0, 0, 0, 2, 3, 1] }",
            lambda x: np.pad(x, [(0, 0), (0, 0), (0, 2), (3, 1)]),
        ),
        (
            "MirrorPad",
            'mirror_pad_param { paddings: [0, 0, 0, 0, 1, 2, 3, 0] mode: "REFLECT" }',
            lambda x: np.pad(x, [(0, 0), (0, 0), (1, 2), (3, 0)], "reflect"),
        ),
        ("CropCenter", "crop_center_param { crop_size: [0, 0, 1, 2] }", lambda x: x[:, :, 1:-1, 2:-2]),
        ("Piece", "piece_param { begin: [0, 1, 0, 0] size: [-1, 2, -1, -1] }", lambda x: x[:, 1:3]),
    ],
)
def test_a_free_size_stays_free_in_onnx(tmp_path, kind, parameters, expected):
    net = one_layer(tmp_path, kind, X, parameters)
    x = numbers(3, 3, 7, 9)
    assert_all(net, tmp_path, expected(x), x)


def test_a_slice_follows_the_size_of_its_input(tmp_path):
    model = one_layer(tmp_path, "StridedSlice", X, "strided_slice_param { begin: [0, 0, 1] end: [0, 0, 0] "
                      "begin_mask: 3 end_mask: 7 }").to_torch()  # fmt: skip
    x = torch.tensor(numbers(2, 3, 7, 5))
    np.testing.assert_array_equal(model(x), x[:, :, 1:])


def test_stack_and_unstack(tmp_path):
    text = nets.inputs(a=(2, 3), b=(2, 3)) + nets.layer("Stack", "a b", "s", "stack_param { axis: -1 }")
    net = nets.load(tmp_path, text + nets.layer("Unstack", "s", "c d", "unstack_param { axis: 2 num: 2 }"))
    a, b = numbers(2, 3), numbers(2, 3, seed=1)
    blobs = net.to_torch().blobs(torch.tensor(a), torch.tensor(b))
    np.testing.assert_array_equal(blobs["s"], np.stack([a, b], -1))
    np.testing.assert_array_equal(blobs["d"], b)
    assert net.check().ok
    single = one_layer(tmp_path, "Unstack", (2, 1, 3), "unstack_param { axis: 1 }")
    x = numbers(2, 1, 3)
    assert_all(single, tmp_path, x[:, 0], x)


@pytest.mark.parametrize(
    ("kind", "parameters", "words"),
    [
        ("Reverse", "reverse_param { axis: 4 }", "axis 4 is out of range"),
        ("Transpose", "transpose_param { dim: 0 dim: 1 }", "each of the axes 0 to 3 once"),
        ("Squeeze", "squeeze_param { axis: 1 }", "expected axes of length 1"),
        ("ExpandDimsND", "expand_dims_nd_param { axis: 5 }", "axis 5 is out of range"),
        ("Stack", "stack_param { axis: 5 }", "axis 5 is out of range"),
        ("Unstack", "", "a top for each of 2 along axis 0, got 1"),
        ("TileND", "tile_nd_param { multiples: 2 }", "one for each axis"),
        ("BroadcastTo", "broadcast_to_param { shape: [2, 3, 4, 6] }", "cannot be repeated"),
        ("Gather", "gather_param { indices: 3 shape: 1 axis: 1 }", "index 3 is out of axis 1"),
        ("Gather", "gather_param { indices: 3 shape: 2 }", "expected indices of 0 or more for a shape"),
        ("Piece", "piece_param { begin: [0, 1, 0, 0] size: [-1, 3, 1, 1] }", "3 from 1 is out of an axis"),
        ("StridedSlice", "strided_slice_param { begin: 1 end: 1 }", "takes nothing of axis 0"),
        ("StridedSlice", "strided_slice_param { begin: 1 end: 1 ellipsis_mask: 1 }", "ellipsis_mask and new_axis_mask"),
        ("StridedSlice", "strided_slice_param { begin: 1 end: 1 strides: 0 }", "other than 0"),
        ("Pad", "pad_param { paddings: 1 }", "two paddings of 0 or more for each axis"),
        ("MirrorPad", 'mirror_pad_param { mode: "WRAP" }', "expected a mode of CONSTANT, REFLECT"),
        ("MirrorPad", 'mirror_pad_param { paddings: [0, 0, 3, 0, 0, 0, 0, 0] mode: "REFLECT" }', "mirror more than"),
        ("CropCenter", "crop_center_param { crop_size: [1, 0, 0, 0] }", "leaves nothing"),
    ],
)
def test_refusals(tmp_path, kind, parameters, words):
    with pytest.raises(caffeport.NetError, match=words):
        one_layer(tmp_path, kind, X, parameters)
