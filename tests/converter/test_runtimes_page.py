"""docs/runtimes.md: its lines run and give real Caffe's numbers, and its table says what is true."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import caffeport
import numpy as np
import pytest
from caffeport.runtimes import RUNTIMES

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples/digits"
PAGE = ROOT / "docs/runtimes.md"
SECTIONS = {title.partition("\n")[0]: title for title in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]}
NAMES = {one.title: name for name, one in RUNTIMES.items()}
OF_TABLE = [name for name in RUNTIMES if name != "onnxruntime"]


@pytest.fixture(scope="module")
def page():
    sys.path.insert(0, str(ROOT / "docs"))
    import runtimes_page

    return runtimes_page


def needed(name: str) -> None:
    if RUNTIMES[name].missing:
        pytest.skip(f"{RUNTIMES[name].title} is not installed: {RUNTIMES[name].install}")


def command(line: str) -> list[str]:
    """The words of a line of the page, with this Python and its programs in place of those of the shell."""
    words = re.findall(r'"[^"]*"|\S+', line)
    words = [word.strip('"') for word in words]
    if words[0] == "python":
        return [sys.executable, *words[1:]]
    if words[0] == "caffeport":
        return [
            sys.executable,
            "-m",
            "caffeport",
            *(str(ROOT / one) if one.startswith("examples") else one for one in words[1:]),
        ]
    origin = importlib.util.find_spec(words[0])
    assert origin is not None and origin.origin is not None
    return [str(Path(origin.origin).parent / words[0]), *words[1:]]


@pytest.mark.slow
@pytest.mark.parametrize("title", [*NAMES, "Which is the fastest"])
def test_the_lines_of_the_page_give_caffes_numbers(title, tmp_path):
    name = NAMES.get(title, "onnxruntime")
    needed(name)
    caffeport.load(DIGITS / "deploy.prototxt", DIGITS / "digits_center.caffemodel").to_onnx(tmp_path / "digits.onnx")
    with np.load(DIGITS / "digits_center_blobs.npz") as blobs:
        recorded = {key.removeprefix("data/"): blobs[key] for key in blobs.files}
    np.save(tmp_path / "x.npy", recorded["data"])
    blocks = re.findall(r"```(bash|python)\n(.*?)```", SECTIONS[title], flags=re.DOTALL)
    assert [kind for kind, _ in blocks].count("python") == 1
    for kind, text in blocks:
        if kind == "bash":
            done = subprocess.run(command(text.strip()), cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
        else:
            code = f"import numpy\nx = numpy.load('x.npy')\n{text}\nnumpy.save('y.npy', y)\n"
            done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    features = np.load(tmp_path / "y.npy")
    expected = recorded["fc5"]
    assert features.shape == expected.shape
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_every_no_says_why(page):
    text = PAGE.read_text()
    notes = set(re.findall(r"^(\d+)\. \S", page.table_of(text), flags=re.MULTILINE))
    marks = re.findall(r"(?:no|differs) \((\d+)\)", page.table_of(text))
    assert set(marks) == notes and len(marks) == len(notes)
    told = page.verdicts(text)
    assert {title for title, _ in told} >= set(page.NETS)
    for verdict in told.values():
        assert verdict in ("no", "differs") or float(verdict) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("title", ["mtcnn, ONet", "hyperlpr_ssd"])
def test_the_table_says_what_is_true(page, title, tmp_path):
    nets = page.published(ROOT.parent / "shared/models")
    if title not in nets:
        pytest.skip(f"{title}: not among the models in ../shared/models")
    names = [name for name in OF_TABLE if not RUNTIMES[name].missing]
    told = page.verdicts(PAGE.read_text())
    for name, (verdict, why) in zip(names, page.cells(title, nets[title], names, tmp_path), strict=True):
        # One that reads memory which nobody wrote fails now in one way, now in another.
        bad = [words in ("no", "differs") for words in (verdict, told[title, name])]
        assert bad[0] == bad[1], f"{name}: {verdict} {why}"
