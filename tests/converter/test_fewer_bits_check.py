"""The check of ONNX files in float16 and int8: near float32, layer by layer, and no damage passes."""

from __future__ import annotations

import json

import caffeport
import numpy as np
import onnx
import pytest
from onnx.numpy_helper import to_array
from support import nets
from support.fewer_bits import FRONT, change, image_folder, net_with_statistics, pixels


@pytest.fixture
def net(tmp_path):
    return net_with_statistics(tmp_path)


@pytest.fixture
def images(tmp_path):
    return image_folder(tmp_path)


def test_the_check_says_what_the_file_is_and_claims_no_equality(net, images, tmp_path):
    net.to_onnx(tmp_path / "h.onnx", precision="float16", **FRONT)
    report = net.check(onnx=tmp_path / "h.onnx")
    assert report.ok and "h.onnx is float16, near float32 and not equal to it: each layer on the" in report.summary
    assert "rtol" not in report.summary  # nothing was compared by it
    net.to_onnx(tmp_path / "q.onnx", precision="int8", calibrate=images, **FRONT)
    report = net.check((pixels() - np.reshape(FRONT["mean"], (3, 1, 1))) / 64, onnx=tmp_path / "q.onnx")
    assert report.ok and "q.onnx is int8 (calibrated on 6 inputs), near float32" in report.summary
    assert all(set(row.rms) == {"q.onnx"} for row in report.rows if row.errors)
    assert all(0 <= row.of_bound["q.onnx"] <= 1 for row in report.rows if row.errors)
    assert json.loads(report.to_json())["coarser"]["q.onnx"] == {
        "about": "calibrated on 6 inputs",
        "name": "int8",
        "rms": 0.25,
    }
    assert report.table().headings[-2:] == ("rms", "of bound")
    with pytest.raises(caffeport.CaffeportError, match="is int8, which holds for inputs like those it was calibrated"):
        net.check(onnx=tmp_path / "q.onnx")


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_damage_within_is_found(net, images, tmp_path, precision):
    path = tmp_path / "q.onnx"
    net.to_onnx(path, precision=precision, calibrate=images, **FRONT)
    name = "fc.weight" if precision == "float16" else "fc.weight_quantized"

    def edit(model):
        entry = next(entry for entry in model.graph.initializer if entry.name == name)
        array = np.array(to_array(entry))
        array.reshape(-1)[:] = array.reshape(-1)[::-1]
        entry.CopyFrom(onnx.numpy_helper.from_array(array, name))

    change(path, edit)
    report = net.check((pixels() - np.reshape(FRONT["mean"], (3, 1, 1))) / 64, onnx=path)
    assert not report.ok and report.first_difference.layer == "fc"


def first_that_differs(net, path, name, edit):
    """The first layer that the check names when ``edit`` has changed a weight of the file, as an array of its own."""

    def store(model):
        entry = next(entry for entry in model.graph.initializer if entry.name == name)
        array = np.array(to_array(entry))
        edit(array)
        entry.CopyFrom(onnx.numpy_helper.from_array(array, name))

    change(path, store)
    inputs = (pixels(64) - np.reshape(FRONT["mean"], (3, 1, 1))) / 64  # in some of which the number matters
    report = net.check(inputs, onnx=path)
    return report.first_difference and report.first_difference.layer


def swap(array):
    array[[0, 1]] = array[[1, 0]]


def one(factor):
    def edit(array):
        place = np.abs(array.astype(np.float32)).argmax()
        array.reshape(-1)[place] = array.reshape(-1)[place] * factor

    return edit


@pytest.mark.parametrize(
    ("name", "edit", "layer"),
    [
        ("conv1.0", one(0.9), "bn1"),  # conv1 with BatchNorm in it, whose blob is the first that the file has
        ("conv1.1", one(1.05), "bn1"),
        ("conv2.weight", one(0.9), "conv2"),
        ("conv2.weight", swap, "conv2"),
        ("conv2.bias", one(1.05), "conv2"),
        ("fc.weight", one(0.8), "fc"),
        ("fc.bias", one(1.2), "fc"),
    ],
)
def test_one_wrong_number_of_float16_is_found_where_it_is(net, tmp_path, name, edit, layer):
    for param in net.params:
        if param.name == "bias":
            param.data = np.random.default_rng(1).standard_normal(param.shape)
    net.to_onnx(tmp_path / "h.onnx", precision="float16", **FRONT)
    assert first_that_differs(net, tmp_path / "h.onnx", name, lambda array: None) is None
    assert first_that_differs(net, tmp_path / "h.onnx", name, edit) == layer


@pytest.mark.parametrize(
    ("name", "edit", "layer"),
    [
        ("conv1.0_quantized", one(-1), "bn1"),
        ("conv2.weight_quantized", one(-1), "conv2"),
        ("conv2.weight_quantized", swap, "conv2"),
        ("conv2.weight_scale", one(1.5), "conv2"),
        ("conv2.bias_quantized", one(0), "conv2"),
        ("fc.weight_quantized", one(-1), "fc"),
        ("conv1_scale", lambda array: array.__imul__(0.25), "prelu1"),  # cuts off most of what conv2 reads
    ],
)
def test_one_wrong_number_of_int8_is_found_where_it_is(net, images, tmp_path, name, edit, layer):
    for param in net.params:
        if param.name == "bias":
            param.data = np.random.default_rng(1).standard_normal(param.shape)
    net.to_onnx(tmp_path / "q.onnx", precision="int8", calibrate=images, **FRONT)
    assert first_that_differs(net, tmp_path / "q.onnx", name, lambda array: None) is None
    assert first_that_differs(net, tmp_path / "q.onnx", name, edit) == layer


@pytest.mark.parametrize("readers", [1, 2])
def test_a_blob_in_another_shape_is_what_8_bits_are_taken_of(tmp_path, images, readers):
    """Flatten and Reshape before a Concat: what 8 bits are taken of is their blob, not the one before."""
    text = nets.inputs(data=(1, 3, 12, 10)) + nets.conv("data", "conv1", 6) + nets.layer("ReLU", "conv1", "conv1")
    text += nets.layer("Flatten", "conv1", "flat") + nets.layer("Flatten", "data", "seen")
    text += nets.layer("Reshape", "flat", "again", "reshape_param { shape { dim: 0 dim: -1 } }")
    text += nets.layer("Concat", "again seen" if readers == 1 else "again flat seen", "both")
    text += nets.inner_product("both", "fc", 5)
    net = nets.load(tmp_path, text)
    net.to_onnx(tmp_path / "q.onnx", precision="int8", calibrate=images, **FRONT)
    report = net.check((pixels() - np.reshape(FRONT["mean"], (3, 1, 1))) / 64, onnx=tmp_path / "q.onnx")
    assert report.ok, report.summary
    of_bound = {row.blob: row.of_bound["q.onnx"] for row in report.rows if row.errors}
    assert {"flat", "again", "both"} <= set(of_bound) and 0 < max(of_bound.values()) <= 1


def small_ssd(tmp_path, confidence):
    """Boxes of 3x2 cells and two sizes, from a convolution's numbers."""
    text = nets.inputs(data=(1, 3, 12, 10)) + nets.layer(
        "Convolution", "data", "cells",
        "convolution_param { num_output: 8 kernel_size: 4 stride: 4 weight_filler { type: 'gaussian' std: 0.3 } }",
    )  # fmt: skip
    for name, outputs in (("loc", 8), ("conf", 6)):
        text += nets.conv("cells", f"{name}_map", outputs)
        text += nets.layer("Permute", f"{name}_map", f"{name}_rows", " ".join(
            ["permute_param {", *(f"order: {axis}" for axis in (0, 2, 3, 1)), "}"]
        ))  # fmt: skip
        text += nets.layer("Flatten", f"{name}_rows", f"{name}_flat")
    text += nets.layer("PriorBox", "cells data", "one", "prior_box_param { min_size: 4 max_size: 6 clip: true }")
    text += nets.layer("PriorBox", "cells data", "two", "prior_box_param { min_size: 3 max_size: 5 clip: true }")
    text += nets.layer("Concat", "one two", "priors", "concat_param { axis: 2 }")
    for name in ("loc", "conf"):
        text += nets.layer("Concat", f"{name}_flat {name}_flat", f"all_{name}", "concat_param { axis: 1 }")
    text += nets.layer("Reshape", "all_conf", "by_class", "reshape_param { shape { dim: 0 dim: -1 dim: 3 } }")
    text += nets.layer("Softmax", "by_class", "shares", "softmax_param { axis: 2 }")
    text += nets.layer("Flatten", "shares", "confidences")
    text += nets.layer(
        "DetectionOutput", "all_loc confidences priors", "boxes",
        "detection_output_param { num_classes: 3 nms_param { nms_threshold: 0.45 top_k: 20 } keep_top_k: 10 "
        f"code_type: CENTER_SIZE confidence_threshold: {confidence} }}",
    )  # fmt: skip
    return nets.load(tmp_path, text)


def test_boxes_are_chosen_in_float32(tmp_path, images):
    """No coordinate, class or image number is rounded to 8 bits; what computes is."""
    net = small_ssd(tmp_path, 0.3)
    exported = net.to_onnx(tmp_path / "q.onnx", precision="int8", calibrate=images, **FRONT)
    assert 'float32 too, for boxes that 8 bits would move: "boxes"' in exported.precision
    nodes = onnx.load(tmp_path / "q.onnx").graph.node
    rounded = {node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    assert rounded == {"graph/Mul", "cells"}
    x = (pixels() - np.reshape(FRONT["mean"], (3, 1, 1))) / 64
    report = net.check(x, onnx=tmp_path / "q.onnx")
    assert report.ok, report.summary


def test_another_number_of_boxes_is_drift_and_not_a_wrong_layer(tmp_path):
    from caffeport.parity.coarser import EIGHT_BITS
    from caffeport.parity.compare import _open_axes
    from caffeport.parity.report import compared

    net = small_ssd(tmp_path, 0.3)
    boxes, fewer = net.values[-1], np.zeros((1, 1, 3, 7), np.float32)
    axes = _open_axes(net)
    assert axes[boxes] == {2} and not any(axes[value] for value in net.values[:-1])
    arrays = {"torch": np.zeros((1, 1, 5, 7), np.float32), "q.onnx": fewer}
    row = compared(boxes, arrays, 1e-4, 1e-5, {"q.onnx": EIGHT_BITS}, axes[boxes])
    assert row.ok and row.rms == {"q.onnx": 1.0} and row.note == "q.onnx has 1x1x3x7, torch 1x1x5x7"
    assert not compared(boxes, arrays, 1e-4, 1e-5, None, axes[boxes]).ok  # of float32 as many are demanded
    assert not compared(boxes, arrays, 1e-4, 1e-5, {"q.onnx": EIGHT_BITS}, {3}).ok
    cut = {**arrays, "q.onnx": fewer[..., :6]}
    assert not compared(boxes, cut, 1e-4, 1e-5, {"q.onnx": EIGHT_BITS}, axes[boxes]).ok


def test_a_drift_that_no_layer_is_to_blame_for_is_told_and_passes(tmp_path):
    """A difference of nearly equal numbers keeps few of their digits in float16; each layer is right by itself."""
    text = nets.inputs(data=(1, 3, 12, 10)) + nets.conv("data", "a", 4) + nets.conv("data", "b", 4)
    text += nets.layer("Eltwise", "a b", "difference", "eltwise_param { operation: SUM coeff: 1 coeff: -1 }")
    net = nets.load(tmp_path, text)
    for one_blob, other in zip(net.layer("a").params, net.layer("b").params, strict=True):
        other.data = one_blob.data * np.float32(1.001)
    net.to_onnx(tmp_path / "h.onnx", precision="float16")
    report = net.check(onnx=tmp_path / "h.onnx")
    assert report.rows[-1].rms["h.onnx"] > 0.05
    assert report.ok and report.rows[-1].of_bound["h.onnx"] <= 1


def test_metadata_cannot_loosen_the_check_of_a_float32_file(net, tmp_path):
    net.to_onnx(tmp_path / "f.onnx")

    def edit(model):
        onnx.helper.set_model_props(model, {"caffeport.precision": "int8"})
        entry = next(entry for entry in model.graph.initializer if entry.name == "conv1.0")
        entry.CopyFrom(onnx.numpy_helper.from_array(to_array(entry) * np.float32(1.01), entry.name))

    change(tmp_path / "f.onnx", edit)
    assert not net.check(onnx=tmp_path / "f.onnx").ok
