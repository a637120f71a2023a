"""Write docs/zoo.md from the zoo's data.

python docs/zoo_page.py
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from caffeport.zoo import MODELS, Model

PAGE = Path(__file__).parent / "zoo.md"
HEAD = """# The zoo

Published Caffe models: where they are, what their pixels go through, what was measured of them here.
`python docs/zoo_page.py` writes this page from `caffeport.zoo`. `caffeport zoo` lists the same, `caffeport zoo NAME`
tells all of one; in Python `caffeport.zoo.MODELS` holds them, and `caffeport.zoo.find(sha256)` finds one by its
weights.

`caffeport show`, `convert` and `check` recognise a file of weights whose SHA-256 is below and say whose it is.
`caffeport convert NET WEIGHTS --onnx F.onnx --preset NAME` puts mean and scale in front of the net; the file then takes
pixels from 0 to 255 in the order of channels that stands here, or RGB with `--rgb`. x is such a pixel, sizes are
height x width, and the link after the preprocessing leads to the file that says so. None of these models is part of
this project, and a licence is the repository's own word on it. A figure of blobs is the largest relative difference
that `caffeport check` finds between torch and ONNX Runtime, with random input."""


def page() -> str:
    """The page as Markdown: a table for each task, notes, files."""
    tasks = dict.fromkeys(model.task for model in MODELS)
    parts = [HEAD]
    for task in tasks:
        rows = [_row(model) for model in MODELS if model.task == task]
        heads = ("name", "what it is", "repository", "licence", "files", "preprocessing", "outputs", "measured here")
        parts.append("\n".join([f"## {task[0].upper()}{task[1:]}", "", _line(heads), _line(["---"] * 8), *rows]))
    notes = [f"- `{model.name}`: {model.note}." for model in MODELS if model.note]
    parts.append("\n".join(["## Notes", "", *notes]))
    files = [
        _line((f"`{model.name}`", f"{model.file.bytes:,}", f"`{model.file.sha256}`")) for model in MODELS if model.file
    ]
    head = [_line(("name", "bytes", "SHA-256 of the weights")), _line(["---"] * 3)]
    parts.append("\n".join(["## Files that are recognised", "", *head, *files]))
    return "\n\n".join(parts) + "\n"


def _row(model: Model) -> str:
    files = ", ".join(_link(model, path) for path in (model.net, model.weights) if path)
    preset = "see the note" if model.note else "not stated"
    if model.preset is not None:
        preset = f"{model.recipe()} ({_link(model, model.preset.source)})"
    outputs = ", ".join(f"`{name}`" for name in model.outputs)
    cells = (f"`{model.name}`", model.title, _repository(model), model.licence, files, preset, outputs, model.proof())
    return _line(cells)


def _repository(model: Model) -> str:
    if model.repository.startswith("gist."):
        return f"[gist](https://{model.repository})"
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model.repository):
        return model.repository or "not known"
    branch = f"/tree/{model.branch}" if model.branch else ""
    return f"[{model.repository}](https://github.com/{model.repository}{branch})"


def _link(model: Model, path: str) -> str:
    """The file's name with a link where its repository is on GitHub; other words as they are."""
    repository, colon, rest = path.partition(": ")
    repository, path = (repository, rest) if colon else (model.repository, path)
    if repository == "this project":
        return f"[{path}]({Path(path).name})"
    on_github = re.fullmatch(r"[\w.-]+/[\w.-]+", repository) and re.fullmatch(r"[\w./+-]+\.\w+", path)
    name = path.rpartition("/")[2] if re.fullmatch(r"\S+", path) else path
    return f"[{name}](https://github.com/{repository}/blob/{model.branch or 'HEAD'}/{path})" if on_github else name


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page())
