"""The forms that layers take in a file for one runtime or for all: fast ones, with the same numbers."""

from __future__ import annotations

import warnings

import caffeport
import numpy as np
import onnx
import onnxruntime
import pytest
from caffeport.cli.main import main
from support import nets

DRAW = np.random.default_rng(0)
SLOPES = np.array([0.25, 0.0, -0.5, 1.0, 2.5, 1e-7, -3.0, 1e-3], np.float32)
EXTREMES = np.array([np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-40, -1e-40, 0.0, -1.5, 7.25], np.float32)


def prelu_net(folder, shape, slopes, shared=False):
    text = nets.inputs(x=shape)
    text += nets.layer("PReLU", "x", "y", f"prelu_param {{ channel_shared: {str(shared).lower()} }}")
    net = nets.load(folder, text)
    net.params[0].data = slopes
    return net


def written(net, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.to_onnx(path, **options)
    return onnx.load(str(path))


def run(path, x):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def kinds(model):
    return [node.op_type for node in model.graph.node]


def expected_prelu(x, slopes):
    """The layer's formula, elementwise: the number itself above 0, the slope times it otherwise."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(x > 0, x, x * slopes)


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize(
    ("target", "nodes"),
    [
        ("any", ["Mul", "Relu", "Mul", "Relu", "Add"]),
        ("onnxruntime", ["Mul", "Relu", "Mul", "Relu", "Add"]),
        ("openvino", ["PRelu"]),
        ("opencv", ["PRelu"]),
    ],
)
def test_prelu_has_the_same_numbers_for_every_runtime(target, nodes, opset, tmp_path):
    net = prelu_net(tmp_path, (2, 8, 3, 4), SLOPES)
    model = written(net, tmp_path / "a.onnx", target=target, opset=opset)
    assert kinds(model) == nodes
    x = (DRAW.standard_normal((3, 8, 5, 4)) * 10.0 ** DRAW.integers(-30, 30, (3, 8, 5, 4))).astype(np.float32)
    np.testing.assert_array_equal(run(tmp_path / "a.onnx", x), expected_prelu(x, SLOPES.reshape(8, 1, 1)))


@pytest.mark.parametrize("slope", [0.25, -1.0, 0.0, 1.0, 2.0])
def test_prelu_of_infinities_and_huge_and_tiny_numbers(slope, tmp_path):
    net = prelu_net(tmp_path, (1, 3, 1, len(EXTREMES)), np.full(3, slope, np.float32))
    written(net, tmp_path / "a.onnx")
    x = np.broadcast_to(EXTREMES, (1, 3, 1, len(EXTREMES)))
    np.testing.assert_array_equal(run(tmp_path / "a.onnx", x), expected_prelu(x, np.float32(slope)))


@pytest.mark.parametrize("slope", [0.25, -1.0, 2.0])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3)])
def test_prelu_with_one_slope_for_all_channels(shape, slope, tmp_path):
    net = prelu_net(tmp_path, shape, np.array(slope, np.float32), shared=True)
    assert kinds(written(net, tmp_path / "a.onnx")) == ["LeakyRelu"]
    assert kinds(written(net, tmp_path / "plain.onnx", fold=False)) == ["PRelu"]
    x = DRAW.standard_normal(shape).astype(np.float32)
    for name in ("a.onnx", "plain.onnx"):
        np.testing.assert_array_equal(run(tmp_path / name, x), expected_prelu(x, np.float32(slope)))


def test_prelu_of_what_is_no_image_stays_one_node(tmp_path):
    net = prelu_net(tmp_path, (2, 8), SLOPES)
    assert kinds(written(net, tmp_path / "a.onnx")) == ["PRelu"]
    x = DRAW.standard_normal((2, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(tmp_path / "a.onnx", x), expected_prelu(x, SLOPES))


def test_a_net_that_is_not_folded_has_a_node_for_a_layer(tmp_path):
    model = written(prelu_net(tmp_path, (2, 8, 3, 4), SLOPES), tmp_path / "a.onnx", fold=False, target="onnxruntime")
    assert kinds(model) == ["PRelu"]
    assert {entry.key: entry.value for entry in model.metadata_props}["caffeport.target"] == "plain"


def test_the_target_stands_in_the_metadata(tmp_path):
    net = prelu_net(tmp_path, (2, 8, 3, 4), SLOPES)
    for options, told in (({}, "any"), ({"target": "opencv"}, "opencv")):
        model = written(net, tmp_path / "a.onnx", **options)
        assert {entry.key: entry.value for entry in model.metadata_props}["caffeport.target"] == told


def test_an_unknown_target_is_refused(tmp_path, capsys):
    net = prelu_net(tmp_path, (2, 8, 3, 4), SLOPES)
    with pytest.raises(caffeport.CaffeportError, match=r'target "openvin" is unknown \(did you mean "openvino"\?\)'):
        net.to_onnx(tmp_path / "a.onnx", target="openvin")
    with pytest.raises(caffeport.CaffeportError, match='target "plain" is unknown'):
        net.to_onnx(tmp_path / "a.onnx", target="plain")
    with pytest.raises(SystemExit, match="2"):
        main(["convert", "a.prototxt", "a.caffemodel", "--onnx", str(tmp_path / "a.onnx"), "--for", "tvm"])
    assert "onnxruntime" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx"))


def test_the_command_writes_for_a_runtime_and_proves_it(tmp_path, capsys):
    net = prelu_net(tmp_path, (2, 8, 3, 4), SLOPES)
    net.save(tmp_path / "n.caffemodel", tmp_path / "n.prototxt")
    words = ["convert", str(tmp_path / "n.prototxt"), str(tmp_path / "n.caffemodel"), "--check"]
    for name, count in (("any", 5), ("opencv", 1)):
        assert main([*words, "--onnx", str(tmp_path / f"{name}.onnx"), "--for", name]) == 0
        assert "ok: " in capsys.readouterr().out
        assert len(kinds(onnx.load(str(tmp_path / f"{name}.onnx")))) == count


def test_what_constants_alone_decide_is_computed_once(tmp_path):
    """SSD's prior boxes of a fixed size: joined and cut as constants, with the numbers of torch's module."""
    text = nets.inputs(x=(1, 3, 8, 8)) + nets.conv("x", "y", 4)
    for top, size in (("p", 3), ("q", 5)):
        text += nets.layer("PriorBox", "y x", top, f"prior_box_param {{ min_size: {size} }}")
    text += nets.layer("Concat", "p q", "boxes", "concat_param { axis: 2 }")
    text += nets.layer("Slice", "boxes", "places variances", "slice_param { axis: 1 }")
    text += nets.layer("Eltwise", "places variances", "sum")
    net = nets.load(tmp_path, text)
    model = written(net, tmp_path / "a.onnx", dynamic_batch=False)
    plain = written(net, tmp_path / "plain.onnx", dynamic_batch=False, fold=False)
    assert kinds(plain)[-3:] == ["Concat", "Split", "Add"] and kinds(model) == ["Identity"]
    assert net.check(onnx=tmp_path / "a.onnx").ok
    assert {node.output[0] for node in model.graph.node} >= {"sum"}
