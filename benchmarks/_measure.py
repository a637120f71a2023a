"""Measuring whole processes, and printing ours beside the rival's. Linux; imports only the standard library.

The processes that do the measuring stay small: Linux counts the memory that a process had when it
was forked into the peak of the program that it then becomes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


def cache() -> Path:
    """The folder for everything that is made or fetched once: $NORMFACE_CACHE, or ~/.cache/normface."""
    folder = Path(os.environ.get("NORMFACE_CACHE") or Path.home() / ".cache" / "normface").expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"{folder}: the cache cannot be made ({error}); name another folder by NORMFACE_CACHE")
    return folder


@dataclass(frozen=True)
class Process:
    """A process that has ended well: wall-clock seconds, peak resident memory in MB (10^6 bytes), what it printed."""

    seconds: float
    peak_mb: float
    output: str


def run(command: Sequence[str | Path], *, keep_pythonpath: bool = True) -> Process:
    """Run a command to its end; exits with its last words if it fails.

    keep_pythonpath: False for a rival, whose environment should see nothing of ours.
    """
    dropped = {"PYTHONDONTWRITEBYTECODE"} | (set() if keep_pythonpath else {"PYTHONPATH", "PYTHONHOME"})
    environment = {key: value for key, value in os.environ.items() if key not in dropped}
    # Every program finds its modules compiled, as installed ones are, and the source tree stays as it is.
    environment["PYTHONPYCACHEPREFIX"] = str(cache() / "pycache")
    os.sync()  # so that nobody pays for writing out the files of the run before,
    time.sleep(1)  # nor for what the disk has still to do then
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command], stdout=output, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            words = (output.read() + errors.read()).decode(errors="replace")[-2000:]
            sys.exit(f"{Path(command[0]).name} ended with {process.returncode}:\n{words}")
        return Process(seconds, usage.ru_maxrss * 1024 / 1e6, output.read().decode(errors="replace"))


def median_seconds(runs: Sequence[Process]) -> float:
    return statistics.median(one.seconds for one in runs)


def median_peak(runs: Sequence[Process]) -> float:
    return statistics.median(one.peak_mb for one in runs)


@dataclass(frozen=True)
class Row:
    """One claim: ``ours / rival`` is at most ``limit``."""

    quantity: str
    unit: str
    ours: float
    rival: float
    limit: float

    @property
    def ratio(self) -> float:
        return self.ours / self.rival


def parser(doc: str, repeats: int) -> argparse.ArgumentParser:
    """The arguments that every benchmark takes."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--repeats", type=int, default=repeats, help=f"runs of each; medians count (default {repeats})")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    return made


def report(title: str, ours: str, rival: str, rows: Sequence[Row], notes: Sequence[str], options: Any) -> None:
    """Print the table and, if asked for, write it as JSON."""
    cells: list[tuple[str, ...]] = [("", ours, rival, "ratio", "claim", "")]
    for row in rows:
        numbers = (f"{number:.4g} {row.unit}" for number in (row.ours, row.rival))
        held = "holds" if row.ratio <= row.limit else "missed"
        cells.append((row.quantity, *numbers, ratio_text(row.ratio), f"<= {ratio_text(row.limit)}", held))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"{title} ({_machine()}; medians of {options.repeats})")
    for line in cells:
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join([line[0].ljust(len(first)), *others]).rstrip())
    for note in notes:
        print(note)
    if options.json:
        figures = [asdict(row) | {"ratio": row.ratio} for row in rows]
        content = {"title": title, "ours": ours, "rival": rival, "machine": _machine(), "repeats": options.repeats}
        options.json.write_text(json.dumps(content | {"rows": figures, "notes": list(notes)}, indent=2) + "\n")


def ratio_text(ratio: float) -> str:
    """0.0667 as 1/15, 1.3 as it is."""
    return f"1/{1 / ratio:.3g}" if ratio < 1 else f"{ratio:.3g}"


def _machine() -> str:
    return f"{len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
