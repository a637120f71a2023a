"""The formula of ``normface plan`` against the memory that a head is measured to take, in one process on the CPU.

Each size is a process of its own: after the imports and a small step the kernel's peak is set back, then the head is
made and steps are taken, forward, backward and SGD with momentum in place. What the peak lies above that start is
compared with what the formula says without the backbone; within a tenth is the claim.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from _measure import run

SIZES = ((100_000, 512, 64), (300_000, 512, 64), (1_000_000, 512, 64), (1_000_000, 128, 256))
"""(C, D, N)"""
CLAIM = 0.1
STEPS = 2


def worker(classes: int, size: int, samples: int) -> None:
    """Print the bytes of the peak above the start."""
    import torch
    from normface.losses import NormalizedSoftmaxLoss

    torch.set_num_threads(1)

    def steps(classes: int) -> None:
        loss = NormalizedSoftmaxLoss(classes, size, scale=16.0)
        optimizer = torch.optim.SGD(loss.parameters(), lr=1e-3, momentum=0.9)
        for step in range(STEPS):
            generator = torch.Generator().manual_seed(step)
            x = torch.randn(samples, size, generator=generator, requires_grad=True)
            labels = torch.randint(classes, (samples,), generator=generator)
            loss(x, labels).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    steps(64)
    Path("/proc/self/clear_refs").write_text("5")
    start = _peak()
    steps(classes)
    print(json.dumps(_peak() - start))


def _peak() -> int:
    """Bytes, by Linux's own account."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--classes", type=int, help="sizes up to so many classes alone")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    arguments.add_argument("--worker", type=int, nargs=3, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.worker:
        worker(*options.worker)
        return
    from normface.scaling import Setup, plan

    figures = []
    print(f"{'classes':>10}{'D':>6}{'N':>6}{'formula MB':>12}{'measured MB':>13}{'measured / formula':>20}")
    for classes, size, samples in SIZES:
        if options.classes and classes > options.classes:
            continue
        expected = plan(Setup(classes=classes, embedding=size, batch=samples)).total
        numbers = map(str, (classes, size, samples))
        measured = json.loads(run([sys.executable, __file__, "--worker", *numbers]).output)
        ratio = measured / expected
        figures.append({"classes": classes, "embedding": size, "batch": samples, "formula": expected, "peak": measured})
        held = "holds" if abs(ratio - 1) <= CLAIM else "missed"
        print(f"{classes:>10}{size:>6}{samples:>6}{expected / 1e6:>12.1f}{measured / 1e6:>13.1f}{ratio:>20.3f}  {held}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
