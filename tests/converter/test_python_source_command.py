"""caffeport convert --python: which files are written, with which weights, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import caffeport
import pytest
import safetensors.numpy
import torch
from caffeport.cli import conversion
from caffeport.cli.main import main
from support import nets
from support.source_files import imported


@pytest.fixture
def folder(tmp_path, monkeypatch):
    net = nets.load(tmp_path, nets.SMALL)
    net.save(tmp_path / "net.caffemodel")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def convert(*arguments: str) -> int:
    return main(["convert", "net.prototxt", "net.caffemodel", *arguments])


def same_as_the_module(path: Path, **options) -> None:
    net = caffeport.load("net.prototxt", "net.caffemodel")
    x = torch.tensor(net.sample_inputs()["data"])
    with torch.no_grad():
        torch.testing.assert_close(imported(path).load()(x), net.to_torch(**options)(x), rtol=1e-5, atol=1e-5)


def test_source_and_weights(folder, capsys):
    assert convert("--python", "face.py") == 0
    told = capsys.readouterr().out
    assert "wrote face.py" in told and "wrote face.safetensors" in told
    same_as_the_module(Path("face.py"))


def test_the_weights_go_into_the_file_of_torch(folder):
    """Its keys are the source's then."""
    assert convert("--python", "face.py", "--torch", "other.safetensors") == 0
    assert not Path("face.safetensors").exists()
    assert "bn1.running_var" in safetensors.numpy.load_file("other.safetensors")
    same_as_the_module(Path("face.py"))


def test_another_form_for_torch_stands_by_itself(folder):
    assert convert("--python", "face.py", "--torch", "other.pth", "--onnx", "face.onnx") == 0
    assert "bn1.variance" in torch.load("other.pth", weights_only=True)
    assert Path("face.onnx").is_file() and Path("face.safetensors").is_file()
    same_as_the_module(Path("face.py"))


def test_preprocessing_and_output(folder):
    options = ["--mean", "1", "2", "3", "--scale", "0.5", "--rgb", "--output", "pool1"]
    assert convert("--python", "face.py", *options) == 0
    same_as_the_module(Path("face.py"), mean=[1, 2, 3], scale=0.5, rgb=True, outputs=["pool1"])


def test_json_lists_the_files(folder, capsys):
    assert convert("--python", "face.py", "--json") == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert files == {name: Path(name).stat().st_size for name in ("face.py", "face.safetensors")}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--python", "face-net.py"], "imported by its name"),
        (["--python", "net.py", "--torch", "net.py"], "named by its form|two files"),
        (["--python", "face.py", "--onnx", "face.py"], "two files to write"),
        (["--python", "face.py", "--onnx", "face.safetensors"], "two files to write"),
        (["--python", "missing/face.py"], "cannot be written"),
        (["--python", "face.py", "--output", "nothing"], "no blob of this net"),
    ],
)
def test_refusals_leave_nothing(folder, capsys, arguments, reason):
    before = sorted(Path().iterdir())
    assert convert(*arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and any(part in error for part in reason.split("|"))
    assert sorted(Path().iterdir()) == before


def test_sources_are_not_overwritten(folder, capsys):
    Path("net.caffemodel").rename("net.safetensors")
    assert main(["convert", "net.prototxt", "net.safetensors", "--python", "net.py"]) == 2
    assert "would overwrite what is converted" in capsys.readouterr().err


def test_a_failure_leaves_the_old_files(folder, monkeypatch):
    """Both or neither: the ONNX file's failure leaves the source of before as it was."""
    assert convert("--python", "face.py") == 0
    before = {name: Path(name).read_bytes() for name in ("face.py", "face.safetensors")}

    def fail(*_, **__):
        raise caffeport.ExportError("no")

    monkeypatch.setattr(caffeport.Net, "to_onnx", fail)
    net = caffeport.load("net.prototxt", "net.caffemodel")
    with pytest.raises(caffeport.ExportError):
        conversion.convert(net, Path("face.onnx"), None, python=Path("face.py"), scale=2.0)
    assert {name: Path(name).read_bytes() for name in before} == before
