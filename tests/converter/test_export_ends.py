"""Where an export ends: before the losses and metrics of a TEST text, and which layer fixes an image's size."""

from __future__ import annotations

import json

import caffeport
import numpy as np
import onnx
import onnxruntime
import pytest
from caffeport import CaffeportWarning, ExportError
from caffeport.cli.main import main
from support import nets, protos

ACCURACY = nets.layer("Accuracy", "fc label", "acc")
LOSS = nets.layer("SoftmaxWithLoss", "fc label", "loss")
HEAD = nets.inputs(data=(4, 3, 6, 6), label=(4,)) + nets.conv("data", "c", 2) + nets.inner_product("c", "fc", 5)


def ports(path) -> tuple[list[str], list[str]]:
    graph = onnx.load(str(path)).graph
    return [port.name for port in graph.input], [port.name for port in graph.output]


@pytest.mark.parametrize(
    ("tail", "outputs"),
    [
        (ACCURACY, ["fc"]),
        (LOSS, ["fc"]),
        (ACCURACY + LOSS, ["fc"]),
        (nets.layer("Softmax", "fc", "prob") + nets.layer("Accuracy", "prob label", "acc"), ["prob"]),
        (nets.layer("Softmax", "fc", "prob") + ACCURACY, ["prob"]),  # fc is read by what stays
        (nets.layer("SoftmaxWithLoss", "fc label", "loss prob"), ["fc"]),
        (nets.inner_product("c", "aux", 5) + nets.layer("Accuracy", "aux label", "top1") + LOSS, ["aux", "fc"]),
        (LOSS + nets.layer("Power", "loss", "half", "power_param { scale: 0.5 }"), ["fc"]),  # what reads a loss
        (nets.layer("Power", "label", "l2") + nets.layer("EuclideanLoss", "fc l2", "loss"), None),
        (nets.layer("ReLU", "fc", "fc", name="r") + ACCURACY, ["fc"]),
        (
            nets.layer("Slice", "fc", "a b", "slice_param { axis: 0 }") + nets.layer("EuclideanLoss", "a b", "l"),
            ["a", "b"],
        ),
    ],
)
def test_losses_and_metrics_at_the_end_are_left_out(tmp_path, tail, outputs):
    text = HEAD + tail
    if outputs is None:  # labels as wide as the net's output, and a layer on them alone
        outputs = ["fc"]
        text = nets.inputs(data=(4, 3, 6, 6), label=(4, 5)) + nets.conv("data", "c", 2)
        text += nets.inner_product("c", "fc", 5) + tail
    net = nets.load(tmp_path, text)
    with pytest.warns(CaffeportWarning, match=r"left out layer .*, which only measure: the outputs are .*; others by"):
        exported = net.to_onnx(tmp_path / "n.onnx")
    assert ports(tmp_path / "n.onnx") == (["data"], outputs) == (exported.inputs, exported.outputs)
    x = np.random.default_rng(0).standard_normal((4, 3, 6, 6)).astype(np.float32)
    made = onnxruntime.InferenceSession(str(tmp_path / "n.onnx")).run(None, {"data": x})
    bare = nets.load(tmp_path, text).to_torch(outputs=outputs)
    import torch

    expected = bare(torch.from_numpy(x), torch.zeros(net.blob_shapes["label"]))
    expected = {outputs[0]: expected} if len(outputs) == 1 else expected
    for name, array in zip(outputs, made, strict=True):
        np.testing.assert_allclose(array, expected[name].detach(), rtol=1e-4, atol=1e-5)


def test_a_loss_that_is_asked_for_or_trained_is_refused(tmp_path):
    net = nets.load(tmp_path, HEAD + LOSS)
    with pytest.raises(
        ExportError, match=r'"loss" \(SoftmaxWithLoss\): a loss layer cannot be exported.*outputs=\["fc"\]'
    ):
        net.to_onnx(tmp_path / "n.onnx", outputs=["loss"])
    with pytest.raises(ExportError, match=r'"loss" \(SoftmaxWithLoss\): a loss layer cannot be exported'):
        nets.load(tmp_path, HEAD + LOSS, phase="train").to_onnx(tmp_path / "n.onnx")
    only = nets.inputs(data=(4, 5), label=(4,)) + nets.layer("SoftmaxWithLoss", "data label", "loss")
    with pytest.raises(ExportError, match=r"a loss layer cannot be exported"):
        nets.load(tmp_path, only).to_onnx(tmp_path / "n.onnx")
    assert not (tmp_path / "n.onnx").exists()


def test_check_compares_the_file_that_is_exported(tmp_path):
    report = caffeport.check(nets.load(tmp_path, HEAD + ACCURACY + LOSS))
    assert report.ok and [row.blob for row in report.exported] == ["fc"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_convert_tells_what_it_leaves_out_and_speaks_of_its_own_option(folder, capsys):
    nets.load(folder, HEAD + ACCURACY).save("net.caffemodel")
    assert main(["convert", "net.prototxt", "net.caffemodel", "--onnx", "n.onnx"]) == 0
    out, err = capsys.readouterr()
    assert 'note: left out layer "acc" (Accuracy)' in err and "--output BLOB" in err and "outputs=" not in err
    assert "inputs data; outputs fc" in out
    assert main(["convert", "net.prototxt", "net.caffemodel", "--onnx", "n.onnx", "--output", "c"]) == 0
    assert "left out" not in capsys.readouterr().err and ports("n.onnx") == (["data"], ["c"])
    assert main(["convert", "net.prototxt", "net.caffemodel", "--onnx", "n.onnx", "--output", "acc"]) == 2
    err = capsys.readouterr().err
    assert "export up to a blob before it, as --output fc" in err and "outputs=" not in err


def test_a_program_for_torch_ends_there_too(folder):
    import torch

    nets.load(folder, HEAD + ACCURACY).save("net.caffemodel")
    assert main(["convert", "net.prototxt", "net.caffemodel", "--torch", "n.pt2"]) == 0
    made = torch.export.load("n.pt2").module()(torch.zeros(4, 3, 6, 6), torch.zeros(4))
    assert made.shape == (4, 5)


@pytest.mark.parametrize(
    ("body", "layer"),
    [
        (nets.inner_product("data", "fc", 2), '"fc" (InnerProduct)'),
        (
            nets.conv("data", "c", 2) + nets.inner_product("c", "fc", 2) + nets.layer("ReLU", "fc", "y"),
            '"fc" (InnerProduct)',
        ),
        (nets.layer("Reshape", "data", "y", "reshape_param { shape { dim: [0, 3, 36] } }"), '"y" (Reshape)'),
        (nets.conv("data", "c", 2), None),
        (nets.layer("Pooling", "data", "p", "pooling_param { pool: AVE global_pooling: true }"), None),
        (
            nets.layer("Pooling", "data", "p", "pooling_param { pool: AVE global_pooling: true }")
            + nets.inner_product("p", "fc", 2),
            None,
        ),
    ],
)
def test_the_layer_that_fixes_height_and_width_is_named(folder, capsys, body, layer):
    nets.load(folder, nets.inputs(data=(1, 3, 6, 6)) + body).save("net.caffemodel")
    arguments = ["convert", "net.prototxt", "net.caffemodel", "--onnx", "n.onnx"]
    assert main(arguments) == 0
    told = f'height and width of "data" are fixed at 6x6 by layer {layer}'
    out = capsys.readouterr().out
    assert told in out if layer else "fixed" not in out
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fixed_size"] == (told if layer else None)
    assert main([*arguments, "--no-dynamic-batch"]) == 0
    assert "fixed" not in capsys.readouterr().out  # as asked for


def test_the_layer_that_fixes_the_batch_is_named(tmp_path):
    text = nets.inputs(data=(3, 4)) + nets.layer("ReLU", "data", "r")
    text += nets.layer("Reshape", "r", "y", "reshape_param { shape { dim: 3 dim: 2 dim: 2 } }")
    with pytest.warns(
        CaffeportWarning, match=r'layer "y" \(Reshape\) fixes the batch size, so the ONNX file is for the'
    ):
        assert nets.load(tmp_path, text).to_onnx(tmp_path / "n.onnx").fixed_size == ""


def test_a_mean_image_fixes_height_and_width(folder, capsys):
    nets.load(folder, nets.inputs(data=(1, 3, 6, 6)) + nets.conv("data", "c", 2)).save("net.caffemodel")
    mean = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)  # of the size before cropping
    protos.write(folder / "mean.binaryproto", protos.blob(mean))
    assert main(["convert", "net.prototxt", "net.caffemodel", "--onnx", "n.onnx", "--mean", "mean.binaryproto"]) == 0
    assert 'height and width of "data" are fixed at 6x6 by the mean image' in capsys.readouterr().out
    dims = onnx.load("n.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["N", 3, 6, 6]
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    import torch

    bare = caffeport.load("net.prototxt", "net.caffemodel").to_torch()
    expected = bare(torch.from_numpy(x - mean[:, :, 1:7, 1:7])).detach()
    (made,) = onnxruntime.InferenceSession("n.onnx").run(None, {"data": x})
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)
