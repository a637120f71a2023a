"""Times one of our losses: `python _losses.py NAME N D C RUNS`.

Prints, as JSON, the median milliseconds of forward and backward together, and the megabytes that the process held at
most above what it held before: the class weights' gradient is in them, the class weights are not. Where there is one,
the kernel's mark of the peak is set back before the first run.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from pathlib import Path

import torch

THREADS = 2


def held(kind: str) -> float:
    """Megabytes: VmRSS now, or VmHWM at most."""
    found = re.search(rf"{kind}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def main() -> None:
    name, *numbers = sys.argv[1:]
    samples, size, classes, runs = map(int, numbers)
    from normface import losses

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    loss = losses.make(name, classes, size)
    features = torch.randn(samples, size, requires_grad=True)
    labels = torch.randint(classes, (samples,))
    before, times = held("VmRSS"), []
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(runs + 1):
        features.grad = None
        loss.zero_grad()
        start = time.perf_counter()
        loss(features, labels).backward()
        times.append(time.perf_counter() - start)
    milliseconds = 1000 * statistics.median(times[1:])
    print(json.dumps({"milliseconds": milliseconds, "megabytes": held("VmHWM") - before}))


if __name__ == "__main__":
    main()
