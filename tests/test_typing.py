"""What mypy makes of a user's program: both packages' front doors are typed, so that a misspelt option is an error."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import caffeport
import normface
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"caffeport": caffeport, "normface": normface}
PRELUDE = """\
import caffeport
import normface
from caffeport.operators.onnx_builder import Emitter, Tensor

net = caffeport.load("deploy.prototxt", "face.caffemodel")
config = normface.finetune.Config(net="deploy.prototxt")
"""


class Case(NamedTuple):
    """A right line of a program about ``function``, and ``slip``, which is wrong there in place of ``name``."""

    function: str
    right: str
    name: str
    slip: str

    @property
    def wrong(self) -> str:
        before, _, after = self.right.rpartition(self.name)
        return f"{before}{self.slip}{after}"


CASES = [
    Case("caffeport.load", 'caffeport.load("a.prototxt", phase="train")', "phase", "phaze"),
    Case("caffeport.Net.to_onnx", 'net.to_onnx("x.onnx", opset=17)', "opset", "opsett"),
    Case("caffeport.Net.to_torch", 'net.to_torch(outputs=["fc5"])', "outputs", "output"),
    Case("caffeport.Net.check", "net.check(rtol=1e-3)", "rtol", "rtoll"),
    Case("caffeport.Net.with_weights", 'net.with_weights(weights={"fc5": []})', "weights", "wights"),
    Case("caffeport.Net.with_weights", "net.with_weights({}).inputs", "inputs", "imputs"),
    Case("caffeport.Net.save", 'net.save("a.caffemodel", prototxt="a.prototxt")', "prototxt=", "prototext="),
    Case("caffeport.Net.cut", 'net.cut(outputs=["fc5"])', "outputs", "output"),
    Case("caffeport.Net.cut", 'net.cut(outputs=["fc5"]).inputs', "inputs", "imputs"),
    Case("caffeport.operators.onnx_builder.Emitter.cast", 'Emitter(17).cast(Tensor("x"), "bool")', "Tensor", "str"),
    Case("caffeport.check", "caffeport.check(net, rtol=1e-3)", "rtol", "rtoll"),
    Case("caffeport.check", "caffeport.check(net).ok", "ok", "okay"),
    Case("normface.load", 'normface.load("tuned", mirror="sum")', "mirror", "miror"),
    Case("normface.Solver", "normface.Solver", "Solver", "Solvr"),
    Case("normface.Solver", 'normface.Solver("solver.prototxt", device="cpu")', "device", "devise"),
    Case("normface.Solver", 'normface.Solver("solver.prototxt").iteration', "iteration", "iterations"),
    Case("normface.finetune.finetune", "normface.finetune.finetune(config, resume=True)", "resume", "resum"),
    Case("normface.finetune.finetune", "normface.finetune.finetune(config).stopped", "stopped", "stoped"),
    Case("normface.data.open_images", 'normface.data.open_images("faces", color=False)', "color", "colour"),
    Case("normface.data.open_images", "normface.data.open_images", "open_images", "open_imags"),
    Case("normface.losses.make", 'normface.losses.make("arcface", 10, 512, margin=0.4)', "margin", "margn"),
    Case("normface.losses.ArcFaceLoss", "normface.losses.ArcFaceLoss(10, 512, scale=64.0)", "scale", "scal"),
]

Complaints = Callable[[str, int], "list[str]"]


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> Complaints:
    """mypy's errors about a case's line in the program of that name, which is "right" or "wrong"."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("programs")
    for name in ("right", "wrong"):
        lines = "\n".join(getattr(case, name) for case in CASES)
        (folder / f"{name}.py").write_text(f"{PRELUDE}{lines}\n")
    # With the repository's settings, and so with the cache of its own check: torch takes a while to read.
    command = [sys.executable, "-m", "mypy", "--no-pretty", str(folder / "right.py"), str(folder / "wrong.py")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert run.returncode in (0, 1), run.stdout + run.stderr  # 2: mypy could not go on
    errors = re.findall(r"(right|wrong)\.py:(\d+): error: (.*)", run.stdout)
    first = len(PRELUDE.splitlines()) + 1
    assert all(int(line) >= first for _, line, _ in errors), run.stdout
    return lambda name, index: [text for file, line, text in errors if file == name and int(line) == first + index]


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(CASES)), ids=[case.wrong for case in CASES])
def test_mypy_refuses_a_misspelt_name_and_passes_the_right_one(complaints: Complaints, index: int) -> None:
    case = CASES[index]
    assert complaints("right", index) == []
    (error,) = complaints("wrong", index)
    assert f'"{case.slip.rstrip("=")}"' in error


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_that_it_is_typed(package: str) -> None:
    # Without this file mypy takes every name of an installed package for Any (PEP 561).
    (folder,) = PACKAGES[package].__path__
    assert (Path(folder) / "py.typed").is_file()
