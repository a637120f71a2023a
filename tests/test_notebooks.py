"""The notebooks run, and what stands in their files is what they give today."""

from __future__ import annotations

import copy
import re
import sys
from itertools import zip_longest
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbclient: pip install nbclient ipykernel")
pytest.importorskip("nbclient", reason="needs nbclient: pip install nbclient ipykernel")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]\d+)?")
MOST_BYTES = 250_000
sys.path.insert(0, str(ROOT / "docs"))


def texts(notebook) -> list[str]:
    """Every output of every cell as text, an image as its kind alone: fonts differ between machines."""
    shown = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                shown.append(f"cell {number}: {output.text}")
                continue
            data = {kind: "" if kind.startswith("image/") else text for kind, text in sorted(output.data.items())}
            shown.append(f"cell {number}: {data}")
    return shown


def assert_alike(stored: str, now: str) -> None:
    """The same words and whole numbers. Others may differ by 5 %, or by 0.02, which other processors' sums make of a
    training; errors below 0.001 are rounding, of which only that counts."""
    assert NUMBER.sub("#", stored) == NUMBER.sub("#", now)
    for before, after in zip(map(float, NUMBER.findall(stored)), map(float, NUMBER.findall(now)), strict=True):
        assert abs(before - after) <= max(0.05 * abs(before), 0.001 if abs(before) < 0.001 else 0.02), (stored, now)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_gives_what_stands_in_it(path, tmp_path, monkeypatch):
    import notebooks_run

    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'converter'}:{ROOT / 'python'}")
    folder = tmp_path / "docs/notebooks"
    folder.mkdir(parents=True)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    stored, now = nbformat.read(path, as_version=4), notebooks_run.run(path, folder)
    for before, after in zip_longest(texts(stored), texts(now), fillvalue=""):
        assert_alike(before, after)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_is_as_the_script_leaves_it(path):
    """Run from the first cell to the last, without errors, times, progress or the kernel's version; and small."""
    import notebooks_run

    notebook = nbformat.read(path, as_version=4)
    assert notebooks_run.cleaned(copy.deepcopy(notebook)) == notebook, "run: python docs/notebooks_run.py"
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "run: python docs/notebooks_run.py"
    assert not [cell for cell in notebook.cells if any(o.output_type == "error" for o in cell.get("outputs", ()))]
    assert path.stat().st_size < MOST_BYTES


def test_what_counts_as_alike():
    assert_alike("max 1.2e-06, cosine 0.69", "max 3.0e-06, cosine 0.68")
    for stored, now in (
        ("0.69", "0.61"),
        ("12 of 14", "13 of 14"),
        ("ok", "DIFFERS"),
        ("15.1%", "16.1%"),
        ("1e-4", ""),
    ):
        with pytest.raises(AssertionError):
            assert_alike(stored, now)
