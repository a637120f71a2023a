"""The check of files that exist: what they are is proven, not what an export would be; and every damage is found."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shlex
import shutil
import zipfile
from pathlib import Path

import caffeport
import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import nets

TEXT = (
    nets.inputs(data=(2, 3, 12, 10))
    + nets.conv("data", "conv1", 6)
    + nets.layer("BatchNorm", "conv1", "conv1", name="bn1")
    + nets.layer("Scale", "conv1", "conv1", "scale_param { bias_term: true }", name="scale1")
    + nets.layer("ReLU", "conv1", "conv1", name="relu1")
    + nets.conv("conv1", "conv2", 4)
    + nets.inner_product("conv2", "fc", 5)
)
FOLDED = ["conv1@scale1", "conv1", "conv2", "fc"]
"""Blobs in a folded file: BatchNorm and Scale went into the convolution."""
MEAN, SCALE = [104.0, 117.0, 123.0], 1 / 128


@pytest.fixture
def net(tmp_path):
    net = nets.load(tmp_path, TEXT)
    random = np.random.default_rng(0)
    for param in net.params:
        if not param.trained:
            param.data = random.uniform(0.5, 1.5, param.shape)
    return net


def differs(report, layer: str) -> bool:
    """Return whether the report says that this layer is the first that differs."""
    return not report.ok and report.first_difference.layer == layer and f'layer "{layer}"' in report.summary


def change(path: Path, edit) -> None:
    """Rewrite an ONNX file after ``edit(model)``."""
    model = onnx.load(path)
    edit(model)
    onnx.save(model, path)


def initializer(model, name: str):
    return next(entry for entry in model.graph.initializer if entry.name == name)


def set_array(entry, array) -> None:
    entry.CopyFrom(onnx.numpy_helper.from_array(np.asarray(array, np.float32), entry.name))


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("opset", [13, 17, 21])
def test_a_file_as_it_was_written_is_equal(net, tmp_path, fold, opset):
    net.to_onnx(tmp_path / "face.onnx", fold=fold, opset=opset)
    report = net.check(onnx=tmp_path / "face.onnx")
    assert report.ok
    compared = [row.blob for row in report.rows if "face.onnx" in row.errors]
    assert compared == (FOLDED if fold else [row.blob for row in report.rows])
    assert f"({len(compared)} in face.onnx)" in report.summary


def test_preprocessing_in_the_file_is_taken_from_its_metadata_and_run(net, tmp_path):
    net.to_onnx(tmp_path / "face.onnx", mean=MEAN, scale=SCALE, rgb=True)
    report = net.check(onnx=tmp_path / "face.onnx")
    assert report.ok
    assert '"scale": 0.0078125' in str(report.files[-1])
    assert net.check(onnx=tmp_path / "face.onnx", mean=MEAN, scale=SCALE, rgb=True).ok


@pytest.mark.parametrize(
    "wrong", [{"mean": [103.0, 117.0, 123.0]}, {"scale": 1 / 127}, {"rgb": False}, {"mean": MEAN[::-1]}]
)
def test_other_preprocessing_than_was_asked_for_is_found_at_the_first_blob(net, tmp_path, wrong):
    asked = {"mean": MEAN, "scale": SCALE, "rgb": True}
    net.to_onnx(tmp_path / "face.onnx", **{**asked, **wrong})
    report = net.check(onnx=tmp_path / "face.onnx", **asked)
    assert not report.ok
    assert report.first_difference.blob == "conv1@scale1"


def test_a_mean_that_is_not_what_the_metadata_says_is_found(net, tmp_path):
    path = tmp_path / "face.onnx"
    net.to_onnx(path, mean=MEAN, scale=SCALE)

    def edit(model):
        sub = next(node for node in model.graph.node if node.op_type == "Sub")
        set_array(initializer(model, sub.input[1]), np.reshape([104, 117, 124], (3, 1, 1)))

    change(path, edit)
    assert net.check(onnx=path).first_difference.blob == "conv1@scale1"


def test_one_changed_weight_is_found_where_it_is(net, tmp_path):
    path = tmp_path / "face.onnx"
    net.to_onnx(path)

    def edit(model):
        entry = initializer(model, "conv2.weight")
        array = onnx.numpy_helper.to_array(entry).copy()
        array[1, 2, 0, 0] += 0.5
        set_array(entry, array)

    change(path, edit)
    report = net.check(onnx=path)
    assert differs(report, "conv2")
    assert report.first_difference.errors["face.onnx"][0] > 0.01


def test_swapped_channels_of_the_first_convolution_are_found(net, tmp_path):
    path = tmp_path / "face.onnx"
    net.to_onnx(path, fold=False)
    change(path, lambda m: set_array(initializer(m, "conv1.weight"), net.params[0].data[:, ::-1]))
    assert differs(net.check(onnx=path), "conv1")


def test_a_file_that_lost_its_inner_names_is_compared_at_its_outputs(net, tmp_path):
    path = tmp_path / "face.onnx"
    net.to_onnx(path)

    def edit(model):
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [f"t_{name}" if name in FOLDED[:-1] else name for name in names]

    change(path, edit)
    report = net.check(onnx=path)
    assert report.ok
    assert [row.blob for row in report.rows if "face.onnx" in row.errors] == ["fc"]


def test_weights_in_a_file_of_their_own(net, tmp_path):
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub/face.onnx"
    net.to_onnx(path, external_data=True)
    report = net.check(onnx=path)
    assert report.ok
    assert [facts.role for facts in report.files] == ["net", "onnx", "onnx's weights"]


def test_half_precision_has_its_own_tolerance_and_says_so(net, tmp_path):
    path = tmp_path / "face.onnx"
    net.to_onnx(path, fold=False)
    model = onnx.load(path)
    for entry in model.graph.initializer:
        if entry.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(entry).astype(np.float16)
            entry.CopyFrom(onnx.numpy_helper.from_array(array, entry.name))
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, path)
    report = net.check(onnx=path)
    assert report.ok
    assert 1e-4 < max(row.errors["face.onnx"][1] for row in report.rows) < 2e-2
    assert "face.onnx is float16, near float32 and not equal to it" in str(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["face.safetensors", "face.pth", "face.pt2"])
def test_files_for_torch(net, tmp_path, name):
    from caffeport.cli.conversion import convert

    convert(net, None, tmp_path / name)
    report = net.check(torch=tmp_path / name)
    assert report.ok
    blobs = [row.blob for row in report.rows if name in row.errors]
    assert blobs == (["fc"] if name.endswith("pt2") else [row.blob for row in report.rows])


def test_both_files_at_once_and_a_changed_weight_of_the_one(net, tmp_path):
    from caffeport.cli.conversion import convert

    convert(net, tmp_path / "face.onnx", tmp_path / "face.safetensors")
    assert net.check(onnx=tmp_path / "face.onnx", torch=tmp_path / "face.safetensors").ok
    state = load_file(tmp_path / "face.safetensors")
    state["conv2.bias"] += 1
    save_file(state, tmp_path / "face.safetensors")
    report = net.check(onnx=tmp_path / "face.onnx", torch=tmp_path / "face.safetensors")
    assert differs(report, "conv2")
    errors = report.first_difference.errors
    assert errors["face.safetensors"][0] == pytest.approx(1, abs=1e-4)
    assert errors["face.onnx"][0] < 1e-4


def test_the_report_names_files_sizes_hashes_versions_and_the_day(net, tmp_path):
    net.to_onnx(tmp_path / "face.onnx")
    report = net.check(onnx=tmp_path / "face.onnx", seed=7)
    content = json.loads(report.to_json())
    raw = (tmp_path / "face.onnx").read_bytes()
    written = next(entry for entry in content["files"] if entry["role"] == "onnx")
    assert (written["bytes"], written["sha256"]) == (len(raw), hashlib.sha256(raw).hexdigest())
    assert content["schema"] == 1
    assert content["seed"] == 7
    assert content["inputs"] == "random"
    assert content["versions"]["caffeport"] == caffeport.__version__
    assert content["date"].endswith("+00:00")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no ONNX file"),
        (b"\xff" * 100, "is no ONNX file"),
        (b"<html><body>404</body></html>", "is an HTML page, saved in place of the download"),
    ],
)
def test_what_is_no_onnx_file_is_told(net, tmp_path, content, message):
    (tmp_path / "face.onnx").write_bytes(content)
    with pytest.raises(caffeport.CaffeportError, match=rf"face\.onnx: {message}"):
        net.check(onnx=tmp_path / "face.onnx")


def test_another_nets_files_are_told(net, tmp_path):
    other = nets.load(tmp_path, nets.inputs(image=(1, 3, 8, 8)) + nets.conv("image", "conv1", 3))
    other.to_onnx(tmp_path / "other.onnx")
    with pytest.raises(caffeport.CaffeportError, match=r'other\.onnx: its input "image" is no input of this net'):
        net.check(onnx=tmp_path / "other.onnx")
    save_file({"conv1.weight": torch.zeros(6, 3, 3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(caffeport.CaffeportError, match=r"are another net's weights: the file lacks conv1\.bias"):
        net.check(torch=tmp_path / "other.safetensors")


def test_a_missing_file_a_wrong_ending_and_training_are_told(net, tmp_path):
    with pytest.raises(caffeport.CaffeportError, match=r"none\.onnx: No such file"):
        net.check(onnx=tmp_path / "none.onnx")
    with pytest.raises(caffeport.CaffeportError, match=r"none\.pth: No such file"):
        net.check(torch=tmp_path / "none.pth")
    with pytest.raises(caffeport.CaffeportError, match=r"expected a file for torch"):
        net.check(torch=tmp_path / "face.bin")


class Hostile:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "executed"))


@pytest.mark.slow
def test_no_pickle_is_executed(net, tmp_path):
    mark = tmp_path / "mark"
    torch.save(Hostile(mark), tmp_path / "face.pth")
    with pytest.raises(caffeport.CaffeportError, match="holds no weights that can be read"):
        net.check(torch=tmp_path / "face.pth")
    from caffeport.cli.conversion import convert

    convert(net, None, tmp_path / "good.pt2")
    payload = pickle.dumps(Hostile(mark))
    with zipfile.ZipFile(tmp_path / "good.pt2") as good, zipfile.ZipFile(tmp_path / "face.pt2", "w") as bad:
        for entry in good.infolist():
            large = not entry.filename.endswith(("json", "version", "byteorder", "archive_format"))
            bad.writestr(entry.filename, payload if large else good.read(entry))
    with pytest.raises(caffeport.CaffeportError):
        net.check(torch=tmp_path / "face.pt2")
    assert not mark.exists()
    shutil.rmtree(tmp_path)


# The command line


def run(*words) -> int:
    from caffeport.cli.main import main

    return main([str(word) for word in words])


@pytest.fixture
def files(net, tmp_path):
    net.save(tmp_path / "net.caffemodel", prototxt=tmp_path / "face net.prototxt")
    return [tmp_path / "face net.prototxt", tmp_path / "net.caffemodel"]


FRONT = ["--mean", "104,117,123", "--scale", "0.0078125", "--rgb"]


@pytest.mark.slow
def test_the_line_that_proves_it_has_every_option_and_is_true(files, tmp_path, capsys):
    given = ["--input-shape", "data=2x3x12x10", "--phase", "test", "--bn", "variance", *FRONT]
    assert run("convert", *files, "--onnx", tmp_path / "f.onnx", "--torch", tmp_path / "f.safetensors", *given) == 0
    line = re.search("to prove it: caffeport (.*)", capsys.readouterr().out).group(1)
    words = shlex.split(line)
    for option in ("--input-shape", "--bn=variance", "--mean=104,117,123", "--rgb", "--onnx", "--torch"):
        assert option in words
    assert run(*words) == 0
    assert "in f.onnx" in capsys.readouterr().out
    change(tmp_path / "f.onnx", lambda m: set_array(initializer(m, "fc.bias"), np.zeros(5)))
    assert run(*words) == 1
    assert 'FAILED: layer "fc" (InnerProduct) is the first that differs' in capsys.readouterr().out


def test_convert_check_proves_what_it_wrote(files, tmp_path, capsys):
    assert run("convert", *files, "--onnx", tmp_path / "f.onnx", "--check", *FRONT) == 0
    assert "in f.onnx), all within" in capsys.readouterr().out
    assert run("convert", *files, "--onnx", tmp_path / "f.onnx", "--check", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["ok"] is True
    assert run("convert", *files, "--check") == 2
    assert "--check proves the files of --onnx and --torch" in capsys.readouterr().err


def test_check_writes_a_report(files, tmp_path, capsys):
    assert run("check", *files, "--report", tmp_path / "proof.html") == 0
    page = (tmp_path / "proof.html").read_text()
    assert "net.caffemodel" in page and '"ok":true' in page.replace(" ", "")
    assert run("check", *files, "--report", files[1]) == 2
    assert "is read; name another file for the report" in capsys.readouterr().err
    assert files[1].stat().st_size > 100


def test_show_draws(files, tmp_path, capsys):
    assert run("show", *files, "--html", tmp_path / "net.html") == 0
    assert "(kB" not in capsys.readouterr().out
    assert "<svg" in (tmp_path / "net.html").read_text()
    pytest.importorskip("py_mini_racer", reason="needs mini-racer")
    assert run("show", *files, "--svg", tmp_path / "net.svg", "--json") == 0
    assert json.loads(capsys.readouterr().out)["files"][str(tmp_path / "net.svg")] > 1000
