"""Names in the ONNX file: layers that work in place on an input, and blobs called like what is generated."""

from __future__ import annotations

import json

import caffeport
import numpy as np
import pytest
import torch
from caffeport.cli.main import main
from support import nets
from support.backends import inner_product, numbers, run_file

SHAPE = (2, 3, 4, 5)
FRONTS = {
    "Input": nets.inputs(data=SHAPE),
    "input: and input_dim:": 'input: "data" input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 5\n',
    "input: and input_shape": 'input: "data" input_shape { dim: 2 dim: 3 dim: 4 dim: 5 }\n',
    "MemoryData": (
        'layer { name: "d" type: "MemoryData" top: "data" top: "label" '
        "memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 } }\n"
    ),
}
SCALE = "scale_param { filler { value: -1.5 } bias_term: true bias_filler { value: 0.25 } }"
AGAIN = nets.layer("TanH", "data", "data", name="t")
IN_PLACE = nets.layer("Scale", "data", "data", SCALE, "bn_data") + nets.layer("ReLU", "data", "data", name="r")


def after(x):
    """Compute the result of IN_PLACE's layers on x."""
    return np.maximum(-1.5 * x + 0.25, 0)


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("front", FRONTS)
def test_an_input_keeps_its_name_where_layers_work_in_place_on_it(tmp_path, front, fold):
    net = nets.load(tmp_path, FRONTS[front] + IN_PLACE + nets.inner_product("data", "fc", 4))
    names = net.to_onnx(tmp_path / "n.onnx", fold=fold)
    assert names == (["data"], ["fc"])
    x = numbers(5, *SHAPE[1:])  # any batch
    found = run_file(tmp_path / "n.onnx", {"data": x})
    assert list(found) == ["fc"]
    np.testing.assert_allclose(found["fc"], inner_product(after(x), net, "fc"), 1e-4, 1e-5)


def test_preprocessing_comes_before_layers_in_place(tmp_path):
    net = nets.load(tmp_path, nets.inputs(data=SHAPE) + IN_PLACE + nets.inner_product("data", "fc", 4))
    net.to_onnx(tmp_path / "n.onnx", mean=[1, 2, 3], scale=0.5, rgb=True)
    x = numbers(*SHAPE)
    prepared = (x[:, ::-1] - np.reshape([1, 2, 3], (3, 1, 1))) * 0.5
    np.testing.assert_allclose(
        run_file(tmp_path / "n.onnx", {"data": x})["fc"], inner_product(after(prepared), net, "fc"), 1e-4, 1e-5
    )


def test_a_reader_before_the_layer_in_place_sees_the_input(tmp_path):
    text = nets.inputs(data=SHAPE) + nets.layer("AbsVal", "data", "size") + IN_PLACE
    net = nets.load(tmp_path, text + nets.layer("Eltwise", "size data", "sum"))
    net.to_onnx(tmp_path / "n.onnx")
    x = numbers(*SHAPE)
    np.testing.assert_allclose(run_file(tmp_path / "n.onnx", {"data": x})["sum"], abs(x) + after(x), 1e-5, 1e-6)


def test_in_place_on_a_label_and_on_the_first_of_two_inputs(tmp_path):
    text = nets.inputs(data=SHAPE, label=SHAPE) + nets.layer("Power", "label", "label", "power_param { scale: 3 }", "p")
    text += nets.layer("Eltwise", "data label", "data", "eltwise_param { operation: PROD }", "e")
    net = nets.load(tmp_path, text + nets.layer("Eltwise", "label data", "sum"))
    assert net.to_onnx(tmp_path / "n.onnx").inputs == ["data", "label"]
    x, y = numbers(*SHAPE), numbers(*SHAPE, seed=1)
    found = run_file(tmp_path / "n.onnx", {"data": x, "label": y})
    np.testing.assert_allclose(found["sum"], 3 * y + x * 3 * y, 1e-5, 1e-6)


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("outputs", [None, ["data"], ["data", "size"]])
def test_an_output_whose_name_an_input_has_is_called_after_its_layer(tmp_path, outputs, fold):
    net = nets.load(tmp_path, nets.inputs(data=SHAPE) + IN_PLACE + nets.layer("AbsVal", "data", "size") + AGAIN)
    assert net.outputs == ["data", "size"]
    names = net.to_onnx(tmp_path / "n.onnx", outputs=outputs, fold=fold)
    x = numbers(*SHAPE)
    found = run_file(tmp_path / "n.onnx", {"data": x})
    assert names.outputs == list(found) == ["data@t", "size"][: 1 if outputs == ["data"] else 2]
    np.testing.assert_allclose(found["data@t"], np.tanh(after(x)), 1e-5, 1e-6)


def test_an_input_as_an_output(tmp_path):
    """It is the same tensor, and so has the one name; with preprocessing in between it is another."""
    net = nets.load(tmp_path, nets.inputs(data=SHAPE) + nets.layer("ReLU", "data", "r"))
    x = numbers(*SHAPE)
    net.to_onnx(tmp_path / "n.onnx", outputs=["data", "r"])
    found = run_file(tmp_path / "n.onnx", {"data": x})
    np.testing.assert_array_equal(found["data"], x)
    np.testing.assert_array_equal(found["r"], np.maximum(x, 0))
    names = net.to_onnx(tmp_path / "n.onnx", outputs=["data", "r"], mean=2)
    found = run_file(tmp_path / "n.onnx", {"data": x})
    assert names.outputs == list(found) == ["data@data", "r"]
    np.testing.assert_allclose(found["data@data"], x - 2, 1e-6)


def test_a_layer_that_passes_an_input_on_in_place(tmp_path):
    text = nets.inputs(data=SHAPE) + nets.layer("Dropout", "data", "data", name="d")
    x = numbers(*SHAPE)
    nets.load(tmp_path, text).to_onnx(tmp_path / "n.onnx")
    np.testing.assert_array_equal(run_file(tmp_path / "n.onnx", {"data": x})["data@d"], x)
    nets.load(tmp_path, text + nets.layer("ReLU", "data", "r")).to_onnx(tmp_path / "n.onnx")
    np.testing.assert_array_equal(run_file(tmp_path / "n.onnx", {"data": x})["r"], np.maximum(x, 0))


def chain(*blobs, first="data"):
    """Scale layers, of two nodes each, from blob to blob; each is called as the blob it makes."""
    bottoms = (first, *blobs)
    return nets.inputs(**{first: SHAPE}) + "".join(
        nets.layer("Scale", bottom, top, SCALE) for bottom, top in zip(bottoms, blobs, strict=False)
    )


CLASHES = {
    "a blob like a node": chain("a", "a/Mul", "a/Add", "a/Mul_2"),
    "a blob like a weight": chain("a", "a.weight", "a.bias", "b"),
    "a blob like a constant": nets.inputs(data=SHAPE)
    + nets.layer("Power", "data", "p", "power_param { scale: 2 shift: 1 }")
    + nets.layer("ReLU", "p", "p/const")
    + nets.layer("TanH", "p/const", "p/const_2"),
    "a blob like a version of another": nets.inputs(data=SHAPE)
    + nets.conv("data", "c", 2)
    + nets.layer("ReLU", "c", "c", name="r")
    + nets.layer("TanH", "c", "c@c", name="t")
    + nets.layer("Sigmoid", "c@c", "c@c_2", name="s"),
    "an input like a version": nets.inputs(data=SHAPE, **{"data@r": SHAPE})
    + IN_PLACE
    + nets.layer("Eltwise", "data data@r", "e"),
    "a layer like the node of an output": nets.inputs(data=SHAPE)
    + nets.layer("Power", "data", "b", name="a")  # its one node is called a/Identity
    + nets.layer("Dropout", "b", "a", name="d"),
    "an input like preprocessing": chain("graph/Mul", "graph/const", first="graph/Sub"),
    "layers of one name in place": nets.inputs(data=SHAPE)
    + "".join(nets.layer(kind, "data", "data", name="r") for kind in ("ReLU", "TanH", "Sigmoid")),
    "layers without names": nets.inputs(data=SHAPE)
    + 'layer { type: "ReLU" bottom: "data" top: "a" } layer { type: "TanH" bottom: "a" top: "a" }'
    + 'layer { type: "Power" bottom: "a" top: "b" power_param { scale: 2 shift: 1 } }',
    "a blob without a name": nets.inputs(data=SHAPE)
    + 'layer { name: "r" type: "ReLU" bottom: "data" top: "" } layer { name: "t" type: "TanH" bottom: "" top: "t" }',
    "an output without a name": nets.inputs(data=SHAPE) + 'layer { name: "r" type: "ReLU" bottom: "data" top: "" }',
    "inputs like free axes": nets.inputs(N=SHAPE, H=SHAPE)
    + nets.layer("Concat", "N H", "W", "concat_param { axis: 0 }")
    + nets.layer("ReLU", "W", "N_0"),
}


@pytest.mark.parametrize("options", [{}, {"fold": False}, {"mean": [1, 2, 3], "scale": 0.5}], ids=str)
@pytest.mark.parametrize("text", CLASHES.values(), ids=list(CLASHES))
def test_blobs_called_like_something_generated(tmp_path, text, options):
    net = nets.load(tmp_path, text)
    assert len({value.key for value in net.values}) == len(net.values)
    names = net.to_onnx(tmp_path / "n.onnx", **options)
    assert names.inputs == net.inputs
    arrays = [numbers(*SHAPE, seed=seed) for seed in range(len(net.inputs))]
    found = run_file(tmp_path / "n.onnx", dict(zip(net.inputs, arrays, strict=True)))
    with torch.no_grad():
        made = net.to_torch(**{k: v for k, v in options.items() if k != "fold"})(*map(torch.tensor, arrays))
    wanted = [made] if torch.is_tensor(made) else list(made.values())
    for name, array, tensor in zip(names.outputs, found.values(), wanted, strict=True):
        np.testing.assert_allclose(array, tensor.numpy(), 1e-4, 1e-5, err_msg=name)
    report = caffeport.check(net)
    assert report.ok and all(row.errors for row in [*report.rows, *report.exported]), str(report)


def test_an_input_without_a_name(tmp_path):
    text = nets.inputs(data=SHAPE).replace('top: "data"', 'top: ""') + 'layer { type: "ReLU" bottom: "" top: "y" }'
    net = nets.load(tmp_path, text)
    assert net.to_onnx(tmp_path / "n.onnx").inputs == ["@data"]
    assert caffeport.check(net).ok


def test_what_a_file_cannot_have(tmp_path):
    net = nets.load(tmp_path, nets.inputs(data=SHAPE) + 'layer { name: "s" type: "Silence" bottom: "data" }')
    with pytest.raises(caffeport.ExportError, match=r"has no output; name a blob to export up to \(outputs="):
        net.to_onnx(tmp_path / "n.onnx")
    net = nets.load(tmp_path, nets.inputs(data=SHAPE) + nets.layer("ReLU", "data", "r"))
    with pytest.raises(caffeport.NetError, match="outputs names no blob"):
        net.to_onnx(tmp_path / "n.onnx", outputs=[])
    assert net.to_onnx(tmp_path / "n.onnx", outputs=["r", "r"]).outputs == ["r"]


def test_the_check_of_a_net_that_works_in_place_on_its_input(tmp_path):
    net = nets.load(tmp_path, nets.inputs(data=SHAPE) + IN_PLACE)
    report = caffeport.check(net)
    assert report.ok, str(report)
    assert [row.blob for row in report.rows] == ["data@bn_data", "data"]
    assert [(row.blob, row.note) for row in report.exported] == [("data", "exported file")]
    x = numbers(*SHAPE)
    report = caffeport.check(net, [x], reference={"data": after(x)})
    assert report.ok and report.rows[-1].baseline == "reference"
    assert not caffeport.check(net, [x], reference={"data": x}).ok


def test_a_recorded_blob_that_was_overwritten_is_not_taken_for_the_input(tmp_path):
    net = nets.load(tmp_path, nets.inputs(data=SHAPE) + IN_PLACE + nets.inner_product("data", "fc", 4))
    x = numbers(*SHAPE)
    recorded = {"data": after(x).astype(np.float32), "fc": inner_product(after(x), net, "fc")}
    with pytest.raises(
        caffeport.CaffeportError, match=r'"data" is what layer "r" \(ReLU\) left there, working in place, not the input'
    ):
        caffeport.check(net, reference=recorded)
    assert caffeport.check(net, {"data": x}, reference=recorded).ok


def test_the_command_tells_what_the_file_has(tmp_path, capsys):
    net = nets.load(tmp_path, nets.inputs(data=SHAPE) + IN_PLACE)
    net.save(tmp_path / "w.caffemodel")
    call = ["convert", tmp_path / "net.prototxt", tmp_path / "w.caffemodel", "--onnx", tmp_path / "n.onnx"]
    assert main([str(word) for word in call]) == 0
    assert "inputs data; outputs data@r; " in capsys.readouterr().out
    assert main([str(word) for word in [*call, "--output", "data", "--json"]]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["inputs"], content["outputs"]) == (["data"], ["data@r"])
