"""What runs on a GPU, on yours: the losses' tests, a solver, features and finetuning, against the CPU's numbers.

    make gpu-check
    python benchmarks/gpu_check.py [--device cuda] [--out gpu_check.md]

Prints a table for docs/results.md, and exits with 1 where something differs or fails. It takes less than ten minutes,
most of it starting Python; each step has a limit of its own. Without a GPU it says so in one line. ``--device cpu``
compares the CPU with itself, which tries the script and says nothing of a GPU. Data are the 1,797 digits of examples/.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from caffeport.files import replacing

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "examples/digits"
NET, WEIGHTS = DIGITS / "deploy.prototxt", DIGITS / "digits_center.caffemodel"
LIMIT_S = 240
"""Of one step; the slowest on an idle machine takes a quarter of it."""
FEATURES_APART, WEIGHTS_APART = 1e-4, 2e-3
"""Cosine distance of features of both devices; of weights after 20 iterations, relative to the largest: float32 in
another order, and TF32 stays off."""
HALF_APART = 0.05
"""How far the last loss may lie from that of 32 bits, relative to it: bfloat16 has 8 bits of mantissa."""


@dataclass(frozen=True)
class Row:
    """A step: seconds is None where it did not run. sound: False is a difference or a failure, None was left out."""

    step: str
    seconds: float | None
    result: str
    sound: bool | None


class StepError(Exception):
    """A command that failed; its last line says why."""


def command(*words: str | Path, folder: Path | None = None) -> str:
    """Run ``python -m …`` and return what it printed. Raises StepError with its last line, or that it took too long."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "-m", *map(str, words)]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=LIMIT_S, env=environment, cwd=folder)
    except subprocess.TimeoutExpired:
        raise StepError(f"{words[0]} {words[1]} takes more than {LIMIT_S} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise StepError(said[-1] if said else f"{words[0]} ended with {done.returncode}")
    return done.stdout


def losses(device: str, folder: Path) -> tuple[str, bool | None]:
    said = command("pytest", "--no-header", ROOT / "tests/normface/test_losses_cuda.py", folder=ROOT)
    summary = said.strip().splitlines()[-1].strip("= ")
    return (summary, True) if "passed" in summary else ("left out: they need a GPU", None)


def train(device: str, folder: Path) -> tuple[str, bool | None]:
    """A Caffe solver with solver_mode GPU, 20 iterations on either device; the weights are compared."""
    import caffeport

    blobs = []
    for name, where in (("cpu", "cpu"), ("other", device)):
        solver = folder / f"{name}.prototxt"
        solver.write_text(
            f'net: "{folder}/train.prototxt" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 max_iter: 20 '
            f'random_seed: 3 solver_mode: GPU snapshot_prefix: "{folder}/{name}"\n'
        )
        command("normface", "train", "--solver", solver, "--device", where)
        with warnings.catch_warnings():  # the loss's weights, which the deploy net has no layers for
            warnings.simplefilter("ignore", caffeport.CaffeportWarning)
            net = caffeport.load(NET, folder / f"{name}_iter_20.caffemodel")
        blobs.append([param.data for param in net.params])
    apart = max(np.abs(one - other).max() / np.abs(one).max() for one, other in zip(*blobs, strict=True))
    return f"weights of 20 iterations {apart:.1e} apart from the CPU's", bool(apart < WEIGHTS_APART)


def extract(device: str, folder: Path) -> tuple[str, bool | None]:
    features = []
    for name, where in (("cpu", "cpu"), ("other", device)):
        path = folder / f"{name}.npz"
        command(
            "normface", "extract", NET, WEIGHTS, "--data", folder / "data", "--mean", "120", "--scale", str(1 / 120),
            "--device", where, "--out", path,
        )  # fmt: skip
        with np.load(path) as stored:
            features.append(stored["features"].astype(np.float64))
    one, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in features)
    apart = float(np.max(1 - np.einsum("nd,nd->n", one, other)))
    return f"{len(one):,} features, cosine distance to the CPU's at most {apart:.1e}", apart < FEATURES_APART


def finetune(precision: str) -> Callable[[str, Path], tuple[str, bool | None]]:
    def step(device: str, folder: Path) -> tuple[str, bool | None]:
        if precision == "16-mixed" and device == "cpu":
            return "left out: 16-mixed needs a GPU", None
        lasts = {}
        for bits in dict.fromkeys(("32", precision)):
            out = folder / f"tuned-{bits}"
            command(
                "normface", "finetune", NET, WEIGHTS, "--embedding", "fc5", "--data", folder / "data/train.txt",
                "--root", folder / "data", "--mean", "120", "--scale", str(1 / 120), "--loss", "normalized-softmax",
                "--lr", "0.03", "--epochs", "4", "--no-mirror", "--val-share", "0", "--seed", "1", "--precision", bits,
                "--device", device, "--out", out, "--overwrite",
            )  # fmt: skip
            lasts[bits] = last_loss(out)
        first, last = lasts[precision][0], lasts[precision][1]
        apart = abs(last - lasts["32"][1]) / lasts["32"][1]
        said = f"loss {first:.3f} to {last:.3f}" + (f", {apart:.1%} from 32 bits" if precision != "32" else "")
        return said, bool(last < first and apart < HALF_APART)

    return step


def last_loss(folder: Path) -> tuple[float, float]:
    """(first, last) of the losses that a run logged, each the mean of a tenth of them."""
    if not (folder / "metrics.csv").is_file():
        raise StepError(f"{folder / 'metrics.csv'}: is not there")
    with open(folder / "metrics.csv", encoding="utf-8") as stream:
        values = [float(row["loss"]) for row in csv.DictReader(stream) if row.get("loss")]
    if not values or not np.isfinite(values).all():
        raise StepError(f"{folder / 'metrics.csv'}: has no losses, or one that is no number")
    part = max(1, len(values) // 10)
    return float(np.mean(values[:part])), float(np.mean(values[-part:]))


STEPS: dict[str, Callable[[str, Path], tuple[str, bool | None]]] = {
    "the losses' CUDA tests": losses,
    "normface train, a Caffe solver": train,
    "normface extract": extract,
    "normface finetune, 32 bits": finetune("32"),
    "normface finetune, bf16-mixed": finetune("bf16-mixed"),
    "normface finetune, 16-mixed": finetune("16-mixed"),
}


def prepare(folder: Path) -> None:
    """Digits as images with their lists, and a train net that reads them."""
    spec = importlib.util.spec_from_file_location("digits", DIGITS / "digits.py")
    assert spec is not None and spec.loader is not None
    digits: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(digits)
    digits.write_images(folder / "data")
    text = (DIGITS / "train.prototxt").read_text(encoding="utf-8")
    layers = text.index("layer {", text.index("layer {", text.index("layer {") + 1) + 1)  # after the two inputs
    data = (
        'layer { name: "data" type: "ImageData" top: "data" top: "label" '
        "transform_param { mean_value: 120 scale: 0.0083333333 } "
        f'image_data_param {{ source: "{folder}/data/train.txt" root_folder: "{folder}/data/" batch_size: 64 '
        "is_color: false shuffle: true } }\n"
    )
    (folder / "train.prototxt").write_text('name: "digits"\n' + data + text[layers:], encoding="utf-8")


def run(device: str, steps: dict[str, Callable[[str, Path], tuple[str, bool | None]]]) -> list[Row]:
    """Every step; one that fails is told and the others run all the same."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as name:
        folder = Path(name)
        prepare(folder)
        for step, function in steps.items():
            started = time.monotonic()
            try:
                result, sound = function(device, folder)
            except StepError as error:
                result, sound = f"failed: {error}", False
            seconds = None if sound is None else time.monotonic() - started
            rows.append(Row(step, seconds, result, sound))
            print(f"gpu-check: {step}: {result}", file=sys.stderr, flush=True)
    return rows


def table(rows: list[Row], title: str) -> str:
    """Markdown."""
    lines = [f"| on {title} | time | result |", "|---|---|---|"]
    for row in rows:
        taken = "" if row.seconds is None else f"{row.seconds:.0f} s"
        lines.append(f"| {row.step} | {taken} | {row.result} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gpu_check", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu only tries the script")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the table there")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON in place of the table")
    options = parser.parse_args(arguments)
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        how = "torch sees no CUDA device" if torch.version.cuda else "this torch is built for the CPU alone"
        print(f"gpu_check: there is no GPU to check: {how} (--device cpu only tries the script)", file=sys.stderr)
        return 2
    title = torch.cuda.get_device_name() if options.device == "cuda" else "the CPU, which says nothing of a GPU"
    rows = run(options.device, STEPS)
    text = table(rows, f"{title}, PyTorch {torch.__version__}")
    print(json.dumps([vars(row) for row in rows]) if options.json else text, end="")
    if options.out is not None:
        with replacing(options.out) as stream:
            stream.write(text.encode())
    return 1 if any(row.sound is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
