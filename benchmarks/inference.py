"""Running converted nets: our file in ONNX Runtime, against OpenCV 4's own Caffe importer and against OpenVINO.

Claims, each with two threads: MobileFaceNet takes at most 1/2 of OpenCV's time at batch 1 and 1/1.6 at batch 16,
center-loss's network 1/1.4 at both; the median over all nets is at most 1/1.3; no net takes longer than in OpenCV but
those under 0.2 ms, where the calls are measured; and none takes more than 1.5 times what OpenVINO takes for the same
file. What each runtime gives is compared too, and the same file with PRelu as one node is run beside it.

    python benchmarks/inference.py [MODELS] [--only NAME ...] [--repeats 7] [--seconds 0.5] [--threads 2]
                                   [--opencv-python PYTHON] [--json FILE]

MODELS is a folder like ../shared/models beside the repository, by default that one: center_face, mobilefacenet and
every folder of wild in it are run, and open_nsfw, which comes from a package. center-loss's published text has no
weights at hand; its fillers' are taken, with other slopes for every channel. OpenCV reads each net as caffeport saves
it (text and weights), since three of the published texts are for training. Without --opencv-python OpenCV's
environment is made at the first call (see _rivals.py). Every runtime has a process of its own for a net, and the
repeats go through them in turn; a figure is the median over the repeats of each one's median.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _rivals
import numpy as np
from _measure import Row, cache, parser, ratio_text, report

MODELS = Path(__file__).parents[2] / "shared" / "models"
WORKER = Path(__file__).with_name("_infer.py")
BATCHES = (1, 16)
SIZES = {"parking_32x40_1": {"data1": (1, 1, 40, 32)}}
"""Inputs whose size neither the text nor the weights tell."""
TINY_MS = 0.2
"""Below it the cost of a call is measured, not the net's."""
LIMITS = {("mobilefacenet", 1): 1 / 2, ("mobilefacenet", 16): 1 / 1.6, ("center_face", 1): 1 / 1.4}
LIMITS["center_face", 16] = 1 / 1.4
"""(net, batch) -> the most of OpenCV's time that is claimed."""
OURS, PRELU, OPENVINO, OPENCV = "ours", "with PRelu", "OpenVINO", "OpenCV"


@dataclass
class Net:
    """A net's files; ``text`` and ``weights`` are as published."""

    name: str
    text: Path
    weights: Path | None
    sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass
class Figure:
    """Milliseconds of each runtime for one net and batch, and the largest difference from our outputs."""

    net: str
    batch: int
    times: dict[str, float]
    differences: dict[str, float]
    problems: dict[str, str]


class Worker:
    """A process that runs one net in one runtime."""

    def __init__(self, command: list[str | Path]) -> None:
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()

    def ask(self, **question: Any) -> dict[str, Any]:
        """Return the answer; a process that has died answers with an error."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return {"error": "cannot open the net"}
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"error": "the process died"}

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def nets(models: Path) -> Iterator[Net]:
    """Yield the nets that are there."""
    folder = models / "center_face"
    if (folder / "face_deploy.prototxt").exists():
        yield Net("center_face", folder / "face_deploy.prototxt", None)
    folder = models / "mobilefacenet"
    if (folder / "mobilefacenet.caffemodel").exists():
        yield Net("mobilefacenet", folder / "mobilefacenet_deploy.prototxt", folder / "mobilefacenet.caffemodel")
    yield Net("open_nsfw", *_rivals.open_nsfw())
    for text in sorted(models.glob("wild/*/net.prototxt")):
        weights = sorted(text.parent.glob("net.caffemodel*"))
        yield Net(text.parent.name, text, weights[0] if weights else None, SIZES.get(text.parent.name, {}))


def prepare(net: Net, folder: Path) -> dict[str, Path]:
    """Write a net's files for every runtime, and inputs of the largest batch."""
    import caffeport

    loaded = caffeport.load(net.text, net.weights, input_shapes=net.sizes)
    random = np.random.default_rng(0)
    for param in loaded.params:
        if net.weights is None and param.name == "weight" and len(param.shape) == 1:  # slopes of PReLU
            param.data = (0.25 + 0.1 * random.standard_normal(param.shape)).astype(np.float32)
    paths = {name: folder / name for name in ("ours.onnx", "prelu.onnx", "net.prototxt", "net.caffemodel", "x.npz")}
    exported = loaded.to_onnx(paths["ours.onnx"])
    loaded.to_onnx(paths["prelu.onnx"], target="openvino")
    loaded.cut(outputs=exported.outputs).save(paths["net.caffemodel"], paths["net.prototxt"])
    shapes = {name: (max(BATCHES), *loaded.blob_shapes[name][1:]) for name in exported.inputs}
    np.savez(paths["x.npz"], **{k: random.standard_normal(shape, np.float32) for k, shape in shapes.items()})
    return paths


def measure(net: Net, options: argparse.Namespace, opencv: Path, folder: Path) -> Iterator[Figure]:
    """Yield the net's figures, for each batch."""
    paths = prepare(net, folder)
    common = [str(options.threads), paths["x.npz"]]
    commands: dict[str, list[str | Path]] = {
        OURS: [sys.executable, WORKER, "onnxruntime", *common, paths["ours.onnx"]],
        PRELU: [sys.executable, WORKER, "onnxruntime", *common, paths["prelu.onnx"]],
        OPENVINO: [sys.executable, WORKER, "openvino", *common, paths["ours.onnx"]],
        OPENCV: [opencv, WORKER, "opencv", *common, paths["net.prototxt"], paths["net.caffemodel"]],
    }
    workers = {name: Worker(command) for name, command in commands.items()}
    for batch in BATCHES:
        times: dict[str, list[float]] = {name: [] for name in workers}
        problems: dict[str, str] = {}
        for number in range(options.repeats):
            for name, worker in workers.items():
                if name in problems:
                    continue
                outputs = str(folder / f"{name}.npz") if number == 0 else None
                answer = worker.ask(batch=batch, seconds=options.seconds, outputs=outputs)
                if "error" in answer:
                    problems[name] = answer["error"]
                else:
                    times[name].append(statistics.median(answer["times"]))
        medians = {name: statistics.median(values) for name, values in times.items() if values}
        differences = {
            name: _difference(folder / f"{OURS}.npz", folder / f"{name}.npz") for name in medians if name != OURS
        }
        yield Figure(net.name, batch, medians, differences, problems)
    for worker in workers.values():
        worker.end()


def _difference(ours: Path, rival: Path) -> float:
    """Return the largest difference of outputs of one name, in parts of an output's largest number."""
    with np.load(ours) as mine, np.load(rival) as theirs:
        pairs = [(mine[name], theirs[name]) for name in mine.files if name in theirs.files]
        pairs = pairs or [(mine[mine.files[0]], theirs[theirs.files[0]])]  # OpenCV calls outputs by their layers
        if any(a.size != b.size for a, b in pairs):  # detections, say, as many as each runtime finds
            return float("nan")
        return max(float(np.abs(a.reshape(-1) - b.reshape(-1)).max() / (np.abs(a).max() or 1)) for a, b in pairs)


def table(figures: list[Figure]) -> list[str]:
    """Return a line a figure: our time, and the other runtimes' as multiples of it."""
    lines = [f"{'':28}{'ours, ms':>10}{PRELU:>12}{OPENCV:>10}{OPENVINO:>10}  outputs differ by"]
    for figure in figures:
        ours = figure.times.get(OURS, float("nan"))
        cells = [f"{figure.times[n] / ours:.2f} x" if n in figure.times else "-" for n in (PRELU, OPENCV, OPENVINO)]
        apart = max((d for d in figure.differences.values() if d == d), default=float("nan"))
        words = "".join(f"; {name}: {problem[:60]}" for name, problem in figure.problems.items())
        title = f"{figure.net}, batch {figure.batch}"
        lines.append(f"{title:28}{ours:10.3f}{cells[0]:>12}{cells[1]:>10}{cells[2]:>10}  {apart:.0e}{words}")
    return lines


def claims(figures: list[Figure]) -> list[Row]:
    """Return the rows of what is claimed."""
    rows = []
    both = [figure for figure in figures if {OURS, OPENCV} <= set(figure.times)]
    for figure in both:
        if (figure.net, figure.batch) in LIMITS:
            title = f"{figure.net}, batch {figure.batch}, {OPENCV}"
            limit = LIMITS[figure.net, figure.batch]
            rows.append(Row(title, "ms", figure.times[OURS], figure.times[OPENCV], limit))
    if both:
        middle = statistics.median(figure.times[OURS] / figure.times[OPENCV] for figure in both)
        rows.append(Row(f"median of {len(both)}, {OPENCV}", "x", middle, 1.0, 1 / 1.3))
    for rival, limit in ((OPENCV, 1.0), (OPENVINO, 1.5)):
        large = [f for f in figures if {OURS, rival} <= set(f.times) and f.times[OURS] >= TINY_MS]
        if large:
            worst = max(large, key=lambda figure: figure.times[OURS] / figure.times[rival])
            title = f"the slowest beside {rival}: {worst.net}, batch {worst.batch}"
            rows.append(Row(title, "ms", worst.times[OURS], worst.times[rival], limit))
    return rows


def main() -> None:
    arguments = parser(__doc__ or "", repeats=7)
    arguments.add_argument("models", nargs="?", type=Path, default=MODELS, help="a folder like ../shared/models")
    arguments.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these nets alone")
    arguments.add_argument("--seconds", type=float, default=0.5, help="of each runtime in each round (default 0.5)")
    arguments.add_argument("--threads", type=int, default=2, help="of each runtime (default 2)")
    arguments.add_argument("--opencv-python", type=Path, metavar="PYTHON", help="a Python with OpenCV 4")
    options = arguments.parse_args()
    warnings.simplefilter("ignore")  # of texts for training and weights that nobody takes
    opencv = options.opencv_python or _rivals.environment("opencv") / "python"
    figures: list[Figure] = []
    for net in nets(options.models):
        if options.only and net.name not in options.only:
            continue
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            for figure in measure(net, options, opencv, Path(folder)):
                figures.append(figure)
                print(table([figure])[1], file=sys.stderr, flush=True)
    if not figures:
        print(f"skipped: no net to run; {options.models} is missing, or --only names none")
        return
    gains = [f.times[PRELU] / f.times[OURS] for f in figures if {OURS, PRELU} <= set(f.times)]
    notes = [f"against the file with PRelu: 1 to {ratio_text(max(gains))} times as fast", *table(figures)]
    report(f"nets, {options.threads} threads", "ONNX Runtime", "rival", claims(figures), notes, options)


if __name__ == "__main__":
    main()
