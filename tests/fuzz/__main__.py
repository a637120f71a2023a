"""Fuzz the readers and the layers for a time, and print a table of what came of it.

    PYTHONPATH=python:converter:tests:. python -m fuzz
        [TARGET ...] [--seconds 60] [--seed 0] [--coverage | --lines] [--out F] [--json]

``make fuzz SECONDS=600`` does so. TARGET: a reader (see --list), ``layers``: nets of a grammar, torch against ONNX
Runtime, or ``caffe`` and ``caffe-ssd``: such nets against real Caffe and its SSD fork, forward and backward, where
``make caffe`` has built them; all of them by default, each for an equal part of the time. In the table, "taken" are the
inputs that were read without an error. The input of each finding is kept under --out, and the exit code is 1 where
there is one.

--coverage lets atheris choose the inputs by the branches that they reach (``pip install atheris``), each target in a
process of its own; "reached" are the inputs that came to a branch that none before had. --lines counts the lines and
branches of the readers' own modules that were reached ("covered", by coverage.py; the modules: covered.py).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from caffeport.table import Table, text_table
from support import caffe_trees

from .against_caffe import fuzz_against_caffe
from .layers import fuzz_layers
from .runner import Outcome, fuzz, keep
from .targets import targets

LAYERS, CAFFES = "layers", {"caffe": "bvlc", "caffe-ssd": "ssd"}


def main() -> int:
    """Run the chosen targets; return 1 where there is a finding."""
    known = targets()
    parser = argparse.ArgumentParser(prog="fuzz", description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="a reader, or layers (default: all)")
    parser.add_argument("--list", action="store_true", help="print the targets")
    parser.add_argument("--seconds", type=float, default=60, help="for all of them together (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other inputs (default 0)")
    parser.add_argument("--coverage", action="store_true", help="let atheris choose inputs by the branches they reach")
    parser.add_argument("--lines", action="store_true", help="count what of the readers' modules is reached")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="where findings go (default out/fuzz)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    if options.coverage and options.lines:
        parser.error("--coverage and --lines exclude each other")
    trees = {name: caffe_trees.ready(tree) for name, tree in CAFFES.items()}
    names = [LAYERS, *(name for name, tree in trees.items() if tree is not None), *known]
    if options.list:
        print("\n".join(names))
        return 0
    if unknown := [name for name in options.targets if name not in names]:
        parser.error(f"unknown target {unknown[0]!r}; known are {', '.join(names)}")
    chosen = options.targets or names
    outcomes, kept = {}, []
    for name in chosen:
        seconds = options.seconds / len(chosen)
        if name == LAYERS:
            outcome, suffix = fuzz_layers(options.seed, seconds=seconds), ".prototxt"
        elif (tree := trees.get(name)) is not None:
            outcome, suffix = fuzz_against_caffe(tree, options.seed, seconds=seconds), ".prototxt"
        else:
            suffix = known[name].suffix
            if options.coverage or options.lines:
                outcome = apart("guided" if options.coverage else "covered", name, options.seed, seconds)
            else:
                outcome = fuzz(known[name], options.seed, seconds=seconds)
        outcomes[name] = outcome
        kept += keep(outcome, options.out / name, suffix)
    if options.json:
        print(json.dumps({"targets": {name: row(outcome) for name, outcome in outcomes.items()}, "findings": kept}))
    else:
        print(text_table(table(outcomes)))
        print("\n".join(kept) or "no findings")
    return 1 if kept else 0


def row(outcome: Outcome) -> dict[str, Any]:
    """Return what JSON has of a target."""
    content = {"executions": outcome.executions, "seconds": outcome.seconds, "reached": outcome.reached}
    content |= {"covered": outcome.covered}
    return content | {"errors": dict(outcome.errors), "findings": len(outcome.findings)}


def apart(how: str, name: str, seed: int, seconds: float) -> Outcome:
    """Fuzz one reader in a process that counts branches while it loads the packages: "guided" or "covered"."""
    command = [sys.executable, "-m", f"fuzz.{how}", name, str(seed), str(max(int(seconds), 1))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds * 3 + 120)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        sys.exit(f"{name}: fuzz.{how} did not run:\n{done.stderr[-1000:]}")
    report = json.loads(lines[-1])
    findings = {where: (raised, bytes.fromhex(raw)) for where, (raised, raw) in report["findings"].items()}
    counts = report.get("reached"), report.get("covered")
    return Outcome(report["executions"], report["seconds"], Counter(report["errors"]), findings, *counts)


def table(outcomes: dict[str, Outcome]) -> Table:
    """Return the table of all targets."""
    rows = []
    for name, outcome in outcomes.items():
        read, rate = outcome.errors[""], outcome.executions / max(outcome.seconds, 1e-9) * 3600
        reached = "" if outcome.reached is None else f"{outcome.reached:,}"
        covered = "" if outcome.covered is None else f"{outcome.covered:.0%}"
        found = str(len(outcome.findings))
        rows.append([name, f"{outcome.executions:,}", f"{rate:,.0f}", f"{read:,}", reached, covered, found])
    total = sum(outcome.executions for outcome in outcomes.values())
    found = str(sum(len(outcome.findings) for outcome in outcomes.values()))
    rows.append(["all", f"{total:,}", "", "", "", "", found])
    return Table(["target", "inputs", "an hour", "taken", "reached", "covered", "findings"], rows)


if __name__ == "__main__":
    sys.exit(main())
