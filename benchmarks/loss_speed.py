"""NormalizedSoftmaxLoss, forward and backward, against pytorch-metric-learning's.

Claims: 256 features of 512 and 10,572 classes take at most 0.75 of its time; 128 features of 512 and 100,000 classes
at most 0.45 of its time and 0.6 of its peak memory (the whole process's). Both compute the same: the loss and the
gradients' norms are compared.

    python benchmarks/loss_speed.py [--repeats 5] [--json FILE]

The first call makes the rival's environment (see _rivals.py). Every repeat is a process of its own for each library
and size, in turn, two threads each; its figure is the median of several runs after one that warms up. A note gives
each repeat's own ratio, whose two processes ran one after the other.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import _rivals
from _measure import Process, Row, parser, report, run

RIVAL = "pytorch-metric-learning"
SIZES = {(256, 512, 10572): 8, (128, 512, 100000): 3}
"""(samples, features, classes) -> timed runs in each process."""
TIME_LIMITS = {10572: 0.75, 100000: 0.45}
MEMORY_LIMITS = {100000: 0.6}


def main() -> None:
    options = parser(__doc__ or "", repeats=5).parse_args()
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
        rows.append(Row(f"{title}, time", "ms", *map(statistics.median, times), TIME_LIMITS[classes]))
        if classes in MEMORY_LIMITS:
            peaks = [statistics.median(one.peak_mb for one in of_one) for of_one in processes.values()]
            rows.append(Row(f"{title}, peak memory", "MB", *peaks, MEMORY_LIMITS[classes]))
        pairs = ", ".join(f"{one / other:.2f}" for one, other in zip(*times, strict=True))
        differences = [abs(a / b - 1) for a, b in zip(ours[0]["agreed"], rival[0]["agreed"], strict=True)]
        notes.append(f"{title}: each repeat's ratio of times {pairs}; results agree within {max(differences):.0e}")
    notes.append(f"rival: {_rivals.versions(RIVAL)}")
    report("NormalizedSoftmaxLoss, forward and backward, two threads", "normface", RIVAL, rows, notes, options)


if __name__ == "__main__":
    main()
