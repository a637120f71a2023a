"""Class-parallel heads on the processes of one machine: memory, time, and what a step costs with the classes.

Claims: 1,000,000 classes of 512 features on four processes with fused steps take, each, at most 1.15 of a quarter of
the class weights and their momentum above the bare imports; a step takes at most 1.3 of one process's on the same
cores. A step's time and memory are a fixed part and one in proportion to the classes, from 10,000 to 1,000,000 of
them: such a line is within 25 % of every time and 10 % of every memory. 10,000,000 classes of 256 features run in
bfloat16, sampled at 0.1, in 23 GB.

    python benchmarks/class_parallel.py [PART ...] [--classes N] [--steps 5] [--repeats 3] [--json FILE]

Parts: memory, time, linear, huge.

Every repeat is a run of its own. A process has as many threads as there are cores for it, one at least.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

PARTS = ("memory", "time", "linear", "huge")
LINEAR = (10_000, 30_000, 100_000, 300_000, 1_000_000)
HEAD: dict[str, Any] = {
    "loss": "normalized-softmax", "samples": 64, "features": 512, "dtype": "float32", "rate": 1.0, "fused": True,
}  # fmt: skip
WORKER = Path(__file__).with_name("_class_parallel.py")


def run(ranks: int, steps: int, **head: Any) -> list[dict[str, Any]]:
    """What each rank says; the program ends with the words of one that fails."""
    cores = len(os.sched_getaffinity(0))
    threads = max(1, cores // ranks)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as folder:
        words = [str(ranks), f"{folder}/store", str(threads), str(steps), json.dumps(HEAD | head)]
        commands = [[sys.executable, str(WORKER), str(rank), *words] for rank in range(ranks)]
        started = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for command in commands
        ]
        said = [process.communicate() for process in started]
    for process, (_, errors) in zip(started, said, strict=True):
        if process.returncode:
            sys.exit(f"a rank ended with {process.returncode}: {errors[-2000:]}")
    return [json.loads(output) for output, _ in said]


def step(results: list[dict[str, Any]]) -> float:
    """The median step of the slowest rank, in seconds."""
    return max(statistics.median(one["seconds"]) for one in results)


def memory(options: argparse.Namespace) -> dict[str, Any]:
    results = run(4, 2, classes=options.classes)
    most = max(one["above"] for one in results)
    share = 2 * results[0]["weights"] / 4
    quarter = {"MB of a quarter of weights and momentum": share / 1e6}
    return {"MB": most / 1e6, **quarter, "ratio": most / share, "limit": 1.15}


def time(options: argparse.Namespace) -> dict[str, Any]:
    ratios, four, one = [], [], []
    for _ in range(options.repeats):
        four.append(step(run(4, options.steps, classes=options.classes)))
        one.append(step(run(1, options.steps, classes=options.classes)))
        ratios.append(four[-1] / one[-1])
    return {"seconds of four": four, "seconds of one": one, "ratio": statistics.median(ratios), "limit": 1.3}


def linear(options: argparse.Namespace) -> dict[str, Any]:
    """A line ``fixed + each * classes`` through time and memory, by least squares of the shares that it is off by."""
    rows = []
    for classes in LINEAR:
        if classes <= options.classes:
            results = run(4, options.steps, classes=classes)
            rows.append((classes, step(results), max(one["above"] for one in results)))
    table = [{"classes": classes, "seconds": seconds, "MB": above / 1e6} for classes, seconds, above in rows]
    fits = {name: line([row[0] for row in rows], [row[name] for row in table]) for name in ("seconds", "MB")}
    return {"steps": table, "lines": fits, "limits": {"seconds": 0.25, "MB": 0.1}}


def line(classes: list[int], costs: list[float]) -> dict[str, float]:
    """The line nearest to the costs, and the largest share of a cost that it is off by."""
    shares = np.stack([np.ones(len(costs)), np.array(classes, float)], axis=1) / np.array(costs)[:, None]
    fixed, each = np.linalg.lstsq(shares, np.ones(len(costs)), rcond=None)[0].tolist()
    return {
        "fixed": fixed,
        "each million": each * 1e6,
        "off by at most": float(np.abs(shares @ [fixed, each] - 1).max()),
    }


def huge(options: argparse.Namespace) -> dict[str, Any]:
    results = run(4, 2, classes=10 * options.classes, features=256, dtype="bfloat16", rate=0.1)
    above = sum(one["above"] for one in results)
    return {"seconds": step(results), "GB of all four": above / 1e9, "GB of the weights": results[0]["weights"] / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--classes", type=int, default=1_000_000, help="ten times as many in huge (default 1000000)")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    figures = {}
    for part in options.parts or PARTS:
        figures[part] = {"memory": memory, "time": time, "linear": linear, "huge": huge}[part](options)
        print(part, json.dumps(figures[part]), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
