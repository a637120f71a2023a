"""Write docs/coverage.md: which published Caffe architectures caffeport takes, and what it was compared with.

python docs/coverage_page.py [TEXTS.zip | FOLDER ...] [--caffe PYTHONPATH [--interpreter PYTHON]]

The texts are those in prototxt/ and in every folder or zip that is named, whose first folder is the repository
(``owner+name``). A real Caffe, given by its python/ folder as for ``caffeport check``, runs the nets whose layers it
has; --caffe may be given more than once.
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from coverage_measure import Caffe, Outcome, measure
from rich.progress import track

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).parent / "coverage.md"
OWN = "this project"

FAMILIES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("R-FCN", ("PSROIPooling",), ("rfcn", "r-fcn")),
    ("R-CNN", ("ROIPooling", "ROIAlign", "ROIWarping", "Proposal", "BoxOutput", "BoxGroupOutput"), ("rcnn", "r-cnn")),
    ("YOLO", ("RegionLoss", "YoloDetectionOutput", "Yolov3DetectionOutput", "Yolov3", "Reorg"), ("yolo",)),
    ("SSD", ("PriorBox", "MultiBoxLoss", "DetectionOutput", "AnnotatedData"), ("ssd",)),
    ("video", ("Convolution3D", "Pooling3D", "VideoData", "FlowWarp", "Correlation", "ConvLSTM"), ("c3d", "flow")),
    ("text recognition", ("LSTM", "Lstm", "ContinuationIndicator", "WarpCTC", "CTCLoss"), ("crnn", "ocr", "ctpn")),
    ("face recognition", ("MarginInnerProduct", "LabelSpecificAdd", "NormL2", "Normalize", "CenterLoss"),
     ("sphereface", "normface", "center_face", "am_softmax", "noiseface", "arcface", "mobilefacenet", "lightcnn")),
    ("faces and landmarks", (), ("mtcnn", "face", "landmark", "age", "gender", "emotion")),
    ("segmentation", ("ImageSegData", "DenseImageData", "Upsample", "BN"),
     ("segnet", "fcn", "enet", "crf", "deeplab", "psp", "segment")),
    ("super-resolution and restoration", ("PixelShuffle",), ("waifu", "srcnn", "vdsr", "drfn", "resnet10", "derain")),
    ("pose and heat maps", (), ("pose", "heatmap")),
    ("classification", ("SoftmaxWithLoss", "Softmax", "Accuracy"), ("imagenet", "resnet", "cifar", "mnist", "lenet")),
)  # fmt: skip
"""(family, layer types that tell it, words in the path that do): a type decides before any word, the first family
before the later ones."""

EXPLAINED = (
    "A train text in its TEST phase may normalise by the statistics of its small batch, and with random weights",
    "rounding then grows beyond 1e-3 over a hundred layers, in PyTorch against ONNX Runtime as in PyTorch against",
    "Caffe. Rows of a detection are sorted by scores that rounding may swap.",
)
BASICS = frozenset({
    "Input", "Data", "ImageData", "HDF5Data", "Convolution", "InnerProduct", "Pooling", "ReLU", "Dropout", "Softmax",
    "SoftmaxWithLoss", "Accuracy", "Concat", "Eltwise", "LRN", "Flatten", "Split",
})  # fmt: skip
"""Layer types that are left out of an architecture's list, since nearly every net has them."""


@dataclass
class Text:
    """One network text and where it is from."""

    repository: str
    name: str
    path: Path
    outcome: Outcome


def family(text: Text) -> str:
    """The family that a text belongs to, by its layer types and then by the words of its path."""
    for name, types, _ in FAMILIES[:-1]:
        if not set(types).isdisjoint(text.outcome.types):
            return name
    words = f"{text.repository}/{text.name}".lower()
    for name, _, marks in FAMILIES:
        if any(re.search(rf"(?<![a-z]){mark}", words) for mark in marks):  # "enet" is no part of "lenet"
            return name
    return FAMILIES[-1][0] if not set(FAMILIES[-1][1]).isdisjoint(text.outcome.types) else "other"


def sources(places: Iterable[str], folder: Path) -> list[tuple[str, str, Path]]:
    """(repository, name, file) of every text; those of a zip are unpacked into ``folder``."""
    texts = [(OWN, str(path.relative_to(ROOT)), path) for path in sorted((ROOT / "prototxt").rglob("*.prototxt"))]
    for place in map(Path, places):
        if place.is_file():
            with zipfile.ZipFile(place) as archive:
                archive.extractall(folder)
            place = folder
        for path in sorted(file for file in place.rglob("*") if file.suffix in (".prototxt", ".pt", ".prototext")):
            owner, *rest = path.relative_to(place).parts
            texts.append((owner.replace("+", "/"), "/".join(rest), path))
    return [entry for entry in texts if is_net(entry[2])]


def is_net(path: Path) -> bool:
    """Whether a text is a net's, not a solver's."""
    text = path.read_bytes()
    return (b"layer" in text) and b"base_lr" not in text


def share(count: int, of: int) -> str:
    return f"{count} of {of}" if of else "—"


def tally(texts: Sequence[Text]) -> str:
    """The cells of a row: how many texts, and how many of them were built, trained, proven."""
    results = [text.outcome for text in texts]
    trained = [result for result in results if result.train]
    stepped = [result for result in results if result.step]
    compared = [result for result in results if result.onnx]
    caffe = [result for result in results if result.caffe]
    return " | ".join(
        (
            share(sum(result.test == "built" for result in results), len(results)),
            share(sum(result.train == "built" for result in trained), len(trained)),
            share(sum(result.step == "finite" for result in stepped), len(stepped)),
            share(sum(result.onnx == "equal" for result in compared), len(compared)),
            share(sum(result.caffe == "equal" for result in caffe), len(caffe)),
        )
    )


HEAD = "built (TEST) | built (TRAIN) | finite loss | torch = ONNX | = real Caffe |"


def page(texts: Sequence[Text], command: str) -> str:
    """The whole page as Markdown."""
    families: dict[str, list[Text]] = collections.defaultdict(list)
    for text in texts:
        families[family(text)].append(text)
    order = [name for name, *_ in FAMILIES if name in families] + (["other"] if "other" in families else [])
    lines = [
        "# Coverage",
        "",
        "Published Caffe networks, by family: how many of their texts caffeport builds, in how many of them every blob",
        "of PyTorch equals ONNX Runtime's (random weights, relative 1e-3), and where a real Caffe that has the layers",
        "ran beside them, equals Caffe's. A net is run where an image takes at most 3 billion multiply-adds. Texts",
        "that are no nets, label maps and templates among them, are counted too. Written by",
        f"`{command}`;",
        "the texts are read from where you have them and are not part of this repository.",
        "",
        f"| family | {HEAD}",
        "|---|---|---|---|---|---|",
        *(f"| [{name}](#{anchor(name)}) | {tally(families[name])} |" for name in order),
        f"| **all** | {tally(texts)} |",
        "",
    ]
    for name in order:
        lines += [f"## {name[0].upper()}{name[1:]}", "", *architectures(families[name]), ""]
    return "\n".join([*lines, "## What is refused, or differs", "", *EXPLAINED, "", *refused(texts), ""])


def anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def architectures(texts: Sequence[Text]) -> list[str]:
    """A row for each repository: the layers that its nets need, and its figures."""
    rows = [f"| repository | layers beyond the basic ones | {HEAD}", "|---|---|---|---|---|---|---|"]
    for repository in sorted({text.repository for text in texts}, key=str.lower):
        own = [text for text in texts if text.repository == repository]
        needed = sorted({name for text in own for name in text.outcome.types} - BASICS)
        rows.append(f"| {repository} | {', '.join(f'`{name}`' for name in needed) or '—'} | {tally(own)} |")
    return rows


def refused(texts: Sequence[Text]) -> list[str]:
    """A row for each text that is not built, or that differs, with the reason."""
    rows = []
    for text in texts:
        result = text.outcome
        for phase, why in (
            ("TEST", result.test),
            ("TRAIN", result.train),
            ("ONNX", result.onnx),
            ("Caffe", result.caffe),
        ):
            if why not in ("", "built", "equal", "finite"):
                rows.append(f"| {text.repository}/{text.name} | {phase} | {cell(why)} |")
    return ["| text | where | why |", "|---|---|---|", *rows] if rows else ["Nothing."]


def cell(words: str, most: int = 240) -> str:
    """Words that fit into a cell of a table."""
    escaped = words.replace("|", "\\|").replace("<", "&lt;")
    return escaped if len(escaped) <= most else f"{escaped[:most]} …"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="*", metavar="TEXTS", help="a zip or folder of texts, by owner+repository")
    parser.add_argument("--caffe", action="append", default=[], metavar="PYTHONPATH", help="python/ of a built Caffe")
    parser.add_argument("--interpreter", default=sys.executable, help="the Python that those are built for")
    parser.add_argument("--only", default="", metavar="WORD", help="texts whose path has this in it")
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--json", type=Path, help="every text's outcome as well")
    options = parser.parse_args(arguments)
    caffes = [Caffe(path, options.interpreter) for path in options.caffe]
    import onnxruntime  # noqa: F401  once, before the processes are forked
    import torch  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        listed = [entry for entry in sources(options.places, Path(folder)) if options.only in str(entry[2])]
        texts = []
        for number, (repository, name, path) in enumerate(track(listed, "texts", disable=not sys.stderr.isatty()), 1):
            texts.append(Text(repository, name, path, measure(path, caffes)))
            if not sys.stderr.isatty() and number % 20 == 0:
                print(f"{number} of {len(listed)} texts", file=sys.stderr, flush=True)
    named = " ".join(Path(place).name for place in options.places)
    options.out.write_text(page(texts, f"python docs/coverage_page.py {named}".strip()))
    if options.json:
        content = [
            {"repository": t.repository, "name": t.name, "family": family(t), **asdict(t.outcome)} for t in texts
        ]
        options.json.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
