"""Inputs that nothing on the way to the outputs reads are left out of what is exported, one by one."""

from __future__ import annotations

import json

import caffeport
import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from caffeport.cli.main import main
from caffeport.graph.walk import read_inputs, wanted_values
from support import nets
from support.backends import inner_product, numbers, run_file

SHAPE = (4, 3, 6, 5)
LABELLED = {
    "Data": 'data_param { source: "nowhere" batch_size: 4 } transform_param { mean_value: [1, 2, 3] }',
    "ImageData": 'image_data_param { source: "nowhere" batch_size: 4 new_height: 6 new_width: 5 }',
    "WindowData": 'window_data_param { source: "nowhere" batch_size: 4 } transform_param { crop_size: 6 }',
    "MemoryData": "memory_data_param { batch_size: 4 channels: 3 height: 6 width: 5 }",
    "HDF5Data": 'hdf5_data_param { source: "nowhere" batch_size: 4 }',
    "DummyData": "dummy_data_param { shape { dim: 4 dim: 3 dim: 6 dim: 5 } shape { dim: 4 } }",
    "Input": "input_param { shape { dim: 4 dim: 3 dim: 6 dim: 5 } shape { dim: 4 } }",
}
FRONTS = {kind: nets.layer(kind, "", "data label", fields, "both") for kind, fields in LABELLED.items()} | {
    "input:": ('input: "data" input_shape { dim: 4 dim: 3 dim: 6 dim: 5 } input: "label" input_shape { dim: 4 }\n'),
    "input_dim:": (
        'input: "label" input_dim: 4 input_dim: 1 input_dim: 1 input_dim: 1\n'
        'input: "data" input_dim: 4 input_dim: 3 input_dim: 6 input_dim: 5\n'
    ),
}
BODY = nets.inner_product("data", "fc", 4) + nets.layer("SoftmaxWithLoss", "fc label", "loss")


def load(tmp_path, front, body=BODY, **options):
    return nets.load(tmp_path, FRONTS[front] + body, input_shapes={"data": SHAPE, "label": (4,)}, **options)


@pytest.mark.parametrize("front", FRONTS)
def test_a_label_that_nothing_reads(tmp_path, front):
    net = load(tmp_path, front)
    assert sorted(net.inputs) == ["data", "label"]
    assert net.to_onnx(tmp_path / "n.onnx", outputs=["fc"]).inputs == ["data"]
    x = numbers(7, *SHAPE[1:])
    np.testing.assert_allclose(
        run_file(tmp_path / "n.onnx", {"data": x})["fc"], inner_product(x, net, "fc"), 1e-4, 1e-5
    )
    # the same where the net ends there anyway
    net = load(tmp_path, front, nets.inner_product("data", "fc", 4))
    assert net.to_onnx(tmp_path / "n.onnx").inputs == ["data"]
    assert caffeport.check(net).ok


def test_the_other_top_may_be_the_one_that_is_read(tmp_path):
    body = nets.layer("Power", "label", "twice", "power_param { scale: 2 }") + nets.layer("ReLU", "data", "r")
    net = load(tmp_path, "Data", body)
    assert net.to_onnx(tmp_path / "n.onnx", outputs=["twice"]).inputs == ["label"]
    np.testing.assert_array_equal(run_file(tmp_path / "n.onnx", {"label": numbers(9)})["twice"], 2 * numbers(9))


def test_inputs_are_judged_one_by_one_and_stay_in_order(tmp_path):
    text = nets.inputs(a=(2, 3), b=(2, 3), c=(2, 3), d=(2, 3)) + nets.layer("Eltwise", "d a", "sum")
    text += nets.layer("Eltwise", "b c", "other") + 'layer { name: "s" type: "Silence" bottom: "b" bottom: "other" }'
    net = nets.load(tmp_path, text)
    assert [value.name for value in read_inputs(net, wanted_values(net, ["sum"]))] == ["a", "d"]
    assert net.to_onnx(tmp_path / "n.onnx").inputs == ["a", "d"]


def test_an_input_that_is_read_for_its_shape_alone(tmp_path):
    """Its layer reads it, so it stays, though with sizes fixed no node needs more than numbers that are known."""
    crop = nets.layer("Crop", "data like", "c", "crop_param { axis: 2 offset: 1 }")
    net = nets.load(tmp_path, nets.inputs(data=(1, 2, 6, 6), like=(1, 2, 3, 4)) + crop)
    x, like = numbers(1, 2, 6, 6), numbers(1, 2, 3, 4)
    for dynamic in (True, False):
        assert net.to_onnx(tmp_path / "n.onnx", dynamic_batch=dynamic).inputs == ["data", "like"]
        found = run_file(tmp_path / "n.onnx", {"data": x, "like": like})
        np.testing.assert_array_equal(found["c"], x[:, :, 1:4, 1:5])


def test_a_part_of_a_layer_that_leads_to_no_output(tmp_path):
    """What only the second top of a layer needs goes too: its nodes and its constants."""

    @caffeport.layer_type("Two")
    class Two(caffeport.Operator):
        bottoms, tops = (2, 2), (2, 2)

        def top_shapes(self, bottoms):
            return list(bottoms)

        def onnx(self, g, *x):
            return [g.op("Neg", x[0]), g.op("Add", x[1], g.const(np.ones(3)))]

    net = nets.load(tmp_path, nets.inputs(a=(2, 3), b=(2, 3)) + nets.layer("Two", "a b", "x y"), custom_layers=[Two])
    net.to_onnx(tmp_path / "n.onnx", outputs=["x"])
    graph = onnx.load(tmp_path / "n.onnx").graph
    assert [node.op_type for node in graph.node] == ["Neg"] and not graph.initializer


def test_what_is_left_out_fixes_no_axis(tmp_path):
    """Neither a first input of another batch size, nor a layer beside the way that needs a fixed batch."""
    text = nets.inputs(mask=(1, 2, 9, 9), data=(4, 3, 6, 5)) + nets.conv("data", "c", 2)
    text += nets.layer("Reshape", "mask", "r", "reshape_param { shape { dim: 1 dim: 162 } }")
    net = nets.load(tmp_path, text)
    net.to_onnx(tmp_path / "n.onnx", outputs=["c"])  # the note that a layer fixes the batch would be an error here
    session = onnxruntime.InferenceSession(str(tmp_path / "n.onnx"), providers=["CPUExecutionProvider"])
    assert [(one.name, one.shape) for one in session.get_inputs()] == [("data", ["N", 3, "H", "W"])]


def test_preprocessing_is_for_the_image_that_is_read(tmp_path):
    text = nets.inputs(mask=(2, 3, 6, 5), data=(2, 3, 6, 5)) + nets.inner_product("data", "fc", 4)
    net = nets.load(tmp_path, text + nets.layer("ReLU", "mask", "r"))
    x, mean = numbers(2, 3, 6, 5), np.reshape([1, 2, 3], (3, 1, 1))
    wanted = inner_product((x - mean) * 0.5, net, "fc")
    net.to_onnx(tmp_path / "n.onnx", outputs=["fc"], mean=[1, 2, 3], scale=0.5)
    np.testing.assert_allclose(run_file(tmp_path / "n.onnx", {"data": x})["fc"], wanted, 1e-4, 1e-5)
    model = net.to_torch(outputs=["fc"], mean=[1, 2, 3], scale=0.5)
    with torch.no_grad():
        np.testing.assert_allclose(model(None, torch.tensor(x)).numpy(), wanted, 1e-4, 1e-5)
    with pytest.raises(caffeport.CaffeportError, match="needs an image input"):
        nets.load(tmp_path, nets.inputs(data=SHAPE, x=(2, 3)) + nets.layer("ReLU", "x", "r")).to_onnx(
            tmp_path / "n.onnx", mean=1
        )


def test_torch_keeps_the_inputs_of_the_net(tmp_path):
    """Their order is that of ``net.inputs`` whatever is asked for; None will do for one that is not read."""
    net = load(tmp_path, "Data")
    model = net.to_torch(outputs=["fc"])
    x = numbers(*SHAPE)
    with torch.no_grad():
        for label in (None, torch.zeros(4)):
            np.testing.assert_allclose(model(torch.tensor(x), label).numpy(), inner_product(x, net, "fc"), 1e-4, 1e-5)
    with pytest.raises(caffeport.CaffeportError, match=r"expected 2 inputs \(data, label\), got 1"):
        model(torch.tensor(x))


def test_the_check_needs_no_numbers_for_it(tmp_path, capsys):
    net = load(tmp_path, "MemoryData", nets.inner_product("data", "fc", 4))
    x = numbers(2, *SHAPE[1:])
    recorded = {"data": x, "fc": inner_product(x, net, "fc")}
    for options in ({"inputs": [x]}, {"inputs": {"data": x}}, {"inputs": [x, numbers(2)]}, {"reference": recorded}):
        report = caffeport.check(net, **options)
        assert report.ok and report.rows[0].shape == (2, 4), str(report)
    with pytest.raises(caffeport.CaffeportError, match=r"expected 1 inputs \(data\), got 3"):
        caffeport.check(net, [x, x, x])
    cv2.imwrite(str(tmp_path / "p.png"), np.full((9, 8, 3), 7, np.uint8))
    assert main(["check", str(tmp_path / "net.prototxt"), "--input", str(tmp_path / "p.png")]) == 0
    assert "fc (exported file)" in capsys.readouterr().out


def test_the_command_tells_what_the_file_takes(tmp_path, capsys):
    net = load(tmp_path, "MemoryData")
    net.save(tmp_path / "w.caffemodel")
    call = ["convert", tmp_path / "net.prototxt", tmp_path / "w.caffemodel", "--onnx", tmp_path / "n.onnx"]
    assert main([str(word) for word in [*call, "--output", "fc", "--json"]]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["inputs"], content["outputs"]) == (["data"], ["fc"])
