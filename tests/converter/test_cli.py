"""The command line on good input: files written, tables printed, JSON, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from caffeport.cli.main import main
from support import nets


@pytest.fixture
def files(tmp_path):
    net = nets.load(tmp_path, nets.SMALL)
    net.save(tmp_path / "net.caffemodel")
    return net, str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"), tmp_path


def test_show(files, capsys):
    _, text, weights, _ = files
    assert main(["show", text, weights]) == 0
    out = capsys.readouterr().out
    assert "6x3x3x3, 6" in out and "conv1 2x6x12x10" in out
    # conv 2*6*12*10 outputs of 27 products, inner product 2*5 of 180; parameters 162+6+6+6+1+6+6+6+900+5
    assert "1,104 parameters, 40,680 multiply-adds at inputs data 2x3x12x10; outputs fc" in out
    assert main(["show", text, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["inputs"] == ["data"] and content["shapes"] == {"data": [2, 3, 12, 10], "fc": [2, 5]}
    assert content["parameters"] == 1104


def test_convert_and_load_again(files, capsys):
    net, text, weights, folder = files
    onnx_path, torch_path = folder / "n.onnx", folder / "n.safetensors"
    assert main(["convert", text, weights, "--onnx", str(onnx_path), "--torch", str(torch_path), "--no-fold"]) == 0
    assert "wrote" in capsys.readouterr().out
    x = np.random.default_rng(0).standard_normal((3, 3, 12, 10), np.float32)
    found = onnxruntime.InferenceSession(str(onnx_path)).run(None, {"data": x})[0]
    np.testing.assert_allclose(found, net.to_torch()(torch.tensor(x)).detach().numpy(), 1e-4, 1e-5)
    assert torch_path.stat().st_size > 4 * 1104


def test_convert_with_preprocessing(files):
    net, text, weights, folder = files
    path = folder / "n.onnx"
    mean = ["--mean", "104,117,123", "--scale", "0.5", "--rgb"]
    assert main(["convert", text, weights, "--onnx", str(path), *mean]) == 0
    x = np.random.default_rng(0).random((1, 3, 12, 10), np.float32) * 255
    found = onnxruntime.InferenceSession(str(path)).run(None, {"data": x})[0]
    prepared = (x[:, ::-1] - np.array([104, 117, 123], np.float32)[:, None, None]) * 0.5
    wanted = net.to_torch()(torch.tensor(prepared)).detach().numpy()
    np.testing.assert_allclose(found, wanted, 1e-3, 1e-3)  # pixels up to 255 through five layers


@pytest.mark.slow
def test_check_passes_and_fails(files, capsys):
    net, text, weights, folder = files
    assert main(["check", text, weights]) == 0
    assert "ok: 6 of 6 blobs compared" in capsys.readouterr().out
    x = np.random.default_rng(0).standard_normal((1, 3, 12, 10), np.float32)
    blobs = {name: tensor.detach().numpy() for name, tensor in net.to_torch().blobs(torch.tensor(x)).items()}
    np.savez(folder / "good.npz", **{k: v for k, v in blobs.items() if "@" not in k})
    assert main(["check", text, weights, "--reference", str(folder / "good.npz"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    np.savez(folder / "bad.npz", **{k: v + (k == "pool1") for k, v in blobs.items() if "@" not in k})
    assert main(["check", text, weights, "--reference", str(folder / "bad.npz")]) == 1
    assert 'FAILED: layer "pool1" (Pooling) is the first that differs' in capsys.readouterr().out


def test_check_on_an_image(files):
    cv2 = pytest.importorskip("cv2")
    _, text, weights, folder = files
    cv2.imwrite(str(folder / "p.png"), np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8))
    wishes = ["--input", str(folder / "p.png"), "--mean", "127.5", "--scale", "0.0078125"]
    assert main(["check", text, weights, *wishes]) == 0


@pytest.mark.parametrize(
    ("net", "told"),
    [("none", "none: No such file"), ("folder", "folder: is a folder without a config"), ("net.prototxt", "WEIGHTS")],
)
def test_a_net_without_weights_is_told_by_what_it_is(tmp_path, capsys, monkeypatch, net, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "net.prototxt").write_text("")
    assert main(["convert", net, "--onnx", "x.onnx"]) == 2
    assert told in capsys.readouterr().err


def test_notes_go_to_stderr(files, capsys, tmp_path):
    text = nets.write(
        tmp_path,
        'layer { name: "mnist" type: "Data" top: "data" data_param { source: "mnist_lmdb" batch_size: 4 } }'
        + nets.conv("data", "c", 2),
        "train.prototxt",
    )
    assert main(["show", str(text)]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith('caffeport: note: layer "mnist"') and "4x1x28x28" in captured.err
    assert "c 4x2x28x28" in captured.out


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_the_onnx_path_imports_no_torch(files):
    _, text, weights, folder = files
    code = f"""
import sys
from caffeport.cli.main import main
main(["show", {text!r}])
main(["convert", {text!r}, {weights!r}, "--onnx", {str(folder / "n.onnx")!r}, "--torch", {str(folder / "n.st")!r}])
print(sorted(set(sys.modules) & {{"torch", "cv2", "onnxruntime", "scipy", "pandas"}}))
"""
    assert run(code).splitlines()[-1] == "[]"


@pytest.mark.slow
def test_reading_a_net_imports_no_backend(files):
    _, text, weights, _ = files
    code = f"""
import sys, caffeport
caffeport.load({text!r}, {weights!r}).blob_shapes
print(sorted(set(sys.modules) & {{"torch", "onnx", "google.protobuf", "cv2", "onnxruntime", "rich"}}))
"""
    assert run(code).splitlines()[-1] == "[]"


@pytest.mark.slow
def test_reading_a_net_imports_its_own_layers_alone(files):
    """And neither the check nor the zoo, of which reading needs nothing."""
    _, text, weights, _ = files
    code = f"""
import sys, caffeport
from caffeport import operators
net = caffeport.load({text!r}, {weights!r})
here = {{name.rpartition(".")[2] for name in sys.modules if name.startswith("caffeport.operators.")}}
of_the_net = {{operators.TYPES[layer.type] for layer in net.layers}}
print(of_the_net <= here, len(here & set(operators.families())) < len(operators.families()) / 2)
print(sorted(name for name in sys.modules if name.startswith(("caffeport.parity", "caffeport.zoo"))))
print(caffeport.check.__module__, caffeport.zoo.__name__, hasattr(caffeport, "chekc"))
"""
    assert run(code).splitlines() == ["True True", "[]", "caffeport.parity.compare caffeport.zoo False"]


@pytest.mark.parametrize(
    ("module", "arguments", "advice"),
    [
        ("onnxruntime", ["check"], "pip install onnxruntime, or onnxruntime-gpu for CUDA"),
        ("torch", ["check"], "pip install torch"),
        ("onnx", ["convert", "--onnx", "x.onnx"], "pip install onnx"),
        ("cv2", ["check", "--input", "x.png"], "opencv-python-headless"),
    ],
    ids=["onnxruntime", "torch", "onnx", "cv2"],
)
def test_a_missing_library_says_what_to_install(files, module, arguments, advice, monkeypatch, capsys):
    _, text, weights, folder = files
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    command, *rest = arguments
    assert main([command, text, weights, *rest]) == 2
    err = capsys.readouterr().err
    assert advice in err and len(err.splitlines()) == 1
