"""The writer of JSON: only what JSON has words for, and every command's output goes through it."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path

import numpy as np
import pytest
from caffeport.cli.main import main
from caffeport.json_text import to_json
from support import nets

ROOT = Path(__file__).parents[2]


def strict(text: str):
    """Read as a program that knows the standard only."""

    def refuse(word):
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_are_none_are_null():
    content = {"a": math.inf, "b": [-math.inf, (math.nan, 1.5)], "c": {"d": np.float32("nan"), "e": np.float64(0.1)}}
    for options in ({}, {"indent": None}, {"ascii_only": False}):
        assert strict(to_json(content, **options)) == {
            "a": None,
            "b": [None, [None, 1.5]],
            "c": {"d": None, "e": 0.1},
        }


def test_arrays_paths_and_numpys_numbers():
    content = {"x": np.array([[1.0, np.inf], [np.nan, 2.0]]), "n": np.int64(3), "f": np.bool_(True), "p": Path("a/b")}
    assert strict(to_json(content)) == {"x": [[1.0, None], [None, 2.0]], "n": 3, "f": True, "p": "a/b"}
    assert strict(to_json({Path("k"): np.zeros(0)})) == {"k": []}


def test_names_that_are_no_text_can_be_written_as_utf8():
    name = b"a\xff".decode("utf-8", "surrogateescape")
    for options in ({}, {"ascii_only": False}):
        assert json.loads(to_json([name, "é"], **options).encode()) == [name, "é"]
    assert "é" in to_json("é", ascii_only=False) and "é" not in to_json("é")


def test_what_json_cannot_say_is_refused():
    with pytest.raises(TypeError):
        to_json({"a": object()})


def test_check_of_a_breach(tmp_path, capsys):
    """A reference of another shape differs by infinity, one with a NaN too."""
    net = nets.load(tmp_path, nets.SMALL)
    net.save(tmp_path / "n.caffemodel")
    arguments = ["check", str(tmp_path / "net.prototxt"), str(tmp_path / "n.caffemodel"), "--json", "--reference"]
    inputs = net.sample_inputs()
    for wrong in (np.zeros((2, 4), np.float32), np.full((2, 5), np.nan, np.float32)):
        np.savez(tmp_path / "r.npz", **inputs, fc=wrong)
        assert main([*arguments, str(tmp_path / "r.npz")]) == 1
        report = strict(capsys.readouterr().out)
        assert report["ok"] is False
        assert report["rows"][-1]["max_abs"] is None and report["rows"][-1]["errors"]["torch"] == [None, None]


# Where Python's own writer is used: files that only this project reads, where infinity has to survive.
INTERNAL = {
    "converter/caffeport/json_text.py",
    "converter/caffeport/to_caffe/_pycaffe_forward.py",  # runs without caffeport, in the Python of a Caffe
    "converter/caffeport/to_torch/safetensors_file.py",  # a header of names, types and sizes, no other numbers
    "converter/caffeport/runtimes/process.py",  # between a run and its worker
    "converter/caffeport/runtimes/worker.py",
    "python/normface/solver/content.py",
    "python/normface/features/job.py",  # a digest
    "python/normface/finetune/head_file.py",  # a header, as above
    "python/normface/finetune/launch.py",  # between a run and its ranks
    "python/normface/finetune/rank.py",
    "python/normface/parallel/checkpoint.py",
    "python/normface/recognise/index/workshop.py",
}


@pytest.mark.slow
def test_nobody_else_writes_json():
    users = set()
    for folder in ("converter", "python"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and node.attr in ("dump", "dumps"):
                    assert isinstance(node.value, ast.Name)
                    if node.value.id == "json":
                        users.add(path.relative_to(ROOT).as_posix())
    assert users <= INTERNAL
