"""Where files are written: a link stays, standard output is refused, two outputs of one name are told."""

from __future__ import annotations

import os
from pathlib import Path

import caffeport
import onnx
import pytest
from caffeport.cli.main import main
from caffeport.files import replacing, target_of
from support import nets


@pytest.fixture
def folder(tmp_path, monkeypatch):
    nets.load(tmp_path, nets.SMALL).save(tmp_path / "net.caffemodel")
    (tmp_path / "real").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def convert(*words: str) -> int:
    return main(["convert", "net.prototxt", "net.caffemodel", *words])


@pytest.mark.parametrize("old", [b"old", None], ids=["of a file", "of nothing yet"])
@pytest.mark.parametrize(("option", "name"), [("--onnx", "a.onnx"), ("--torch", "a.pth"), ("--python", "a.py")])
def test_a_link_stays_and_its_target_is_replaced(folder, option, name, old):
    target = folder / "real" / name
    if old is not None:
        target.write_bytes(old)
    Path(name).symlink_to(os.path.join("real", name))
    assert convert(option, name) == 0
    assert os.readlink(name) == os.path.join("real", name)
    assert target.is_file() and not target.is_symlink() and target.stat().st_size > 100
    assert sorted(path.name for path in (folder / "real").iterdir()) == [name]


def test_a_link_to_a_link(folder):
    Path("one").symlink_to("two")
    Path("two").symlink_to("real/three")
    with replacing("one") as stream:
        stream.write(b"new")
    assert (os.readlink("one"), os.readlink("two")) == ("two", "real/three")
    assert Path("real/three").read_bytes() == b"new"


def test_an_interrupted_run_leaves_the_target(folder):
    Path("real/a").write_bytes(b"old")
    Path("link").symlink_to("real/a")
    with pytest.raises(KeyboardInterrupt), replacing("link") as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert Path("link").read_bytes() == b"old" and [path.name for path in Path("real").iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("name", "leads_to", "problem"),
    [
        ("circle", "circle", "circle: is a link that leads to itself; name a file to write"),
        ("null", "/dev/null", "null: is a device or pipe, which is not replaced"),
        ("folder", "real", "folder: is a folder; name the file to write"),
        ("lost", "absent/a", "lost: cannot be written: No such file or directory"),
    ],
)
def test_links_that_are_no_place_for_a_file(folder, name, leads_to, problem):
    Path(name).symlink_to(leads_to)
    with pytest.raises(caffeport.CaffeportError, match=problem), replacing(name):
        pass
    assert os.readlink(name) == leads_to


@pytest.mark.parametrize(
    "words",
    [
        ("convert", "net.prototxt", "net.caffemodel", "--onnx", "-"),
        ("convert", "net.prototxt", "net.caffemodel", "--torch", "-"),
        ("convert", "net.prototxt", "net.caffemodel", "--python", "-"),
        ("check", "net.prototxt", "net.caffemodel", "--report", "-"),
        ("show", "net.prototxt", "--svg", "-"),
        ("upgrade", "net.prototxt", "-"),
    ],
)
def test_standard_output_takes_no_file(folder, capsys, words):
    before = sorted(path.name for path in folder.iterdir())
    assert main(list(words)) == 2
    error = capsys.readouterr().err
    problem = "-: a file is written beside its place and renamed, not to standard output; name a file"
    assert error.splitlines()[-1] == f"caffeport: error: {problem}"
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_nor_by_another_name(path):
    with pytest.raises(caffeport.CaffeportError, match="is a device or pipe, which is not replaced"):
        target_of(path)


def test_one_path_for_both_is_told(folder, capsys):
    Path("link.pth").symlink_to("x.pth")
    for onnx_file, torch_file in (("x.pth", "x.pth"), ("link.pth", "x.pth")):
        assert convert("--onnx", onnx_file, "--torch", torch_file) == 2
        assert "is the name of two files to write; choose another for one of them" in capsys.readouterr().err


def test_weights_in_a_file_of_their_own_lie_beside_the_target(folder, capsys):
    Path("link.onnx").symlink_to("real/a.onnx")
    assert convert("--onnx", "link.onnx", "--external-data") == 0
    assert "link.onnx is a link, and the weights are beside the file that it leads to" in capsys.readouterr().err
    assert sorted(path.name for path in Path("real").iterdir()) == ["a.onnx", "a.onnx.data"]
    onnx.checker.check_model("real/a.onnx", full_check=True)
    assert main(["check", "net.prototxt", "net.caffemodel", "--onnx", "link.onnx"]) == 0


def test_the_data_file_of_a_links_target_is_not_written_over(folder, capsys):
    Path("real/a.onnx.data").write_bytes(Path("net.caffemodel").read_bytes())
    Path("link.onnx").symlink_to("real/a.onnx")
    assert main(["convert", "net.prototxt", "real/a.onnx.data", "--onnx", "link.onnx"]) == 2
    assert "would overwrite what is converted" in capsys.readouterr().err
