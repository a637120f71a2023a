"""Write docs/runtimes.md: how a converted file runs in each runtime, and which of them runs which published model.

python docs/runtimes_page.py [MODELS]

The page's text is written by hand; its table is measured here. MODELS is by default ../shared/models beside the clone.
Every model is converted as `caffeport convert` does it, and each runtime opens the file in a process of its own and
runs it on one random image of the net's declared size.
"""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import caffeport
import numpy as np
from caffeport.difference import difference
from caffeport.runtimes import RUNTIMES, ModelRunError
from caffeport.runtimes.process import RuntimeProcess, save_inputs

DOCS = Path(__file__).parent
PAGE = DOCS / "runtimes.md"
DIGITS = DOCS.parent / "examples/digits"
START, END = "<!-- the table: python docs/runtimes_page.py -->", "<!-- the table's end -->"
RTOL, ATOL = 1e-3, 1e-4
"""As caffeport bench has them."""

NETS = {
    "digits": (DIGITS, "deploy.prototxt", "digits_center.caffemodel"),
    "mobilefacenet": ("mobilefacenet", "mobilefacenet_deploy.prototxt", "mobilefacenet.caffemodel"),
    "center_face": ("center_face", "face_deploy.prototxt", None),
    "normface, LeNet": ("normface", "lenet_NCA_nonorm.prototxt", "lenet_iter_20000.caffemodel"),
    "mtcnn, PNet": ("mtcnn", "det1.prototxt", "det1.caffemodel"),
    "mtcnn, RNet": ("mtcnn", "det2.prototxt", "det2.caffemodel"),
    "mtcnn, ONet": ("mtcnn", "det3.prototxt", "det3.caffemodel"),
}
"""Title -> folder (below the models, or a path), text, weights; None for Caffe's fillers."""
SHAPES = {"parking_32x40_1": {"data1": (1, 1, 32, 40)}}
"""Inputs that a text does not give the size of."""

Files = tuple[Path, Path | None]


def published(models: Path) -> dict[str, Files]:
    """{title: (text, weights)} of the demo and of the models that are there."""
    found: dict[str, Files] = {}
    for title, (folder, text, weights) in NETS.items():
        place = folder if isinstance(folder, Path) else models / folder
        if (place / text).is_file():
            found[title] = (place / text, None if weights is None else place / weights)
    for place in sorted((models / "wild").glob("*/")):
        found[place.name] = (place / "net.prototxt", next(place.glob("net.caffemodel*")))
    return found


def cells(title: str, files: Files, names: list[str], folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (what the table says of the model in a runtime, why) of each runtime.

    That is the largest difference from ONNX Runtime's numbers, or "no" or "differs" with the reason.
    """
    keywords: dict[str, Any] = {
        "prototxt_path": str(files[0]),
        "weights": None if files[1] is None else str(files[1]),
        "input_shapes": SHAPES.get(title, {}),
    }
    path = folder / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = caffeport.load(**keywords)
        net.to_onnx(path)
    shapes = {name: (1, *net.blob_shapes[name][1:]) for name in net.inputs}
    random = np.random.default_rng(0)
    save_inputs(folder / "x.npz", {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()})
    expected = None
    for name in ["onnxruntime", *names]:
        try:
            outputs, steady = _run(name, path, folder, keywords)
        except ModelRunError as error:
            yield "no", _without_paths(str(error), folder, title)
            continue
        if expected is None:
            expected = outputs
            continue
        yield _verdict(outputs, expected) if steady else ("differs", "its outputs change from run to run")


def _run(name: str, path: Path, folder: Path, keywords: dict[str, Any]) -> tuple[dict[str, np.ndarray], bool]:
    """The outputs, and whether three runs gave the same."""
    with RuntimeProcess(RUNTIMES[name].title) as process:
        net = keywords if name == "torch" else None
        process.ask("open", path=str(path), runtime=name, threads=1, net=net)
        runs = [process.run(folder / "x.npz", folder) for _ in range(3)]
    return runs[0], all(np.array_equal(one[key], array) for one in runs for key, array in runs[0].items())


def _verdict(outputs: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> tuple[str, str]:
    worst = 0.0
    ok = True
    for name, array in expected.items():
        if outputs[name].shape != array.shape:
            sizes = ["x".join(map(str, one.shape)) for one in (outputs[name], array)]
            return "differs", f"`{name}` is {sizes[0]}, and {sizes[1]} in ONNX Runtime"
        _, relative, same = difference(outputs[name], array, RTOL, ATOL)
        worst, ok = max(worst, relative), ok and same
    return (f"{worst:.0e}", "") if ok else ("differs", f"max rel {worst:.1e}")


def _without_paths(words: str, folder: Path, title: str) -> str:
    words = words.replace(str(folder / "model.onnx"), f"{title}.onnx").replace(f"{folder}/", "")
    words = (
        re.sub(r"/\S*/(site-packages|opencv/modules)/", "", words)
        .replace("|", "\\|")
        .replace("<", "&lt;")
        .replace("*", "\\*")
    )
    return words if len(words) <= 300 else f"{words[:300]} ..."


def measured(models: Path) -> str:
    """The table of all models in all runtimes that are installed, as Markdown."""
    names = [name for name in RUNTIMES if name != "onnxruntime"]
    missing = [RUNTIMES[name].install for name in names if RUNTIMES[name].missing]
    if missing:
        sys.exit(f"the table is of all runtimes: {'; '.join(missing)}")
    rows, notes = [], []
    for title, files in published(models).items():
        line = [title]
        with tempfile.TemporaryDirectory() as folder:
            for name, (words, why) in zip(names, cells(title, files, names, Path(folder)), strict=True):
                if why:
                    notes.append(f"{len(notes) + 1}. {RUNTIMES[name].title}, {title}: {why}")
                    words += f" ({len(notes)})"
                line.append(words)
        print(" | ".join(line), file=sys.stderr)
        rows.append(f"| {' | '.join(line)} |")
    heads = [
        f"from ONNX Runtime {RUNTIMES['onnxruntime'].version}",
        *(f"{RUNTIMES[name].title} {RUNTIMES[name].version.partition('+')[0]}" for name in names),
    ]
    head = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join([*head, *rows, "", *notes])


def with_table(text: str, table: str) -> str:
    """The page with this table in place of the one that it has."""
    return f"{text.partition(START)[0]}{START}\n{table}\n\n{END}\n"


def table_of(text: str) -> str:
    """The table that a page has."""
    return text.partition(START)[2].partition(END)[0].strip("\n")


def verdicts(text: str) -> dict[tuple[str, str], str]:
    """{(model, runtime): "no", "differs" or a number} of a page's table."""
    rows = [[one.strip() for one in line.strip("|").split("|")] for line in table_of(text).splitlines() if "|" in line]
    names = [name for name in RUNTIMES if name != "onnxruntime"]
    return {(row[0], name): one.split(" ")[0] for row in rows[2:] for name, one in zip(names, row[1:], strict=True)}


def main() -> None:
    models = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS.parents[1] / "shared/models"
    PAGE.write_text(with_table(PAGE.read_text(), measured(models)))


if __name__ == "__main__":
    main()
