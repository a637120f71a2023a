"""Files that are not what they were given as: each is named for what it is, with the way out, in one line."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import caffeport
import numpy as np
import pytest
import torch
from caffeport import CaffemodelError, CaffeportError, PrototxtError
from caffeport.cli.main import main
from caffeport.formats import caffemodel, prototxt
from caffeport.formats.other_files import START, kind_of, kind_of_file, substitute_of
from support import nets

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 87316\n"
PAGES = [
    b"<!DOCTYPE html>\n<html><head><title>Google Drive - Virus scan warning</title>",
    b"\xef\xbb\xbf\n\n<HTML lang=en>",
    b"<!-- saved -->\n<html>",
    b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x">\n<html xmlns="y">',
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A net, and its files in every other form."""
    net = nets.load(tmp_path, 'name: "small"\n' + nets.SMALL)
    net.save(tmp_path / "net.caffemodel")
    net = caffeport.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    net.to_onnx(tmp_path / "net.onnx")
    for form in ("safetensors", "pth"):
        words = [str(tmp_path / name) for name in ("net.prototxt", "net.caffemodel", f"net.{form}")]
        assert main(["convert", *words[:2], "--torch", words[2], "--quiet"]) == 0
    weights, text = (tmp_path / "net.caffemodel").read_bytes(), (tmp_path / "net.prototxt").read_bytes()
    state = {"a": torch.zeros(2)}
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    np.savez(tmp_path / "blobs.npz", a=np.zeros(3))
    with tarfile.open(tmp_path / "net.tar", "w", format=tarfile.USTAR_FORMAT) as file:
        file.add(tmp_path / "net.prototxt", "model/net.prototxt")
    with zipfile.ZipFile(tmp_path / "net.zip", "w") as file:
        file.write(tmp_path / "net.caffemodel", "model/net.caffemodel")
    for name, content in {
        "pointer": LFS,
        "page": PAGES[0],
        "net.caffemodel.gz": gzip.compress(weights),
        "net.tar.gz": gzip.compress((tmp_path / "net.tar").read_bytes()),
        "net.prototxt.gz": gzip.compress(text),
        "wide": text.decode().encode("utf-16"),
        "half.caffemodel": weights[: len(weights) // 2],
        "half.prototxt": text[: len(text) // 2],
        "half.onnx": (tmp_path / "net.onnx").read_bytes()[:3000],
        "error.xml": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    }.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


POINTER = r"is a Git LFS pointer in place of the file of 87316 bytes; run git lfs pull, or download the file itself$"
PAGE = r"is an HTML page, saved in place of the download; fetch the file itself \(on GitHub: Raw\)$"
GZIP = r"is packed by gzip; unpack it, and give the file within$"
ANYWHERE = {
    "pointer": POINTER,
    "page": PAGE,
    "error.xml": r"is XML, perhaps a server's message in place of the download; fetch the file again$",
    "net.caffemodel.gz": GZIP,
    "net.tar.gz": GZIP,
    "net.prototxt.gz": GZIP,
    "net.tar": r'is a tar archive \(it begins with "model/net\.prototxt"\); unpack it, and give the file within$',
    "net.zip": r'is a zip archive \(it begins with "model/net\.caffemodel"\); unpack it, and give the file within$',
    "wide": r"is text in UTF-16; save it in UTF-8$",
}
FROM_STATE = r"; expected binary weights of Caffe .*caffeport\.load\(NET\)\.with_weights\(state_dict\)\.save\("
AS_WEIGHTS = ANYWHERE | {
    "net.onnx": r"is an ONNX model; expected binary weights of Caffe \(\.caffemodel\)$",
    "net.pth": r"is a file of PyTorch \(\.pth\)" + FROM_STATE,
    "old.pth": r"is a Python pickle, as old files of PyTorch are \(\.pth\)" + FROM_STATE,
    "net.safetensors": r"is a safetensors file" + FROM_STATE,
    "blobs.npz": r"is an archive of NumPy \(\.npz\); expected binary weights",
    "net.prototxt": r"is text; expected binary weights \(\.caffemodel\)\. Are NET and WEIGHTS swapped\?",
    "half.caffemodel": r"is truncated or corrupt in .*; the file has \d+ bytes\. Download it again$",
}
AS_NET = ANYWHERE | {
    "net.caffemodel": r"is a \.caffemodel \(binary weights\); the text of a net \(\.prototxt\) comes first, then its w",
    "net.onnx": r"is an ONNX model; expected the text of a net \(\.prototxt\)$",
    "net.pth": r"is a file of PyTorch \(\.pth\); expected the text of a net",
    "net.safetensors": r"is a safetensors file; expected the text of a net",
    "half.prototxt": r"cut short\?$|has no end on its line$|the end of the file$",
}


@pytest.mark.parametrize("name", AS_WEIGHTS)
def test_as_weights(folder, name):
    with pytest.raises(CaffemodelError, match=AS_WEIGHTS[name]) as caught:
        caffemodel.read(name)
    assert str(caught.value).startswith(name) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", AS_NET)
def test_as_a_net(folder, name):
    with pytest.raises(PrototxtError, match=AS_NET[name]) as caught:
        prototxt.load(name)
    assert str(caught.value).startswith(name)


@pytest.mark.parametrize("name", [*ANYWHERE, "net.pth", "net.safetensors", "net.caffemodel"])
def test_as_an_onnx_file_to_check(folder, name):
    problem = ANYWHERE.get(name, r"; expected an ONNX file$")
    with pytest.raises(CaffeportError, match=problem):
        caffeport.load("net.prototxt", "net.caffemodel").check(onnx=name)


def test_half_an_onnx_file(folder):
    problem = r"half\.onnx: is an ONNX file that is cut short or damaged \(3000 bytes\)"
    with pytest.raises(CaffeportError, match=problem):
        caffeport.load("net.prototxt", "net.caffemodel").check(onnx="half.onnx")


@pytest.mark.parametrize("form", [".safetensors", ".pth", ".pt2"])
@pytest.mark.parametrize(("content", "problem"), [(LFS, POINTER), (PAGES[0], PAGE)], ids=["pointer", "page"])
def test_as_a_file_for_torch_to_check(folder, form, content, problem):
    Path(f"a{form}").write_bytes(content)
    with pytest.raises(CaffeportError, match=problem):
        caffeport.load("net.prototxt", "net.caffemodel").check(torch=f"a{form}")


@pytest.mark.parametrize(("option", "name"), [("--reference", "a.npz"), ("--input", "a.npy"), ("--input", "a.jpg")])
def test_as_numbers_or_an_image(folder, capsys, option, name):
    Path(name).write_bytes(LFS)
    assert main(["check", "net.prototxt", "net.caffemodel", option, name]) == 2
    assert "is a Git LFS pointer in place of the file of 87316 bytes" in capsys.readouterr().err


def test_as_a_mean(folder, capsys):
    Path("mean.binaryproto").write_bytes(PAGES[0])
    words = ["convert", "net.prototxt", "net.caffemodel", "--onnx", "a.onnx", "--mean", "mean.binaryproto"]
    assert main(words) == 2
    assert "mean.binaryproto: is an HTML page, saved in place of the download" in capsys.readouterr().err


def test_net_and_weights_that_have_changed_places(folder, capsys):
    assert main(["show", "net.caffemodel", "net.prototxt"]) == 2
    error = capsys.readouterr().err
    assert "NET and WEIGHTS have changed places, so give net.prototxt net.caffemodel" in error
    for net, weights, problem in (
        ("net.zip", "net.prototxt", "net.zip: is a zip archive"),
        ("net.caffemodel", "pointer", "net.caffemodel: is a .caffemodel"),
        ("net.onnx", "net.prototxt", "net.onnx: is an ONNX model"),
    ):
        assert main(["show", net, weights]) == 2
        error = capsys.readouterr().err
        assert problem in error and "changed places" not in error and error.count("\n") == 1


def test_weights_of_keras(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("model_weights")
    with pytest.raises(CaffemodelError, match=r"is HDF5, but not Caffe's weights \(it is of Keras\)"):
        caffemodel.read(tmp_path / "a.h5")


@pytest.mark.parametrize("content", PAGES)
def test_pages(content):
    assert substitute_of(content) is not None and "HTML" in substitute_of(content).name


@pytest.mark.parametrize(
    "text",
    [
        'name: "version https://git-lfs"',
        "# <html>\nlayer { }",
        "layer < name: 'a' >",
        "",
        "\n\n\n",
        "{}",
        "versions: 1",
    ],
)
def test_texts_of_nets_are_nothing_else(text):
    assert kind_of(text.encode()) is None


def test_good_files_are_what_they_are(folder):
    kinds = {name: kind_of_file(name) for name in ("net.prototxt", "net.caffemodel", "net.onnx", "absent", "\0", ".")}
    names = {name: kind and kind.name for name, kind in kinds.items()}
    assert names.pop("net.caffemodel") == "a .caffemodel (binary weights)"
    assert names.pop("net.onnx") == "an ONNX model"
    assert set(names.values()) == {None}


def test_every_beginning_is_looked_at_without_an_error():
    """Of any length, and of random bytes after what each form begins with."""
    random = np.random.default_rng(0)
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(2))
    starts = [b"", b"\x08", b"\x0a", b"\xa2\x06", b"PK\x03\x04", b"\x80\x02", LFS, buffer.getvalue(), b"\x89HDF"]
    for start in starts:
        for length in range(0, 40):
            kind_of((start + random.bytes(length))[:START])
            kind_of(start[:length])
