"""Where a net's weights come from is told wherever they are used: nobody takes a filler's numbers for a model."""

from __future__ import annotations

import json
import warnings

import caffeport
import numpy as np
import pytest
from caffeport import WeightsWarning
from caffeport.cli.main import main
from support import nets, protos

NONE = "none given, Caffe's fillers, seed 0"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    nets.load(tmp_path, nets.SMALL).save(tmp_path / "net.caffemodel")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_of_a_net(folder):
    assert caffeport.load("net.prototxt").weights_source == NONE
    assert caffeport.load("net.prototxt", seed=7).weights_source == "none given, Caffe's fillers, seed 7"
    net = caffeport.load("net.prototxt", "net.caffemodel")
    assert net.weights_source == "net.caffemodel" and not net.has_random_weights
    assert nets.load(folder, nets.inputs(data=(1, 2)) + nets.layer("ReLU", "data", "y")).weights_source == "none needed"


def test_of_a_net_with_part_of_its_weights(folder):
    half = protos.net(protos.layer("conv1", "Convolution", np.zeros((6, 3, 3, 3)), np.zeros(6)))
    path = protos.write(folder / "half.caffemodel", half)
    with pytest.warns(caffeport.CaffeportWarning, match="lacks"):
        net = caffeport.load("net.prototxt", path, allow_missing_weights=True)
    assert net.weights_source == (f"""{path}; Caffe's fillers, seed 0, for "bn1", "scale1", "relu1" and 1 more""")
    assert net.has_random_weights


def test_of_weights_that_are_given_by_hand(folder):
    net = caffeport.load("net.prototxt")
    assert net.with_weights(net.to_torch()).weights_source == "given"
    one = net.with_weights({"fc": net.layer("fc").blobs})
    assert one.weights_source == """given; Caffe's fillers, seed 0, for "conv1", "bn1", "scale1" and 1 more"""


def test_of_weights_in_the_text(folder):
    text = nets.inputs(data=(1, 2)) + nets.layer("PReLU", "data", "y", "blobs { data: 1 data: 2 }")
    assert nets.load(folder, text).weights_source == "given"


def test_a_report_says_so(folder):
    report = caffeport.check(caffeport.load("net.prototxt"))
    assert report.ok and report.weights == NONE
    assert report.summary.endswith(f"; with random weights ({NONE})")
    assert f"\nweights: {NONE}\n" in str(report)
    assert json.loads(report.to_json())["weights"] == NONE
    report = caffeport.check(caffeport.load("net.prototxt", "net.caffemodel"))
    assert report.weights == "net.caffemodel" and "random" not in report.summary


def test_an_onnx_file_of_random_weights_is_told(folder):
    with pytest.warns(WeightsWarning, match=rf"^n\.onnx has random weights: {NONE}$"):
        caffeport.load("net.prototxt").to_onnx("n.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        caffeport.load("net.prototxt", "net.caffemodel").to_onnx("n.onnx")


@pytest.mark.parametrize(
    ("weights", "source"), [([], NONE), (["net.caffemodel"], "net.caffemodel")], ids=["without", "with"]
)
@pytest.mark.parametrize("command", ["show", "check"])
def test_the_command_line_says_so(folder, capsys, command, weights, source):
    assert main([command, "net.prototxt", *weights]) == 0
    out = capsys.readouterr().out
    assert f"\nweights: {source}\n" in out
    assert ("random" in out) == (command == "check" and not weights)
    assert main([command, "net.prototxt", *weights, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["weights"] == source


def test_convert_says_so(folder, capsys):
    half = protos.net(protos.layer("conv1", "Convolution", np.zeros((6, 3, 3, 3)), np.zeros(6)))
    protos.write(folder / "half.caffemodel", half)
    arguments = ["convert", "net.prototxt", "half.caffemodel", "--allow-missing-weights", "--onnx", "n.onnx"]
    source = """half.caffemodel; Caffe's fillers, seed 0, for "bn1", "scale1", "relu1" and 1 more"""
    assert main(arguments) == 0
    out, error = capsys.readouterr()
    assert f"\nweights: {source}\n" in out
    assert f"caffeport: note: n.onnx has random weights: {source}\n" in error
    assert main([*arguments[:4], "--torch", "n.pth", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["weights"] == source
