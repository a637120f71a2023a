"""What written files say of themselves, and that two equal runs write equal bytes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import caffeport
import numpy as np
import onnx
import pytest
import safetensors
import safetensors.numpy
import torch
from caffeport.graph.file_facts import BEFORE_KEY
from caffeport.graph.preprocessing import METADATA_KEY
from support import nets

FRONT = {"mean": [1.0, 2.0, 3.0], "scale": 0.5, "rgb": True}
SAID = {"rgb": True, "scale": 0.5, "mean": [1.0, 2.0, 3.0]}


@pytest.fixture
def folder(tmp_path):
    nets.load(tmp_path, 'name: "small"\n' + nets.SMALL).save(tmp_path / "net.caffemodel")
    return tmp_path


def loaded(folder: Path) -> caffeport.Net:
    return caffeport.load(folder / "net.prototxt", folder / "net.caffemodel")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def expected(folder: Path, outputs: list[str]) -> dict[str, str]:
    return {
        "caffeport.version": caffeport.__version__,
        "caffeport.net": loaded(folder).name,
        "caffeport.outputs": json.dumps(outputs),
        "caffeport.net_sha256": sha256(folder / "net.prototxt"),
        "caffeport.weights_sha256": sha256(folder / "net.caffemodel"),
    }


def onnx_metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}


def safetensors_metadata(path: Path) -> dict[str, str]:
    with safetensors.safe_open(str(path), "np") as file:
        return file.metadata()


def test_an_onnx_file(folder):
    loaded(folder).to_onnx(folder / "a.onnx", outputs=["pool1"], **FRONT)
    said = onnx_metadata(folder / "a.onnx")
    assert json.loads(said.pop(METADATA_KEY)) == SAID
    assert said.items() >= expected(folder, ["pool1"]).items()
    model = onnx.load(str(folder / "a.onnx"))
    assert (model.producer_name, model.producer_version) == ("caffeport", caffeport.__version__)


def test_a_safetensors_file_tells_what_it_leaves_to_its_reader(folder):
    from caffeport.to_torch.file import save_torch

    net = loaded(folder)
    save_torch(net, folder / "a.safetensors", **FRONT)
    said = safetensors_metadata(folder / "a.safetensors")
    assert json.loads(said.pop(BEFORE_KEY)) == SAID
    assert said == {"format": "pt", "net": net.name, **expected(folder, net.outputs)}
    save_torch(net, folder / "bare.safetensors")
    assert BEFORE_KEY not in safetensors_metadata(folder / "bare.safetensors")


@pytest.mark.slow
def test_a_program_for_torch(folder):
    from caffeport.to_torch.file import FACTS, save_torch

    save_torch(loaded(folder), folder / "a.pt2", outputs=["pool1"], **FRONT)
    extra = {FACTS: ""}
    torch.export.load(folder / "a.pt2", extra_files=extra)
    said = json.loads(extra[FACTS])
    assert json.loads(said.pop(METADATA_KEY)) == SAID
    assert said == expected(folder, ["pool1"])


def test_numbers_that_are_not_the_files_do_not_claim_to_be(folder):
    net = loaded(folder)
    tuned = net.with_weights({"fc": [array + 1 for array in net.layer("fc").blobs]})
    changed = loaded(folder)
    changed.params[0].data = changed.params[0].data * 2
    for index, one in enumerate((tuned, changed)):
        one.to_onnx(folder / f"{index}.onnx")
        said = onnx_metadata(folder / f"{index}.onnx")
        assert "caffeport.weights_sha256" not in said
        assert said["caffeport.net_sha256"] == sha256(folder / "net.prototxt")


def test_random_weights_are_told(folder):
    with pytest.warns(caffeport.WeightsWarning):
        caffeport.load(folder / "net.prototxt").to_onnx(folder / "a.onnx")
    said = onnx_metadata(folder / "a.onnx")
    assert said["caffeport.weights"] == "random, at least in part: Caffe's fillers, seed 0"
    assert "caffeport.weights_sha256" not in said


def test_a_part_of_a_net_names_the_files_it_comes_from(folder):
    loaded(folder).cut(["pool1"]).to_onnx(folder / "a.onnx")
    assert onnx_metadata(folder / "a.onnx")["caffeport.weights_sha256"] == sha256(folder / "net.caffemodel")


def test_the_hash_is_of_the_file_that_was_read(folder):
    """Not of another that has taken its place since."""
    net, was = loaded(folder), sha256(folder / "net.caffemodel")
    with caffeport.files.replacing(folder / "net.caffemodel") as stream:
        stream.write(b"another")
    assert net.weights_sha256() == was


def test_hdf5_weights(folder):
    pytest.importorskip("h5py")
    from caffeport.cli.main import main

    assert main(["upgrade", str(folder / "net.caffemodel"), str(folder / "net.caffemodel.h5")]) == 0
    net = caffeport.load(folder / "net.prototxt", folder / "net.caffemodel.h5")
    assert net.weights_sha256() == sha256(folder / "net.caffemodel.h5")


WRITE = """
import sys
from caffeport.cli.main import main
folder, name = sys.argv[1:]
options = ["--output", "fc", "--mean", "1", "2", "3", "--scale", "0.5"]
words = ["convert", f"{folder}/net.prototxt", f"{folder}/net.caffemodel"]
for option, file in (
    ("onnx", "m.onnx"),
    ("torch", "m.safetensors"),
    ("torch", "m.pth"),
    ("torch", "m.pt"),
    ("torch", "m.pt2"),
    ("python", "p.py"),
):
    assert main([*words, f"--{option}", f"{folder}/{name}/{file}", *options, "--quiet"]) == 0
"""


@pytest.mark.slow
def test_equal_runs_write_equal_bytes(folder, monkeypatch):
    """In processes with another order of sets each, from other folders, to other folders."""
    for number, name in enumerate(("one", "another")):
        (folder / name).mkdir()
        seed = {"PYTHONHASHSEED": str(number + 1), "OMP_NUM_THREADS": "1"}
        path = os.pathsep.join([str(Path(caffeport.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-c", WRITE, str(folder), name]
        subprocess.run(command, check=True, env={**os.environ, **seed, "PYTHONPATH": path}, cwd=folder / name)
    names = sorted(path.name for path in (folder / "one").iterdir())
    assert names == ["m.onnx", "m.pt", "m.pt2", "m.pth", "m.safetensors", "p.py", "p.safetensors"]
    for name in names:
        one, another = folder / "one" / name, folder / "another" / name
        assert sha256(one) == sha256(another), name
        assert str(folder).encode() not in _content(one), name
        assert str(Path(caffeport.__file__).parent).encode() not in _content(one), name


def _content(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as file:
        return b"\n".join(name.encode() + file.read(name) for name in file.namelist())


def test_safetensors_of_any_numbers(tmp_path):
    from caffeport.to_torch.safetensors_file import write_arrays

    arrays = {
        "a": np.array([True, False, True]),
        "b/ü": np.arange(6, dtype=np.int64).reshape(2, 3),
        "c": np.float32(7),
        "d": np.zeros((0, 4), np.float32),
        "e": np.arange(3, dtype=np.float16),
        "f": np.arange(12, dtype=np.float64).reshape(3, 4).T,
    }
    arrays = {key: np.asarray(array) for key, array in arrays.items()}
    write_arrays(arrays, tmp_path / "a.safetensors", {"format": "pt", "a": "b"})
    again = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    assert {key: (array.dtype, array.shape, array.tolist()) for key, array in again.items()} == {
        key: (array.dtype, array.shape, array.tolist()) for key, array in arrays.items()
    }
    assert safetensors_metadata(tmp_path / "a.safetensors") == {"format": "pt", "a": "b"}
