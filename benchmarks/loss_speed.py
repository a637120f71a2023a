"""NormalizedSoftmaxLoss, forward and backward, against pytorch-metric-learning's; and our other losses against it.

Claims, of the first: 256 features of 512 and 10,572 classes take at most 0.75 of its time; 128 features of 512 and
100,000 classes at most 0.45 of its time and 0.6 of its peak memory (the whole process's). Both compute the same: the
loss and the gradients' norms are compared.
Claims, of the others, 64 features of 512 and 100,000 classes: at most 1.5 of NormalizedSoftmaxLoss in time and in the
memory that a step takes above what was held before it. The three centers a class of sub-center-arcface: 3.5.

    python benchmarks/loss_speed.py [--repeats 5] [--json FILE] [--rival | --loss NAME ...]

The first call makes the rival's environment (see _rivals.py). Every repeat is a process of its own for each library
and size, in turn, two threads each; its figure is the median of several runs after one that warms up. A note gives
each repeat's own ratio, whose two processes ran one after the other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import _rivals
from _measure import Process, Row, parser, report, run

RIVAL = "pytorch-metric-learning"
SIZES = {(256, 512, 10572): 8, (128, 512, 100000): 3}
"""(samples, features, classes) -> timed runs in each process."""
YARDSTICK = "normalized-softmax"
OTHERS = {
    **dict.fromkeys(("c-contrastive", "c-triplet", "l2-softmax", "large-margin-softmax", "sphereface"), 1.5),
    **dict.fromkeys(("am-softmax", "arcface", "combined-margin", "sv-x-softmax", "curricularface", "magface"), 1.5),
    **dict.fromkeys(("adaface", "sphereface2", "elasticface", "softmax"), 1.5),
    "sub-center-arcface": 3.5,
}
"""{loss: what it may take of the yardstick's time and memory}"""
OTHERS_SIZE = (64, 512, 100000)
OTHERS_RUNS = 5
TIME_LIMITS = {10572: 0.75, 100000: 0.45}
MEMORY_LIMITS = {100000: 0.6}


def against_the_rival(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    pythons = {"normface": Path(sys.executable), RIVAL: _rivals.environment(RIVAL) / "python"}
    worker = Path(__file__).with_name("_loss.py")
    rows, notes = [], []
    for (samples, size, classes), runs in SIZES.items():
        processes: dict[str, list[Process]] = {name: [] for name in pythons}
        for _ in range(options.repeats):
            for name, python in pythons.items():
                command = [python, worker, name, *map(str, (samples, size, classes, runs))]
                processes[name].append(run(command, keep_pythonpath=name != RIVAL))
        ours, rival = ([json.loads(one.output) for one in of_one] for of_one in processes.values())
        times = [[one["milliseconds"] for one in of_one] for of_one in (ours, rival)]
        title = f"({samples}, {size}) -> {classes}"
        one, other = map(statistics.median, times)
        rows.append(Row(f"{title}, time", "ms", one, other, TIME_LIMITS[classes]))
        if classes in MEMORY_LIMITS:
            one, other = (statistics.median(process.peak_mb for process in of_one) for of_one in processes.values())
            rows.append(Row(f"{title}, peak memory", "MB", one, other, MEMORY_LIMITS[classes]))
        pairs = ", ".join(f"{a / b:.2f}" for a, b in zip(*times, strict=True))
        differences = [abs(a / b - 1) for a, b in zip(ours[0]["agreed"], rival[0]["agreed"], strict=True)]
        notes.append(f"{title}: each repeat's ratio of times {pairs}; results agree within {max(differences):.0e}")
    notes.append(f"rival: {_rivals.versions(RIVAL)}")
    return rows, notes


def against_the_yardstick(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """Each repeat runs the yardstick right before each loss, so that a busy machine slows both."""
    worker = Path(__file__).with_name("_losses.py")
    rows, notes = [], []
    for name in options.loss or OTHERS:
        limit = OTHERS[name]
        figures: dict[str, list[dict[str, float]]] = {YARDSTICK: [], name: []}
        for _ in range(options.repeats):
            for one, runs in figures.items():
                numbers = map(str, (*OTHERS_SIZE, OTHERS_RUNS))
                runs.append(json.loads(run([sys.executable, worker, one, *numbers]).output))
        for quantity, unit, key in (("time", "ms", "milliseconds"), ("memory", "MB", "megabytes")):
            ours, yardstick = ([one[key] for one in figures[which]] for which in (name, YARDSTICK))
            rows.append(Row(f"{name}, {quantity}", unit, statistics.median(ours), statistics.median(yardstick), limit))
            if key == "milliseconds":
                pairs = ", ".join(f"{a / b:.2f}" for a, b in zip(ours, yardstick, strict=True))
                notes.append(f"{name}: each repeat's ratio of times {pairs}")
    return rows, notes


def main() -> None:
    arguments = parser(__doc__ or "", repeats=5)
    arguments.add_argument("--rival", action="store_true", help="the comparison with the rival alone")
    arguments.add_argument("--loss", nargs="+", choices=OTHERS, help="our losses alone, and of them these")
    options = arguments.parse_args()
    if options.json and not (options.rival or options.loss):
        arguments.error("--json holds one comparison: give --rival or --loss with it")
    if not options.loss:
        rows, notes = against_the_rival(options)
        report("NormalizedSoftmaxLoss, forward and backward, two threads", "normface", RIVAL, rows, notes, options)
    if not options.rival:
        rows, notes = against_the_yardstick(options)
        title = "losses at {} features of {}, {} classes, forward and backward, two threads".format(*OTHERS_SIZE)
        report(title, "the loss", YARDSTICK, rows, notes, options)


if __name__ == "__main__":
    main()
