"""The demo's finetuning with several losses and seeds: how well unseen digits are told apart, as a table.

    python examples/digits/before_after.py [--seeds N]

"softmax" is the control: as many more iterations of what the model was trained with.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from pathlib import Path

import caffeport
import demo
import digits
import normface.cli.main
import torch
import verifying
from caffeport.cli.command import print_table
from caffeport.table import Table

LOSSES = ("softmax", "normalized-softmax", "am-softmax", "c-contrastive", "c-triplet")
FIGURES = ("true accepts at FAR 1 %", "equal error rate", "area under the ROC")
OUT = demo.OUT / "seeds"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)  # the net is too small for more
    OUT.mkdir(parents=True, exist_ok=True)
    digits.write_images(demo.OUT / "data")
    before = OUT / "before.onnx"
    caffeport.load(demo.NET, demo.WEIGHTS).to_onnx(before)
    rows = [("before", *summary([figures(before)]))]
    for loss in LOSSES:
        rows.append((loss, *summary([figures(finetuned(loss, seed)) for seed in range(seeds)])))
        print(f"{loss}: {seeds} runs", file=sys.stderr, flush=True)
    print_table(Table(("finetuned with", *FIGURES), rows, set(FIGURES)))


def finetuned(loss: str, seed: int) -> Path:
    """The ONNX file of a run."""
    out = OUT / f"{loss}_{seed}"
    arguments = [
        "finetune",
        *demo.finetuning(loss, seed),
        "--out",
        out,
        "--overwrite",
        "--no-figure",
        "--no-tensorboard",
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        code = normface.cli.main.main([str(argument) for argument in arguments])
    if code:
        sys.exit(code)
    return out / "model.onnx"


def figures(onnx: Path) -> tuple[float, float, float]:
    result = verifying.verify(onnx)
    return result.tar[verifying.FAR], result.eer, result.auc


def summary(runs: list[tuple[float, float, float]]) -> list[str]:
    """The mean of every figure, and its range over the runs."""

    def text(values: tuple[float, ...]) -> str:
        mean = f"{sum(values) / len(values):.3f}"
        return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"

    return [text(values) for values in zip(*runs, strict=True)]


if __name__ == "__main__":
    main()
