"""A fixed number of inputs for every target, and that the runner sees what it is there to see."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from caffeport import CaffeportError, NetError
from caffeport.operators import builtin
from support import caffe_trees

from fuzz.against_caffe import fuzz_against_caffe
from fuzz.covered import MODULES, ROOT
from fuzz.kill_jobs import JOBS, Job
from fuzz.kills import kill_often
from fuzz.layers import compare, fuzz_layers
from fuzz.mutation import LONGEST, mutated
from fuzz.nets import Drawn, draw, drawable
from fuzz.runner import fuzz, keep
from fuzz.targets import Target, run, targets

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits memory and time as Linux does"),
]

SLOW = {
    "onnx", "safetensors", "pth", "weights", "hdf5-weights", "net", "parquet", "index", "checkpoint", "extract-caffe",
}  # fmt: skip
"""Targets of which an input takes some milliseconds."""


@pytest.fixture(scope="module")
def known() -> dict[str, Target]:
    return targets()


NAMES = [
    "prototxt", "net", "caffemodel", "weights", "hdf5-weights", "mean", "onnx", "safetensors", "pth", "image", "lmdb",
    "recordio", "zip", "list", "bin", "features", "mat", "pairs", "splits", "landmarks", "calibration", "results",
    "solverstate", "config", "tar", "parquet", "index", "checkpoint", "extract", "extract-caffe", "head",
]  # fmt: skip


def test_no_target_is_forgotten(known):
    assert set(NAMES) == set(known)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_any_bytes_give_a_value_or_the_packages_own_error(known, tmp_path, name):
    target = known[name]
    for number, raw in enumerate(target.whole()):
        path = tmp_path / "case" / f"{number}{target.suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(raw)
        assert run(target, path) == "", "the whole file is refused, so that no mutated one would come far"
    outcome = fuzz(target, seed=20, count=400 if name in SLOW else 3000)
    assert not keep(outcome, tmp_path / "findings", target.suffix)
    assert len(outcome.errors) > 1  # some were refused and some were not


@pytest.mark.slow
def test_torch_and_onnx_runtime_agree_on_any_net(tmp_path):
    outcome = fuzz_layers(seed=20, count=1000)
    assert not keep(outcome, tmp_path, ".prototxt")
    assert outcome.errors[""] > 100


def test_real_caffe_agrees_on_any_net(tmp_path):
    """Every blob of the forward pass, and the gradients of all inputs and weights."""
    outcome = fuzz_against_caffe(caffe_trees.require("bvlc"), seed=20, count=300)
    assert not keep(outcome, tmp_path, ".prototxt")
    assert outcome.errors[""] > 100


@pytest.mark.slow
def test_every_type_is_drawn():
    random_ = random.Random(0)
    kinds = {kind for _ in range(4000) for kind in draw(random_).kinds}
    assert kinds == set(drawable()) and len(kinds) > 0.8 * len(builtin())


# The runner itself


def target_of(read) -> Target:
    return Target("made", ".bin", read, lambda: [b"0123456789"])


def raising(error: BaseException):
    def read(path: Path) -> None:
        raise error

    return read


def test_another_error_is_a_finding(tmp_path):
    outcome = fuzz(target_of(raising(KeyError("a"))), 0, count=3)
    (line,) = keep(outcome, tmp_path, ".bin")
    assert "KeyError: 'a'" in line and "test_fuzz.py" in line
    assert outcome.executions == 3 and Path(line.partition(":")[0]).exists()
    assert not fuzz(target_of(raising(NetError("one line"))), 0, count=3).findings


@pytest.mark.parametrize("message", ["x" * 5000, "a\x1b[2Jb"])
def test_a_message_for_no_terminal_is_a_finding(message):
    class BareError(CaffeportError):  # its base shortens messages and escapes what is not for a terminal
        def __str__(self) -> str:
            return message

    assert len(fuzz(target_of(raising(BareError())), 0, count=1).findings) == 1


def test_a_hang_and_much_memory_are_findings(monkeypatch):
    monkeypatch.setattr("fuzz.runner.SECONDS", 0.1)

    def hang(path: Path) -> None:
        try:
            while True:
                time.perf_counter()
        except Exception:  # a reader that takes every error for the file's
            raise CaffeportError("damaged") from None

    (raised, _), *_ = fuzz(target_of(hang), 0, count=1).findings.values()
    assert raised.startswith("HangError")
    (raised, _), *_ = fuzz(target_of(lambda path: bytes(3 << 30)), 0, count=1).findings.values()
    assert raised.startswith("MemoryError")


def test_equal_seeds_give_equal_inputs():
    seen: list[bytes] = []
    for seed in (1, 1, 2):
        fuzz(target_of(lambda path: seen.append(path.read_bytes())), seed, count=50)
    assert seen[:50] == seen[50:100] != seen[100:]
    assert len(set(seen[:50])) > 40
    assert all(len(mutated(b"x" * 100_000, random.Random(i))) <= LONGEST for i in range(100))


@pytest.mark.slow
@pytest.mark.parametrize("guide", [[], ["--coverage"], ["--lines"]], ids=["mutated", "guided", "covered"])
def test_the_command(tmp_path, guide):
    if guide:
        pytest.importorskip("atheris" if guide == ["--coverage"] else "coverage")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    arguments = ["config", "mean", *guide, "--seconds", "3", "--out", str(tmp_path / "out"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", *arguments], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-1000:]
    report = json.loads(done.stdout)
    assert report["findings"] == [] and set(report["targets"]) == {"config", "mean"}
    assert all(row["executions"] == sum(row["errors"].values()) > 20 for row in report["targets"].values())
    assert all((row["reached"] is not None) == (guide == ["--coverage"]) for row in report["targets"].values())
    assert all((0.3 < (row["covered"] or 0) <= 1) == (guide == ["--lines"]) for row in report["targets"].values())
    assert not (tmp_path / "out").exists()


def test_every_targets_modules_are_known(known):
    assert set(MODULES) == set(known)
    assert all((ROOT / path).is_file() for paths in MODULES.values() for path in paths)


def test_a_difference_is_a_finding(tmp_path, monkeypatch):
    class Differing:
        ok = False
        rows = [type("Row", (), {"ok": False, "blob": "t0", "type": "ReLU"})]

    monkeypatch.setattr("fuzz.layers.caffeport.check", lambda *a, **k: Differing)
    text = 'layer { name: "i" type: "Input" top: "i" input_param { shape { dim: 1 } } }'
    with pytest.raises(AssertionError, match="ReLU: torch and ONNX Runtime differ in blob t0"):
        compare(Drawn(text, ("ReLU",)), tmp_path)


# Kills


def test_kills_leave_files_whole():
    tally = kill_often(JOBS["save"], 6, random.Random(0))
    assert tally.kills >= 6 and tally.chains and not tally.findings


def test_a_half_written_file_and_another_result_are_findings():
    def half(inputs: Path) -> None:
        with open("a", "wb") as stream:
            for _ in range(10):
                stream.write(b"x")
                stream.flush()
                time.sleep(0.02)

    (finding, *_) = kill_often(Job("half", lambda folder: None, half), 3, random.Random(0)).findings
    assert finding == "half: a is broken"

    def more(inputs: Path) -> None:
        with open("log", "ab") as stream:
            stream.write(b"x")
        time.sleep(0.1)

    findings = kill_often(Job("more", lambda folder: None, more, loose="nothing"), 3, random.Random(0)).findings
    assert "more, resumed: log is another" in findings


@pytest.mark.slow
@pytest.mark.parametrize("place", ["Makefile", "tests/fuzz/__main__.py", "tests/fuzz/kills.py"])
def test_the_commands_import_what_is_installed(place):
    """tests/normface would stand for normface where that is installed from its folder, and no PYTHONPATH names it."""
    path = re.search(r"PYTHONPATH=(\S+) ", (ROOT / place).read_text())[1]
    module = "fuzz.kills" if place.endswith("kills.py") else "fuzz"
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-m", module, "--help" if module == "fuzz.kills" else "--list"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout, done.stderr
    code = "import normface; print(normface.__version__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
