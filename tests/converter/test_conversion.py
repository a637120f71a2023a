"""caffeport convert: the form of a file for torch follows its name; no file is lost, and none is left alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import caffeport
import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch
from caffeport import files
from caffeport.cli import conversion
from caffeport.cli.main import main
from support import nets


@pytest.fixture
def folder(tmp_path, monkeypatch):
    net = nets.load(tmp_path, nets.SMALL)
    net.save(tmp_path / "net.caffemodel")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def convert(*arguments: str) -> int:
    return main(["convert", "net.prototxt", "net.caffemodel", *map(str, arguments)])


def refused(capsys, *arguments: str) -> str:
    before = {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    assert convert(*arguments) == 2
    assert {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.PTH", "a.safetensors", "a.SafeTensors"])
def test_a_state_dict(folder, name):
    assert convert("--torch", name) == 0
    pickled = name.lower().endswith((".pt", ".pth"))
    state = torch.load(name, weights_only=True) if pickled else safetensors.torch.load_file(name)
    net = caffeport.load("net.prototxt", "net.caffemodel")
    model = net.to_torch()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    model.load_state_dict(state)
    expected = {f"{param.layer}.{param.spec.name}": param.data for param in net.params}
    assert {key: tensor.numpy().tobytes() for key, tensor in model.state_dict().items()} == {
        key: array.tobytes() for key, array in expected.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_program_of_torch_export(folder, batch):
    assert convert("--torch", "a.pt2", "--output", "pool1", "--mean", "1", "2", "3", "--scale", "0.5", "--rgb") == 0
    program = torch.export.load("a.pt2").module()
    net = caffeport.load("net.prototxt", "net.caffemodel")
    x = torch.randn(batch, 3, 12, 10)
    bare = net.to_torch(outputs=["pool1"])
    by_hand = bare((x.flip(1) - torch.tensor([1.0, 2.0, 3.0])[:, None, None]) * 0.5)
    torch.testing.assert_close(program(x), by_hand)


def test_a_program_of_a_net_that_fixes_its_batch(folder, capsys):
    text = nets.inputs(data=(3, 4)) + nets.layer(
        "Reshape", "data", "y", "reshape_param { shape { dim: 3 dim: 2 dim: 2 } }"
    )
    net = nets.load(folder, text + nets.inner_product("y", "fc", 2))
    net.save("net.caffemodel")
    assert convert("--torch", "a.pt2") == 0
    assert "fixes the batch size, so the .pt2 file is for the declared shapes" in capsys.readouterr().err
    x = torch.randn(3, 4)
    torch.testing.assert_close(torch.export.load("a.pt2").module()(x), net.to_torch()(x))


@pytest.mark.parametrize("name", ["a", "a.bin", "a.onnx", "a.pth.tar", "a.h5", ".pth", "a.npz"])
def test_other_endings_are_refused_with_the_list(folder, capsys, name):
    error = refused(capsys, "--torch", name)
    assert (
        r".safetensors (a state_dict), .pth (a state_dict), .pt (a state_dict), .pt2 (a program of torch.export)"
        in error
    )


@pytest.mark.parametrize("name", ["a.pth", "a.pt2", "a.safetensors"])
def test_onnx_under_a_name_of_torch_is_refused(folder, capsys, name):
    assert "--onnx writes ONNX" in refused(capsys, "--onnx", name)


def test_one_name_for_both_is_refused(folder, capsys):
    (folder / "sub").mkdir()
    (folder / "link").symlink_to("sub")
    (folder / "old.pth").write_bytes(b"old")
    os.link("old.pth", "hard.pth")
    for onnx, torch_file in (
        ("x.pt", "x.pt"),
        ("x.pt", "./sub/../x.pt"),
        ("sub/x.pt", "link/x.pt"),
        ("X.pt", "x.pt"),
        ("x\u0301.pt", "x\u0301.PT"),
        ("é.pt", "e\u0301.pt"),
        ("old.pth", "hard.pth"),
    ):
        assert "is the name of two files to write" in refused(capsys, "--onnx", onnx, "--torch", torch_file)


def test_sources_are_not_written_over(folder, capsys):
    os.link("net.caffemodel", "hard.pth")
    (folder / "soft.safetensors").symlink_to("net.prototxt")
    np.save("mean.npy", np.zeros(3, np.float32))
    (folder / "a.onnx.data").write_bytes((folder / "net.caffemodel").read_bytes())
    for arguments in (
        ("--onnx", "net.caffemodel"),
        ("--onnx", "NET.Prototxt"),
        ("--torch", "hard.pth"),
        ("--torch", "soft.safetensors"),
        ("--onnx", "mean.npy", "--mean", "mean.npy"),
    ):
        assert "would overwrite what is converted" in refused(capsys, *arguments)
    arguments = ["convert", "net.prototxt", "a.onnx.data", "--onnx", "a.onnx"]
    assert main(arguments) == 2  # with weights in a file of their own it would be the weights that are read
    assert "would overwrite what is converted" in capsys.readouterr().err
    assert main([*arguments, "--no-external-data"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("form", [".safetensors", ".pth", ".pt2"])
def test_no_half_pair_where_one_of_two_fails(folder, capsys, monkeypatch, form):
    """Whichever is written first, a failure of the other leaves neither, and an old pair stays whole."""
    for name in ("a.onnx", f"a{form}"):
        (folder / name).write_bytes(b"old")
    pair = ("--onnx", "a.onnx", "--torch", f"a{form}")
    refused(capsys, *pair, "--opset", "99")
    refused(capsys, "--onnx", "absent/a.onnx", *pair[2:])
    refused(capsys, *pair[:2], "--torch", f"absent/a{form}")

    def full(*_, **__):
        raise caffeport.CaffeportError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "save_torch", full)
        assert "the disk is full" in refused(capsys, *pair)
    with monkeypatch.context() as patch:
        patch.setattr(caffeport.Net, "to_onnx", full)
        assert "the disk is full" in refused(capsys, *pair)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    assert convert(*pair) == 0
    onnxruntime.InferenceSession("a.onnx")


def test_weights_and_text_are_one_pair_too(folder, monkeypatch):
    net = caffeport.load("net.prototxt", "net.caffemodel")
    with pytest.raises(caffeport.CaffeportError, match="is the name of two files to write"):
        net.save("x.caffemodel", prototxt="./X.caffemodel")
    with pytest.raises(caffeport.CaffeportError, match="cannot be written"):
        net.save("x.caffemodel", prototxt="absent/x.prototxt")
    assert not (folder / "x.caffemodel").exists()


def test_same_file(tmp_path):
    (tmp_path / "a").write_text("")
    (tmp_path / "b").write_text("")
    os.link(tmp_path / "a", tmp_path / "c")
    assert files.same_file(tmp_path / "a", tmp_path / "c")
    assert not files.same_file(tmp_path / "a", tmp_path / "b")
    assert files.same_file(tmp_path / "new", tmp_path / "x" / ".." / "NEW")


def test_what_was_written_is_told(folder, capsys):
    assert convert("--torch", "a.pth", "--onnx", "a.onnx", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == {name: (folder / name).stat().st_size for name in ("a.onnx", "a.pth")}
    assert told["weights"] == "net.caffemodel"
