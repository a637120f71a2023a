"""ONNX files in float16 and int8: what they hold, what stays float32, and what is refused."""

from __future__ import annotations

import json
import zipfile

import caffeport
import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from caffeport.cli.main import main
from onnx.numpy_helper import to_array
from support import nets
from support.fewer_bits import FRONT, image_folder, net_with_statistics, pixels

UNIT = 2.0**-11
"""float16's largest relative rounding error."""


@pytest.fixture
def net(tmp_path):
    return net_with_statistics(tmp_path)


@pytest.fixture
def images(tmp_path):
    return image_folder(tmp_path)


def run(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [one.type for one in (*session.get_inputs(), *session.get_outputs())] == ["tensor(float)"] * 2
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def weights(path) -> dict[str, np.ndarray]:
    return {entry.name: to_array(entry) for entry in onnx.load(path).graph.initializer}


def metadata(path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


# float16


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_half_holds_the_weights_rounded_once_and_gives_near_numbers(net, tmp_path, opset):
    net.to_onnx(tmp_path / "f.onnx", opset=opset, **FRONT)
    exported = net.to_onnx(tmp_path / "h.onnx", opset=opset, precision="float16", **FRONT)
    before, after = weights(tmp_path / "f.onnx"), weights(tmp_path / "h.onnx")
    for name, array in before.items():
        if array.dtype == np.float32 and not name.startswith("graph/"):
            assert after[name].dtype == np.float16
            np.testing.assert_array_equal(after[name], array.astype(np.float16))
    assert all(after[name].dtype == np.float32 for name in before if name.startswith("graph/"))  # the preprocessing
    x = pixels()
    a, b = run(tmp_path / "f.onnx", x), run(tmp_path / "h.onnx", x)
    assert 0 < np.abs(a - b).max() < 20 * UNIT * np.abs(a).max()  # five roundings of sums of some hundred terms
    assert exported.precision.startswith("float16 (4 random inputs); rms change of the outputs: fc 0.")
    assert exported.outputs == ["fc"]
    said = metadata(tmp_path / "h.onnx")
    assert said["caffeport.precision"] == "float16"
    assert {k: v for k, v in said.items() if k != "caffeport.precision"} == metadata(tmp_path / "f.onnx")


def test_a_layer_that_is_kept_stays_float32(net, tmp_path):
    net.to_onnx(tmp_path / "h.onnx", precision="float16", keep=["conv2"])
    stored = weights(tmp_path / "h.onnx")
    kinds = {name.partition(".")[0]: array.dtype for name, array in stored.items() if name.endswith((".0", ".weight"))}
    assert kinds["conv2"] == np.float32 and kinds["conv1"] == kinds["fc"] == np.float16
    np.testing.assert_array_equal(stored["conv2.weight"], net.layer("conv2").blobs[0])
    assert json.loads(metadata(tmp_path / "h.onnx")["caffeport.kept"]) == ["conv2"]


def test_keeping_what_was_folded_keeps_where_it_went(net, tmp_path):
    net.to_onnx(tmp_path / "h.onnx", precision="float16", keep=["bn1"])
    assert weights(tmp_path / "h.onnx")["conv1.0"].dtype == np.float32


@pytest.mark.parametrize("where", ["a weight", "an activation"])
def test_what_float16_cannot_hold_stays_float32_and_is_told(net, tmp_path, where):
    layer = net.layer("conv2")
    factor = 1e6 if where == "a weight" else 3e3  # then the weights are below 65504, and the sums beyond
    layer.params[0].data = layer.blobs[0] * np.float32(factor)
    last = net.layer("fc")
    last.params[0].data = last.blobs[0] / np.float32(factor)
    assert (np.abs(layer.blobs[0]).max() > 65504) == (where == "a weight")
    net.to_onnx(tmp_path / "f.onnx", **FRONT)
    exported = net.to_onnx(tmp_path / "h.onnx", precision="float16", mean=[0, 0, 0], scale=1)
    assert 'float32 too, for numbers near or beyond 65504: "conv2"' in exported.precision
    assert weights(tmp_path / "h.onnx")["conv2.weight"].dtype == np.float32
    x = pixels()
    net.to_onnx(tmp_path / "f.onnx", mean=[0, 0, 0], scale=1)
    a, b = run(tmp_path / "f.onnx", x), run(tmp_path / "h.onnx", x)
    assert np.isfinite(b).all() and np.abs(a - b).max() < 0.02 * np.abs(a).max()


def test_an_epsilon_that_would_become_0_stays(tmp_path):
    text = nets.inputs(data=(1, 3, 6, 6)) + nets.layer("MVN", "data", "norm", "mvn_param { eps: 1e-9 }")
    net = nets.load(tmp_path, text)
    exported = net.to_onnx(tmp_path / "h.onnx", precision="float16")
    assert '"norm"' in exported.precision
    assert np.isfinite(run(tmp_path / "h.onnx", np.zeros((1, 3, 6, 6), np.float32))).all()


def test_an_input_and_an_output_that_pass_through(tmp_path):
    """An output that other layers read too, and a file whose one node is of float32 by ONNX's rules."""
    text = nets.inputs(data=(1, 2, 4, 4)) + nets.conv("data", "a", 2) + nets.layer("ReLU", "a", "b")
    net = nets.load(tmp_path, text)
    net.to_onnx(tmp_path / "h.onnx", precision="float16", outputs=["a", "b"])
    model = onnx.load(tmp_path / "h.onnx")
    assert [entry.name for entry in model.graph.output] == ["a", "b"]
    session = onnxruntime.InferenceSession(str(tmp_path / "h.onnx"))
    a, b = session.run(None, {"data": np.random.default_rng(0).standard_normal((1, 2, 4, 4)).astype(np.float32)})
    assert a.dtype == np.float32 and (a < 0).any()
    np.testing.assert_array_equal(b, np.maximum(a, 0))


# int8


def dequantised(path, name) -> np.ndarray:
    """An int8 weight back in float32, by the formula of DequantizeLinear."""
    stored = weights(path)
    scale = stored[f"{name}_scale"]
    assert not stored[f"{name}_zero_point"].any()  # symmetrical
    numbers = stored[f"{name}_quantized"]
    assert numbers.dtype == np.int8
    return numbers * scale.reshape(-1, *[1] * (numbers.ndim - 1)), scale


def test_weights_are_rounded_per_channel_and_layers_that_are_kept_are_not(net, images, tmp_path):
    net.to_onnx(tmp_path / "f.onnx", **FRONT)
    net.to_onnx(tmp_path / "q.onnx", precision="int8", calibrate=images, keep=["conv2"], **FRONT)
    exact = weights(tmp_path / "f.onnx")["conv1.0"]
    rounded, scale = dequantised(tmp_path / "q.onnx", "conv1.0")
    np.testing.assert_allclose(scale, np.abs(exact).reshape(6, -1).max(1) / 127, rtol=1e-5)
    assert (np.abs(rounded - exact) <= 0.5001 * scale.reshape(6, 1, 1, 1)).all()
    np.testing.assert_array_equal(weights(tmp_path / "q.onnx")["conv2.weight"], net.layer("conv2").blobs[0])
    said = metadata(tmp_path / "q.onnx")
    assert said["caffeport.precision"] == "int8" and json.loads(said["caffeport.kept"]) == ["conv2"]
    assert json.loads(said["caffeport.calibration"])["inputs"] == 6
    a, b = run(tmp_path / "f.onnx", pixels()), run(tmp_path / "q.onnx", pixels())
    assert 1e-4 < np.linalg.norm(a - b) / np.linalg.norm(a) < 0.1


@pytest.mark.slow
def test_images_in_a_folder_a_zip_a_list_and_an_npz_are_the_same_calibration(net, images, tmp_path):
    names = sorted(path.name for path in images.iterdir())
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name in names:
            archive.write(images / name, name)
    (tmp_path / "list.txt").write_text("".join(f"images/{name} {i}\n" for i, name in enumerate(names)))
    arrays = np.stack([cv2.imread(str(images / name)).transpose(2, 0, 1) for name in names]).astype(np.float32)
    np.savez(tmp_path / "inputs.npz", data=arrays)
    files = []
    for source in (images, tmp_path / "images.zip", tmp_path / "list.txt", tmp_path / "inputs.npz", {"data": arrays}):
        net.to_onnx(tmp_path / "q.onnx", precision="int8", calibrate=source, **FRONT)
        files.append((tmp_path / "q.onnx").read_bytes())
    assert len(set(files)) == 1
    net.to_onnx(tmp_path / "q.onnx", precision="int8", calibrate=images, rgb=True, **FRONT)
    said = json.loads(metadata(tmp_path / "q.onnx")["caffeport.calibration"])
    net.to_onnx(tmp_path / "r.onnx", precision="int8", calibrate={"data": arrays[:, ::-1]}, rgb=True, **FRONT)
    assert said == json.loads(metadata(tmp_path / "r.onnx")["caffeport.calibration"])  # a file that takes RGB gets it


def test_a_range_that_few_numbers_stretch_stays_float32(net, tmp_path):
    """One number of 23,040 is 60, the others about 1: of 255 steps that leaves them a few."""
    x = np.random.default_rng(0).standard_normal((64, 3, 12, 10)).astype(np.float32)
    exported = net.to_onnx(tmp_path / "q.onnx", precision="int8", calibrate={"data": x})
    assert "float32 too" not in exported.precision
    x[5, 1, 3, 4] = 60
    exported = net.to_onnx(tmp_path / "q.onnx", precision="int8", calibrate={"data": x})
    assert 'float32 too, for a range too wide for 8 bits: "conv1"' in exported.precision
    assert weights(tmp_path / "q.onnx")["conv1.0"].dtype == np.float32


def test_another_number_of_rows_is_a_change_of_all():
    """As of detections that fall below their threshold."""
    from caffeport.precision.lower import _compared

    def model(kind, *inputs):
        ends = [onnx.helper.make_tensor_value_info(name, 1, None) for name in ("x", "y")]
        stored = [onnx.numpy_helper.from_array(np.array([value]), name) for name, value in (("zero", 0), ("two", 2))]
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node(kind, ["x", *inputs], ["y"])], "g", ends[:1], ends[1:], stored
        )
        graph.input[0].type.CopyFrom(onnx.helper.make_tensor_type_proto(1, [None]))
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)

    feeds = [{"x": np.arange(3, dtype=np.float32)}]
    assert _compared(model("Identity"), model("Slice", "zero", "two"), feeds, "a net") == {"y": 1.0}


# Refusals


def test_keeping_what_has_no_node_names_where_it_went(net, tmp_path):
    text = nets.inputs(data=(1, 3, 8, 8)) + nets.conv("data", "y", 2) + nets.layer("Dropout", "y", "z", name="drop")
    text += nets.layer("ReLU", "z", "r", name="relu")
    dropped = nets.load(tmp_path, text)
    made = dropped.layers[-3].name
    with pytest.raises(caffeport.CaffeportError, match=rf'"drop" .* into another; name that one, likely "{made}"'):
        dropped.to_onnx(tmp_path / "h.onnx", precision="float16", keep=["drop"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, 'precision "int4" is unknown'),
        ({"precision": "int8"}, "int8 takes images like those that the model is for"),
        ({"precision": "float16", "keep": ["conv9"]}, r'keep \(--keep\): the net has no layer "conv9" \(did you mean'),
        ({"precision": "float16", "keep": ["data"]}, 'layer "data" .* has no node of its own in the file'),
        ({"precision": "float16", "external_data": True}, "the weights stay in the file itself"),
        ({"keep": ["conv1"]}, 'calibrate and keep are for precision "float16" and "int8"'),
        ({"precision": "int8", "calibrate": "none"}, "none: No such file"),
        ({"precision": "int8", "calibrate": "empty"}, "empty: holds no images"),
        ({"precision": "int8", "calibrate": "broken"}, "broken.*x.png: is no image that OpenCV can read"),
        ({"precision": "int8", "calibrate": {"x": np.zeros((1, 3, 12, 10))}}, 'has nothing for the input "data"'),
        ({"precision": "int8", "calibrate": {"data": np.zeros((1, 3, 9, 9))}}, "expected Nx3x12x10"),
        ({"precision": "int8", "calibrate": {"data": np.full((1, 3, 12, 10), np.nan)}}, "numbers that are not finite"),
        ({"precision": "int8", "calibrate": "good", "mean": None, "scale": None}, "nothing says what the net makes of"),
        (
            {"precision": "int8", "calibrate": "good", "keep": ["conv1", "conv2", "fc"]},
            "nothing of it is computed in 8 bits",
        ),
    ],
)
def test_refusals(net, images, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"no image")
    images.rename(tmp_path / "good")
    with pytest.raises(caffeport.CaffeportError, match=message):
        net.to_onnx(tmp_path / "q.onnx", **FRONT | options)
    assert not list(tmp_path.glob("*q.onnx*"))


@pytest.mark.slow
def test_the_command_line(net, images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    net.save("net.caffemodel")
    common = [
        "convert",
        "net.prototxt",
        "net.caffemodel",
        "--onnx",
        "q.onnx",
        "--mean",
        "104,117,123",
        "--scale",
        "0.015625",
    ]
    assert main([*common, "--int8", "--calibrate", "images", "--keep", "fc", "--check", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["precision"] == "int8" and 'float32 as told: "fc"' in said["precision_note"] and said["ok"]
    first = (tmp_path / "q.onnx").read_bytes()
    assert main([*common, "--int8", "--calibrate", "images", "--keep", "fc"]) == 0
    told = capsys.readouterr().out
    assert "--input images" in told and (tmp_path / "q.onnx").read_bytes() == first
    line = told.rpartition("to prove it: caffeport ")[2].split()
    assert main(line) == 0
    assert "ok: " in capsys.readouterr().out
    assert "--mean=104,117,123" in line
    of_the_file = [word for word in line if not word.startswith(("--mean", "--scale"))]  # which says the same itself
    assert main(of_the_file) == 0
    assert "likely" not in capsys.readouterr().out
    assert main([*of_the_file, "--pair"]) == 2
    assert "--pair is for images of --input without any preprocessing" in capsys.readouterr().err
    assert main([*common, "--fp16"]) == 0
    for options, message in [
        (["--int8"], "name them (--calibrate IMAGES)"),
        (["--fp16", "--int8"], "two number formats"),
        (["--keep", "fc"], "--keep is for --fp16 and --int8"),
        (["--calibrate", "images"], "--calibrate is for --fp16 and --int8"),
        (["--int8", "--calibrate", "gone"], "gone: No such file"),
        (["--fp16", "--external-data"], "leave --external-data out"),
    ]:
        assert main([*common, *options]) == 2
        assert message in capsys.readouterr().err
