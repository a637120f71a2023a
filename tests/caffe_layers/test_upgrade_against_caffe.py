"""``caffeport upgrade`` against Caffe's own upgrade_net_proto_text, upgrade_net_proto_binary and solver's tool.

The three are built from the tree's sources. Binary files are compared byte by byte, texts by the bytes that Google's
protoc makes of them.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from caffeport.cli.main import main
from caffeport.formats import caffemodel
from support import caffe_trees, nets, old_nets

TREE = "bvlc"
V2 = """
name: "v2" input: "data" input_dim: [1, 3, 4, 4]
layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" param { lr_mult: 1 } param { name: "v" } param { }
  batch_norm_param { eps: 0.001 } }
layer { name: "s" type: "Scale" bottom: "bn" top: "s" param { lr_mult: 3 } scale_param { bias_term: true } }
"""


@cache
def tool(name: str) -> Path:
    """One of Caffe's tools; its only source is compiled against the library of the tree."""
    tree = caffe_trees.require(TREE)
    path = tree.folder / "tools" / f"upgrade_{name}"
    if not path.exists():
        command = [
            "g++", "-O0", "-DCPU_ONLY", f"-I{tree.folder}/include", f"-I{tree.copy}/include",
            str(tree.copy / "tools" / f"upgrade_{name}.cpp"), "-o", f"{path}.part", f"-L{tree.folder}/lib", "-lcaffe",
            f"-Wl,-rpath,{tree.folder}/lib", "-lglog", "-lgflags", "-lprotobuf", "-lboost_system",
        ]  # fmt: skip
        result = caffe_trees.run(command)
        assert not result.returncode, result.stdout
        Path(f"{path}.part").rename(path)
    return path


def by_caffe(name: str, old: Path, new: Path) -> Path:
    environment = caffe_trees.require(TREE).environment()
    result = caffe_trees.run([str(tool(name)), str(old), str(new)], env=environment)
    assert new.exists(), result.stdout
    return new


def ours(old: Path, new: Path) -> Path:
    assert main(["upgrade", str(old), str(new)]) == 0
    return new


def encoded(text: str, message: str = "NetParameter") -> bytes:
    """The bytes that protoc makes of a text."""
    proto = caffe_trees.require(TREE).copy / "src" / "caffe" / "proto"
    protoc = shutil.which("protoc")
    assert protoc, "the trees are built with it"
    command = [protoc, f"--encode=caffe.{message}", f"--proto_path={proto}", str(proto / "caffe.proto")]
    result = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    assert not result.returncode, result.stderr.decode()
    return result.stdout


TEXTS = {
    "v0": old_nets.without_weights(old_nets.V0),
    "v0_weights": old_nets.with_weights(old_nets.V0),
    "v0_data": old_nets.V0_DATA,
    "v1": old_nets.without_weights(old_nets.V1),
    "v1_weights": old_nets.with_weights(old_nets.V1),
    "v2": V2,
}


@pytest.mark.parametrize("name", TEXTS)
def test_binary(tmp_path, name):
    old = tmp_path / "old.caffemodel"
    old.write_bytes(encoded(TEXTS[name]))
    new = ours(old, tmp_path / "ours.caffemodel").read_bytes()
    assert new == by_caffe("net_proto_binary", old, tmp_path / "caffe.caffemodel").read_bytes()


@pytest.mark.parametrize("name", TEXTS)
def test_text(tmp_path, name):
    old = nets.write(tmp_path, TEXTS[name], "old.prototxt")
    new = ours(old, tmp_path / "ours.prototxt").read_text()
    assert encoded(new) == encoded(by_caffe("net_proto_text", old, tmp_path / "caffe.prototxt").read_text())


@pytest.mark.parametrize("name", ["v0_weights", "v1_weights"])
def test_weights_as_text_become_the_binary_that_caffe_would_make_of_them(tmp_path, name):
    old = nets.write(tmp_path, TEXTS[name], "old.prototxt")
    new = ours(old, tmp_path / "ours.caffemodel").read_bytes()
    (tmp_path / "old.caffemodel").write_bytes(encoded(TEXTS[name]))
    assert new == by_caffe("net_proto_binary", tmp_path / "old.caffemodel", tmp_path / "caffe.caffemodel").read_bytes()


@pytest.mark.parametrize("kind", ["SGD", "NESTEROV", "ADAGRAD", "RMSPROP", "ADADELTA", "ADAM", "4"])
def test_solver(tmp_path, kind):
    old = nets.write(tmp_path, old_nets.SOLVER.replace("ADAGRAD", kind), "old.prototxt")
    new = ours(old, tmp_path / "ours.prototxt").read_text()
    expected = by_caffe("solver_proto_text", old, tmp_path / "caffe.prototxt").read_text()
    assert encoded(new, "SolverParameter") == encoded(expected, "SolverParameter")


def test_caffe_reads_hdf5_weights_of_v1_and_we_read_its_own(tmp_path):
    """Net::CopyTrainedLayersFromHDF5 ends the process where a shape differs in an axis."""
    tree = caffe_trees.require(TREE)
    old = nets.write(tmp_path, TEXTS["v1_weights"], "old.prototxt")
    ours(old, tmp_path / "new.caffemodel.h5")
    ours(old, tmp_path / "new.caffemodel")
    ours(nets.write(tmp_path, TEXTS["v1"], "v1.prototxt"), tmp_path / "new.prototxt")
    program = """
import caffe
first, second = (caffe.Net("new.prototxt", caffe.TEST) for _ in range(2))
first.load_hdf5("new.caffemodel.h5")
second.copy_from("new.caffemodel")
for name in ("conv1", "ip"):
    for one, other in zip(first.params[name], second.params[name]):
        assert one.data.tobytes() == other.data.tobytes() and one.data.any()
second.save_hdf5("caffe.h5")
print("equal")
"""
    result = caffe_trees.run([tree.interpreter, "-c", program], env=tree.environment(), cwd=tmp_path)
    assert result.stdout.strip().endswith("equal"), result.stdout
    ours(tmp_path / "caffe.h5", tmp_path / "back.caffemodel")
    stored = [caffemodel.read(tmp_path / name).by_name() for name in ("new.caffemodel", "back.caffemodel")]
    for name in ("conv1", "ip"):
        for one, other in zip(*(layers[name][0].blobs for layers in stored), strict=True):
            assert one.array().tobytes() == other.array().tobytes()
