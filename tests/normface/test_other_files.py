"""Models, lists and data sets that are a Git LFS pointer, a web page, packed, or another tool's: named, in one line."""

from __future__ import annotations

import gzip

import pytest
import torch
from normface.data import open_images
from normface.errors import DataError, NormfaceError, ProtocolError
from normface.evaluate.textfile import read_lines
from normface.features import Extractor, load_features
from support.digit_images import NET, WEIGHTS

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 87316\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title>"
POINTER_SAID = "is a Git LFS pointer in place of the file of 87316 bytes; run git lfs pull"
PAGE_SAID = "is an HTML page, saved in place of the download; fetch the file itself"


@pytest.fixture
def file(tmp_path):
    def write(name: str, content: bytes):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.onnx", LFS, POINTER_SAID),
        ("a.onnx", PAGE, PAGE_SAID),
        ("a.onnx", gzip.compress(b"x", mtime=0), "is packed by gzip; unpack it"),
        ("a.onnx", WEIGHTS.read_bytes(), r"is a .caffemodel .*; expected an ONNX model"),
        ("a.caffemodel", WEIGHTS.read_bytes(), r"is a .caffemodel .*; expected NET.prototxt WEIGHTS.caffemodel, or"),
        ("a.prototxt", PAGE, PAGE_SAID),
    ],
)
def test_models(file, name, content, problem):
    with pytest.raises(NormfaceError, match=problem):
        Extractor(file(name, content), preset="center-face")


def test_models_of_torch_and_of_another_name(file, tmp_path):
    import caffeport

    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(NormfaceError, match=r"a\.pth: is a file of PyTorch \(\.pth\); expected NET\.prototxt"):
        Extractor(tmp_path / "a.pth", preset="center-face")
    caffeport.load(NET, WEIGHTS).to_onnx(tmp_path / "face.model")
    with pytest.raises(NormfaceError, match=r"face\.model: is an ONNX model by another name; call it face\.onnx"):
        Extractor(tmp_path / "face.model", preset="center-face")
    whole = (tmp_path / "face.model").read_bytes()
    with pytest.raises(NormfaceError, match=r"half\.onnx: \w+( Runtime)? cannot load it: .* Is the file cut short\?"):
        Extractor(file("half.onnx", whole[:5000]), preset="center-face")


@pytest.mark.parametrize("name", ["list.txt", "faces.zip", "faces.rec", "face.jpg"])
@pytest.mark.parametrize(("content", "problem"), [(LFS, POINTER_SAID), (PAGE, PAGE_SAID)], ids=["pointer", "page"])
def test_images(file, name, content, problem):
    with pytest.raises(DataError, match=rf"{name}: {problem}"):
        open_images(file(name, content))


def test_packed_images(file):
    with pytest.raises(DataError, match=r"faces\.tar\.gz: is packed by gzip; unpack it"):
        open_images(file("faces.tar.gz", gzip.compress(b"x", mtime=0)))


def test_pairs(file):
    for content, problem in ((LFS, POINTER_SAID), (PAGE, PAGE_SAID)):
        with pytest.raises(ProtocolError, match=rf"pairs\.txt: {problem}"):
            list(read_lines(file("pairs.txt", content)))


def test_features(file):
    with pytest.raises(DataError, match=rf"features\.npz: {POINTER_SAID}"):
        load_features(file("features.npz", LFS))
