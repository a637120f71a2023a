"""The two wheels as people install them: beside what they declare and nothing else, run from another folder.

The environments are empty but for links to those packages of the running one that the wheel's own metadata names, so
that nothing is downloaded and an undeclared package is missing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from email import message_from_bytes
from importlib import metadata
from pathlib import Path

import caffeport
import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples/digits"
NET, WEIGHTS = str(DIGITS / "deploy.prototxt"), str(DIGITS / "digits_center.caffemodel")
BLOBS = str(DIGITS / "digits_center_blobs.npz")
OF_NORMFACE = ["torch", "cv2", "scipy", "matplotlib", "lightning_fabric"]
NO_OTHERS = ["onnxruntime", *OF_NORMFACE]

RECORDER = '''
import os, sys

class Recorder:
    """Writes down every name that is imported or tried; an import guarded by "except ImportError" is seen too."""
    def find_spec(self, name, path=None, target=None):
        with open(os.environ["TRIED"], "a") as stream:
            stream.write(name + "\\n")

if "TRIED" in os.environ:
    sys.meta_path.insert(0, Recorder())
'''


@dataclass
class Environment:
    """An environment of Python, and an empty folder outside the repository to work in."""

    root: Path
    folder: Path

    @property
    def packages(self) -> Path:
        return next(self.root.glob("lib/python*/site-packages"))

    def run(self, *arguments: str, tried: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Python with these arguments; ``tried``: the file for the names that it imports or tries to."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment = {**kept, "MPLCONFIGDIR": str(self.folder), **({} if tried is None else {"TRIED": str(tried)})}
        command = [str(self.root / "bin/python"), *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120)


def build(source: Path, into: Path) -> Path:
    """The wheel of a distribution, built from a copy of its files, so that nothing is left in the repository."""
    copy = into / source.name
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("*.egg-info", "build", "dist", "__pycache__"))
    wheels = into / "wheels"
    pip(*["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir"], str(wheels), str(copy))
    return next(wheels.glob("*.whl"))


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def install(wheels: Iterable[Path], folder: Path) -> Environment:
    """An environment with these wheels and links to what they need."""
    made = Environment(folder / "environment", folder / "elsewhere")
    made.folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made.root)], check=True)
    python = str(made.root / "bin/python")
    pip("--python", python, "install", "--quiet", "--no-deps", "--no-index", *map(str, wheels))
    own = {path.name.partition("-")[0]: path for path in made.packages.glob("*.dist-info")}
    declared = [line for path in own.values() for line in metadata.PathDistribution(path).requires or []]
    for distribution in closure(declared, set(own)):
        for name in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            if not (made.packages / name).exists():  # two distributions may share a folder, such as google
                (made.packages / name).symlink_to(distribution.locate_file(name))
    (made.packages / "sitecustomize.py").write_text(RECORDER)
    return made


def closure(declared: Iterable[str], own: set[str]) -> list[metadata.Distribution]:
    """The installed distributions that these requirements bring, their own requirements with them."""
    waiting, known = [Requirement(line) for line in declared], {}
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in known or name in own or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        known[name] = metadata.distribution(name)
        waiting += [Requirement(line) for line in known[name].requires or []]
    return list(known.values())


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    if Version(metadata.version("setuptools")) < Version("77.0.3"):
        pytest.skip("setuptools 77.0.3 or newer, which knows SPDX licences: see requirements-dev.txt")
    return {
        name: build(ROOT / source, tmp_path_factory.mktemp(name))
        for name, source in {"caffeport": "converter", "normface": "python"}.items()
    }


@pytest.fixture(scope="module")
def converter(wheels, tmp_path_factory) -> Environment:
    """Where caffeport alone is installed."""
    return install([wheels["caffeport"]], tmp_path_factory.mktemp("converter"))


@pytest.fixture(scope="module")
def whole(wheels, tmp_path_factory) -> Environment:
    """Where both are installed, as ``pip install ./converter ./python`` has it."""
    return install(wheels.values(), tmp_path_factory.mktemp("whole"))


@pytest.mark.slow
@pytest.mark.parametrize("package", ["converter/caffeport", "python/normface"])
def test_a_wheel_holds_every_file_of_its_package(wheels, package):
    """The texts of MTCNN, the measured thresholds and py.typed as well as the modules; and nothing beside them."""
    source = ROOT / package
    files = {path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    with zipfile.ZipFile(wheels[source.name]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {str(path.relative_to(source.parent)) for path in files}
    assert f"{source.name}/py.typed" in names


def test_the_data_of_normface_is_in_its_wheel(wheels):
    with zipfile.ZipFile(wheels["normface"]) as archive:
        names = archive.namelist()
    assert {f"normface/detection/det{number}.prototxt" for number in (1, 2, 3)} <= set(names)
    assert any(re.fullmatch(r"normface/recognise/measured/.*\.toml", name) for name in names)


@pytest.mark.parametrize("package", ["caffeport", "normface"])
def test_the_metadata_says_whose_it_is(wheels, package):
    """The licence as SPDX names it and its text, which is the repository's; the authors; a description to read."""
    with zipfile.ZipFile(wheels[package]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        told = message_from_bytes(wheel.read(name))
        licence = wheel.read(f"{name.removesuffix('METADATA')}licenses/LICENSE")
    assert (told["License-Expression"], told["Author"]) == ("MIT", "normface maintainers")
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert told["Description-Content-Type"] == "text/markdown" and f"# {package}" in told.get_payload()
    assert not [line for line in told.get_all("Classifier") if line.startswith("License")]  # refused beside SPDX


def test_the_citation_is_of_this_version():
    """The keys that the format demands (version 1.2.0 of its schema)."""
    yaml = pytest.importorskip("yaml", reason="needs PyYAML, which mkdocs brings: pip install -r docs/requirements.txt")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["cff-version"], citation["version"]) == ("1.2.0", caffeport.__version__)
    assert citation["license"] == "MIT" and citation["authors"] == [{"name": "normface maintainers"}]


@pytest.mark.slow
def test_the_converter_brings_nothing_of_torch(converter):
    found = converter.run("-c", f"from importlib.util import find_spec as f; print([n for n in {NO_OTHERS} if f(n)])")
    assert (found.stdout, found.stderr) == ("[]\n", "")


def without_note(text: str) -> str:
    """What was said beside the note on the head and the centers in the weights, which a deploy net does not take."""
    return re.sub(r'caffeport: note: \S+: "fc6", "center_loss" are not taken: .*\n', "", text)


@pytest.mark.slow
def test_the_converter_converts(converter, tmp_path):
    """``show`` and ``convert`` without torch; the files compute what Caffe recorded."""
    import onnxruntime
    import torch
    from caffeport import load
    from safetensors.torch import load_file

    tried = tmp_path / "tried.txt"
    shown = converter.run("-m", "caffeport", "show", NET, WEIGHTS, tried=tried)
    assert (shown.returncode, without_note(shown.stderr)) == (0, "")
    assert "15 layers, 50,192 parameters, 902,144 multiply-adds" in shown.stdout
    files = ["--onnx", "digits.onnx", "--torch", "digits.safetensors"]
    written = converter.run("-m", "caffeport", "convert", NET, WEIGHTS, *files, tried=tried)
    assert (written.returncode, without_note(written.stderr)) == (0, "")
    names = {name.partition(".")[0] for name in tried.read_text().split()}
    assert {"caffeport", "numpy", "onnx"} <= names
    assert names.isdisjoint(NO_OTHERS)

    recorded = np.load(BLOBS)
    session = onnxruntime.InferenceSession(str(converter.folder / "digits.onnx"))
    (made,) = session.run(None, {"data": recorded["data"]})
    np.testing.assert_allclose(made, recorded["fc5"], rtol=1e-4, atol=1e-5)
    model = load(NET, WEIGHTS).to_torch()
    state = load_file(converter.folder / "digits.safetensors")
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)  # so that the numbers can come from the file only
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        made = model(torch.from_numpy(recorded["data"])).numpy()
    np.testing.assert_allclose(made, recorded["fc5"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        (["check", NET, WEIGHTS], "torch"),
        (["check", NET, WEIGHTS, "--backends", "torch", "--reference", BLOBS], "torch"),
        (
            ["check", NET, WEIGHTS, "--backends", "onnx", "--reference", BLOBS],
            "onnxruntime",
        ),
        (["check", NET, WEIGHTS, "--input", str(ROOT / "docs/alignment.jpg")], "opencv-python"),
        (["convert", NET, WEIGHTS, "--torch", "digits.pth"], "torch"),
        (["convert", NET, WEIGHTS, "--torch", "digits.pt"], "torch"),
        (["convert", NET, WEIGHTS, "--torch", "digits.pt2"], "torch"),
        (["convert", NET, WEIGHTS, "--torch", "digits.pt2", "--onnx", "left.onnx"], "torch"),
        (["show", NET, "digits.caffemodel.h5"], "h5py"),
    ],
)
def test_what_the_converter_lacks_is_named(converter, arguments, package):
    """One line with the name on the registry, exit code 2, no file."""
    (converter.folder / "digits.caffemodel.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    before = set(converter.folder.iterdir())
    done = converter.run("-m", "caffeport", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    problem = without_note(done.stderr)
    assert problem.startswith("caffeport: error: ") and problem.count("\n") == 1
    assert re.search(rf"pip install {package}(?![\w-])", problem), problem
    assert set(converter.folder.iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "call", ["net.to_torch()", "net.check()", f"net.check(reference={BLOBS!r}, backends=['onnx'])"]
)
def test_what_the_converter_lacks_is_named_in_python(converter, call):
    lines = ["import caffeport, warnings", "warnings.simplefilter('ignore', caffeport.WeightsWarning)"]
    lines += [f"net = caffeport.load({NET!r}, {WEIGHTS!r})"]
    lines += ["try:", f"    {call}", "except caffeport.MissingDependencyError as error:", "    print(error)"]
    done = converter.run("-c", "\n".join(lines))
    assert done.stderr == ""
    assert re.search(r"pip install (torch|onnxruntime)\b", done.stdout)


EVERY_MODULE = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, sys.argv[1] + "."):
    if module.name.rpartition(".")[2] != "__main__":
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            print(module.name, "needs", (error.name or "?").partition(".")[0])
"""


@pytest.mark.slow
def test_modules_of_the_converter_need_what_it_declares(converter):
    """All but those that build torch's modules."""
    done = converter.run("-c", EVERY_MODULE, "caffeport")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert (
        lines and [line for line in lines if not re.fullmatch(r"caffeport\.to_torch\.[\w.]+ needs torch", line)] == []
    )


@pytest.mark.slow
def test_modules_of_normface_need_what_it_declares(whole):
    done = whole.run("-c", EVERY_MODULE, "normface")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.slow
def test_normface_runs(whole, tmp_path):
    """Its help needs none of its heavy packages; what lies beside its modules is found."""
    tried = tmp_path / "tried.txt"
    done = whole.run("-m", "normface", "--help", tried=tried)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(command in done.stdout for command in ("finetune", "train", "align", "extract", "compare", "search"))
    assert {name.partition(".")[0] for name in tried.read_text().split()}.isdisjoint(OF_NORMFACE)
