"""Run the notebooks of docs/notebooks and write what they give into them: python docs/notebooks_run.py [NAME ...]

The files hold nothing of the run itself (times, the kernel's version, progress on stderr), so that a second run
changes nothing but what the code gives.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from caffeport.files import replacing
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent / "notebooks"
SECONDS = 300
METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def main(names: list[str]) -> None:
    for path in [FOLDER / f"{Path(name).stem}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb")):
        notebook = run(path, path.parent)
        with replacing(path) as stream:
            stream.write((nbformat.writes(notebook).rstrip("\n") + "\n").encode())
        print(f"wrote {path} ({path.stat().st_size:,} bytes)")


def run(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Return the notebook with the outputs of a run in ``folder``; raises CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(folder)}}).execute()
    return cleaned(notebook)


def cleaned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return it without what differs from run to run."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


if __name__ == "__main__":
    main(sys.argv[1:])
