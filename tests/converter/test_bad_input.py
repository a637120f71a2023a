"""Damaged files, and everything else that is wrong, on the command line: one clear line and nothing written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import caffeport
import numpy as np
import pytest
from caffeport import CaffemodelError, CaffeportError, PrototxtError
from caffeport.cli.main import main
from caffeport.formats import caffemodel, prototxt
from support import nets, protos

BIAS = np.array([0.0, -1.5, 2.5], np.float32)


def two_layers() -> bytes:
    return protos.net(protos.layer("a", "Foo", BIAS), protos.layer("b", "Bar", BIAS)).SerializeToString()


def message(blob) -> bytes:
    return protos.net(protos.make("LayerParameter", name="fc", blobs=[blob])).SerializeToString()


def shaped(*dims: int, **fields):
    return protos.make("BlobProto", shape=protos.make("BlobShape", dim=dims), **fields)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", r"n\.caffemodel: is empty$"),
        (b'name: "net"\nlayer { }\n', r"is text; expected binary weights .* Are NET and WEIGHTS swapped\?"),
        (b"<!DOCTYPE html><title>404</title>", r"is an HTML page, saved in place of the download; fetch the file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), r"is a PNG image; expected binary weights of Caffe"),
        (bytes(1000), r"is not a caffemodel.*field number 0 at byte 0"),
        (b"\xff" * 50 + b"\0", r"is not a caffemodel.*a number longer than ten bytes"),
        (protos.net(name="n").SerializeToString() + b"\x28\1", r"holds no layers; expected a \.caffemodel"),
        (
            two_layers()[:-3],
            r'is truncated or corrupt in the field after layer "a": .*; the file has \d+ bytes\. Download it again',
        ),
        (two_layers() + b"\xa2", r'corrupt in the field after layer "b": the data ends inside a number'),
        (two_layers() + b"\xa0\x06\x01", r"field 100 has wire type 0"),
        (message(shaped(10**12)), r'blob 0 of layer "fc" declares the shape 10{12} \(10{12} numbers\) but holds 0'),
        (message(shaped(10**6, 10**6, 10**6, data=[1])), r"1000000x1000000x1000000 \(10{18} numbers\) but holds 1$"),
        (message(shaped(2, 3, data=[1] * 5)), r"declares the shape 2x3 \(6 numbers\) but holds 5"),
        (message(shaped(-2, -3, data=[1] * 6)), r'blob 0 of layer "fc" is corrupt: its shape is -2x-3'),
        (message(shaped(*[1] * 33, data=[1])), r"is corrupt: its shape is 1x1"),
        (message(shaped(3, raw_data_type=5, raw_data=b"1234")), r"raw data of the unknown type 5; known are double"),
        (message(shaped(1, raw_data_type=1, raw_data=b"12345")), r"its raw data ends inside a number"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, data, problem):
    path = tmp_path / "n.caffemodel"
    path.write_bytes(data)
    with pytest.raises(CaffemodelError, match=problem):
        caffemodel.read(path)


def test_no_regular_file(tmp_path):
    with pytest.raises(CaffemodelError, match=r"absent: No such file"):
        caffemodel.read(tmp_path / "absent")
    with pytest.raises(CaffemodelError, match=r"is a folder, device or pipe; expected a file"):
        caffemodel.read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for endless in ("/dev/zero", tmp_path / "pipe"):
        with pytest.raises(CaffemodelError, match=rf"{endless}: is a folder, device or pipe; expected a file"):
            caffemodel.read(endless)
        with pytest.raises(CaffemodelError, match=r"is a folder, device or pipe"):
            caffemodel.read_binaryproto(endless)
    with pytest.raises(PrototxtError, match=r"/dev/zero: more than 64 MiB is too large for a prototxt"):
        prototxt.load("/dev/zero")


def test_devices_are_not_replaced(tmp_path):
    """Root may rename a file over /dev/null; a pipe stands for it here."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CaffeportError, match=r"pipe: is a device or pipe, which is not replaced; name a file"):
        caffemodel.write(tmp_path / "pipe", "n", [])
    assert [entry.name for entry in tmp_path.iterdir()] == ["pipe"] and (tmp_path / "pipe").is_fifo()


class Touch:
    """An object whose unpickling would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a good net, its weights, and one of every bad file."""
    path = tmp_path_factory.mktemp("bad")
    nets.load(path, nets.SMALL).save(path / "net.caffemodel")
    blobs = {"data/data": np.zeros((1, 3, 12, 10), np.float32), "data/fc": np.zeros((1, 5), np.float32)}
    files = {
        "empty": b"",
        "zeros": bytes(1000),
        "old.onnx": b"old",
        "old.safetensors": b"old",
        "image.jpg": b"\xff\xd8\xff\xe0no image",
        "page.html": b"<!DOCTYPE html>\n<html>404</html>",
        "solver.prototxt": b'net: "net.prototxt"\nbase_lr: 0.1\nmax_iter: 10\n',
        "broken.prototxt": b"layer {\n  name: 3 3\n}\n",
        "unknown.prototxt": b'input: "x" input_dim: [1,1,1,1] layer { name: "m" type: "Mine" bottom: "x" top: "y" }',
        "huge.prototxt": nets.SMALL.replace("num_output: 5", "num_output: 1000000000000").encode(),
        "loss.prototxt": (nets.SMALL + nets.layer("SoftmaxWithLoss", "fc data", "loss")).encode(),
        "half.caffemodel": (path / "net.caffemodel").read_bytes()[:2000],
        "other.caffemodel": protos.net(protos.layer("conv9", "Convolution", BIAS)).SerializeToString(),
        "declares.caffemodel": message(shaped(10**12)),
        "mean.binaryproto": b"\x28\xff",
        "mean_numbers.binaryproto": shaped(2, 2, data=[1, 2, 3]).SerializeToString(),
        "mean_shape.binaryproto": shaped(1, 2, 12, 10, data=[0] * 240).SerializeToString(),
        "text.npz": b"not a zip",
        "cut.npz": b"PK\x03\x04" + bytes(40),
    }
    for name, content in files.items():
        (path / name).write_bytes(content)
    np.savez(path / "good.npz", **blobs)
    np.savez(path / "pickle.npz", **{"data/fc": np.array([Touch(path / "executed")], object)})
    np.save(path / "pickle.npy", np.array([Touch(path / "executed")], object))
    np.savez(path / "nothing.npz")
    np.savez(path / "foreign.npz", other=np.zeros(3))
    np.savez(path / "noinput.npz", fc=blobs["data/fc"])
    np.save(path / "shape.npy", np.zeros((1, 3, 12), np.float32))
    np.save(path / "size.npy", np.zeros((1, 3, 30, 30), np.float32))
    (path / "folder").mkdir()
    return path


GOOD = "net.prototxt net.caffemodel"
TO_ONNX = f"convert {GOOD} --onnx old.onnx"
CHECK = f"check {GOOD}"
BAD = [
    ("show absent.prototxt", r"absent\.prototxt: No such file or directory"),
    ("show net.prototxt absent.caffemodel", r"absent\.caffemodel: No such file or directory"),
    ("show net.caffemodel", r"net\.caffemodel: is a \.caffemodel .*; the text of a net .* comes first"),
    ("convert net.caffemodel net.prototxt --onnx new.onnx", r"net\.caffemodel: is a binary file; expected the text"),
    (
        "convert net.prototxt net.prototxt --onnx new.onnx",
        r"is text; expected binary weights .*NET and WEIGHTS swapped",
    ),
    ("convert net.prototxt page.html --onnx old.onnx", r"page\.html: is an HTML page, saved in place"),
    ("show folder", r"folder: is a folder; expected a prototxt file"),
    ("show net.prototxt folder", r"folder: is a folder, device or pipe; expected a file"),
    ("show empty", r"empty: holds no layers; expected the text of a net"),
    ("show net.prototxt empty", r"empty: is empty"),
    ("show zeros", r"zeros: is a binary file"),
    ("show net.prototxt zeros", r"zeros: is not a caffemodel"),
    ("show solver.prototxt", r'solver\.prototxt:1:1: "net" belongs to a solver; expected the text of a net'),
    ("show broken.prototxt", r"broken\.prototxt:2:11: expected the name of a field, got '3'"),
    ("show unknown.prototxt", r'unknown\.prototxt:1:\d+: layer "m" has the unknown type "Mine"'),
    ("show huge.prototxt", r"would have the shape .*1000000000000.*more than the 2\^31 - 1 numbers Caffe allows"),
    ("show loss.prototxt", r'layer "loss" \(SoftmaxWithLoss\)'),
    (f"show {GOOD} --input-shape data", r'--input-shape expects BLOB=NxCxHxW, got "data"'),
    (f"show {GOOD} --input-shape data=1xCx3", r'--input-shape expects BLOB=NxCxHxW, got "data=1xCx3"'),
    (f"show {GOOD} --input-shape dat=1x3x12x10", r'input_shapes names "dat", .*\(did you mean "data"\?\)'),
    (f"show {GOOD} --input-shape data=1x3x0x10", r'input "data" would have the shape 1x3x0x10'),
    (f"show {GOOD} --input-shape data=1x3x99x99", r'layer "fc" .*: blob 0 is 5x180 in .*, but the net needs'),
    ("convert net.prototxt half.caffemodel --onnx old.onnx", r"half\.caffemodel: is truncated or corrupt in"),
    ("convert net.prototxt other.caffemodel --onnx old.onnx", r'holds no weights for any layer.* it has "conv9", the'),
    ("convert net.prototxt declares.caffemodel --onnx old.onnx", r"declares the shape 10{12} .* but holds 0"),
    (f"convert {GOOD}", r"nothing to write; give --onnx F\.onnx, --torch F\.safetensors or --python F\.py"),
    (f"convert {GOOD} --onnx net.caffemodel", r"net\.caffemodel: would overwrite what is converted"),
    (f"convert {GOOD} --torch ./folder/../net.prototxt", r"net\.prototxt: would overwrite what is converted"),
    (f"convert {GOOD} --onnx folder", r"folder: is a folder; name the file to write"),
    (
        f"convert {GOOD} --onnx absent/n.onnx",
        r"absent/n\.onnx: cannot be written: No such file or directory \(absent\)",
    ),
    (f"convert {GOOD} --torch absent/n.safetensors", r"absent/n\.safetensors: cannot be written: No such file"),
    (f"convert {GOOD} --onnx empty/n.onnx", r"empty/n\.onnx: cannot be written: Not a directory"),
    (f"convert {GOOD} --onnx {'x' * 300}.onnx", r"cannot be written: File name too long"),
    (f"{TO_ONNX} --opset 12", r"opset 12 is not supported; expected 13 to 21"),
    (f"{TO_ONNX} --opset 99", r"opset 99 is not supported"),
    (f"{TO_ONNX} --opset many", r"--opset: invalid int value: 'many'"),
    (f"{TO_ONNX} --output fcc", r'"fcc".*did you mean "fc"'),
    (f"{TO_ONNX} --mean absent.binaryproto", r"absent\.binaryproto: No such file"),
    (f"{TO_ONNX} --mean mean.binaryproto", r"mean\.binaryproto: is not a binaryproto, or is truncated"),
    (f"{TO_ONNX} --mean mean_numbers.binaryproto", r"declares the shape 2x2 \(4 numbers\) but holds 3"),
    (f"{TO_ONNX} --mean mean_shape.binaryproto", r"mean has the shape .*2x12x10; expected 1 or 3 numbers, or 3x12x10"),
    (f"{TO_ONNX} --mean empty.npy", r"empty\.npy: No such file"),
    (f"{TO_ONNX} --mean pickle.npy", r"pickle\.npy: is broken, or no \.npz or \.npy of plain numbers"),
    (f"{TO_ONNX} --mean 1 two 3", r"--mean expects numbers or a \.binaryproto/\.npy file, got 1 two 3"),
    (f"{TO_ONNX} --mean 1 2", r"mean has the shape 2; expected 1 or 3 numbers"),
    (f"{TO_ONNX} --scale x", r"--scale: invalid float value"),
    ("convert loss.prototxt net.caffemodel --onnx old.onnx", r'layer "loss" .*expected 2 labels'),
    (f"{CHECK} --reference absent.npz", r"absent\.npz: No such file"),
    (f"{CHECK} --reference empty", r"empty: is broken, or no \.npz or \.npy of plain numbers"),
    (f"{CHECK} --reference text.npz", r"text\.npz: is broken, or no \.npz or \.npy of plain numbers"),
    (f"{CHECK} --reference cut.npz", r"cut\.npz: is broken, or no \.npz or \.npy of plain numbers"),
    (f"{CHECK} --reference pickle.npz", r"pickle\.npz: is broken, or no \.npz or \.npy of plain numbers"),
    (f"{CHECK} --reference nothing.npz", r"nothing\.npz holds no blob of this net: it has nothing"),
    (f"{CHECK} --reference foreign.npz", r"foreign\.npz holds no blob of this net: it has other"),
    (f"{CHECK} --reference noinput.npz", r'the reference lacks the input "data"; give the inputs it was made with'),
    (f"{CHECK} --reference folder", r"folder: Is a directory"),
    (f"{CHECK} --input pickle.npz", r"pickle\.npz: is broken, or no \.npz or \.npy of plain numbers"),
    (f"{CHECK} --input foreign.npz", r'no input for "data"; the net\'s inputs are data'),
    (f"{CHECK} --input shape.npy", r'input "data" is 2x3x12x10, got 1x3x12'),
    (f"{CHECK} --input size.npy", r'layer "fc" .*: blob 0 would be'),
    (f"{CHECK} --input image.jpg", r"image\.jpg: is no image that OpenCV can read, nor \.npz or \.npy"),
    (f"{CHECK} --input absent.jpg", r"absent\.jpg: No such file"),
    (f"{CHECK} --backends torch", r"check compares two things at least"),
    (f"{CHECK} --backends torch,onyx", r'unknown backend "onyx" \(did you mean "onnx"\?\); known: torch, onnx'),
    ("", r"the following arguments are required: COMMAND"),
    ("shwo net.prototxt", r"invalid choice: 'shwo'"),
    ("convert net.prototxt", r"the following arguments are required: WEIGHTS"),
    (f"show {GOOD} --bn mean", r"--bn: invalid choice: 'mean'"),
    (f"show {GOOD} --phase deploy", r"--phase: invalid choice: 'deploy'"),
    (f"show {GOOD} --colour", r"unrecognized arguments: --colour"),
]


def contents(path: Path) -> dict[str, bytes | None]:
    return {str(entry): entry.read_bytes() if entry.is_file() else None for entry in path.rglob("*")}


@pytest.mark.parametrize(("arguments", "problem"), BAD, ids=[arguments[:60] for arguments, _ in BAD])
def test_one_line_and_nothing_written(folder, arguments, problem, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    before = contents(folder)
    try:
        code = main(arguments.split())
    except SystemExit as stopped:
        code = stopped.code
    out, err = capfd.readouterr()
    assert code == 2
    assert re.fullmatch(rf"caffeport: error: [^\n]*{problem}[^\n]*\n", err), err
    assert "unexpected" not in err
    assert out == ""
    assert contents(folder) == before  # no .part file, no half a model, old files as they were, nothing executed


@pytest.mark.slow
def test_a_real_process(folder):
    run = [sys.executable, "-m", "caffeport", "convert", "net.prototxt", "half.caffemodel", "--onnx", "new.onnx"]
    environment = {**os.environ, "PYTHONPATH": str(Path(caffeport.__file__).parents[1])}
    done = subprocess.run(run, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and not (folder / "new.onnx").exists()
    assert done.stderr.startswith("caffeport: error: half.caffemodel: is truncated") and done.stderr.count("\n") == 1
    debug = subprocess.run([*run, "--debug"], cwd=folder, env=environment, capture_output=True, text=True)
    assert debug.returncode != 0 and "Traceback" in debug.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any folder")
def test_a_folder_that_may_not_be_written(folder, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    tmp_path.chmod(0o500)
    assert main(["convert", *GOOD.split(), "--onnx", str(tmp_path / "n.onnx")]) == 2
    assert re.fullmatch(
        r"caffeport: error: .*n\.onnx: cannot be written: Permission denied.*\n", capfd.readouterr().err
    )
