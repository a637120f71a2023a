"""A file that a command reads is not one that it writes, through links and in lists too."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from normface.cli.written import refuse_overwriting
from normface.errors import NormfaceError
from support.command_line import refused


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("net.prototxt", "a.caffemodel", "b.caffemodel", "photo.jpg"):
        Path(name).write_bytes(name.encode())
    Path("link").symlink_to("a.caffemodel")
    Path("hard").hardlink_to("photo.jpg")


@pytest.mark.parametrize(
    ("values", "source"),
    [
        ({"out": Path("net.prototxt"), "net": "net.prototxt"}, "net.prototxt"),
        ({"out": Path("link"), "weights": Path("a.caffemodel")}, "a.caffemodel"),
        ({"out": "a.caffemodel", "weights": "b.caffemodel,link"}, "link"),
        ({"draw": Path("hard"), "photos": [Path("photo.jpg")]}, "photo.jpg"),
    ],
)
def test_one_file_to_read_and_to_write(values, source):
    with pytest.raises(NormfaceError, match=f"is {source}, which is read; choose another name to write"):
        refuse_overwriting(argparse.Namespace(**values))


def test_others_are_taken():
    refuse_overwriting(argparse.Namespace(out=Path("new"), net="net.prototxt", log=None, weights=Path("gone"), data=3))
    refuse_overwriting(argparse.Namespace(out=Path("photo.jpg"), photos=[Path(".")]))  # a folder is no file


def test_the_command(capsys):
    error = refused(capsys, "extract", "net.prototxt", "a.caffemodel", "--data", ".", "--out", "link")
    assert "--out link: is a.caffemodel, which is read" in error
    assert Path("link").read_bytes() == b"a.caffemodel"
