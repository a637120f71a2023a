"""Run a target on many inputs, keep what it should not have done, and count."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .mutation import mutated
from .targets import Target, run

SECONDS, ADDRESSES = 10, 2 << 30
"""What one small input may take: of processor time (files of 64 kB are read in milliseconds), and of addresses."""


class HangError(BaseException):
    """One input took too long; no reader may catch it."""


@dataclass
class Outcome:
    """How often each error came ("" for none), and the findings: {where: (what was raised, the input)}."""

    executions: int = 0
    seconds: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    findings: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    reached: int | None = None  # inputs that came to new branches, where these are counted
    covered: float | None = None  # the share of its reader's lines and branches, where these are


def fuzz(target: Target, seed: int, count: int | None = None, seconds: float | None = None) -> Outcome:
    """Feed ``count`` mutated files, or as many as ``seconds`` allow; the n-th follows from the seed and n."""
    whole = target.whole()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        path = Path(folder) / "case" / f"file{target.suffix}"
        path.parent.mkdir()

        def one(number: int) -> tuple[Callable[[], str], bytes]:
            random_ = random.Random(f"{target.name} {seed} {number}")
            raw = mutated(random_.choice(whole), random_, whole)
            path.write_bytes(raw)
            return lambda: run(target, path), raw

        with silent():
            return repeat(one, count, seconds)


def repeat(
    one: Callable[[int], tuple[Callable[[], str], bytes]], count: int | None = None, seconds: float | None = None
) -> Outcome:
    """Take ``one(number)``, (what to do, its input), for 0, 1, 2 … until ``count`` or for so many ``seconds``."""
    outcome, start = Outcome(), time.perf_counter()
    with bounded_memory():
        for number in _numbers(count, seconds, start):
            act, raw = one(number)
            outcome.executions += 1
            record_finding(outcome, act, raw)
    outcome.seconds = time.perf_counter() - start
    return outcome


def record_finding(outcome: Outcome, act: Callable[[], str], raw: bytes) -> None:
    """Count what ``act`` returns, or keep its input where it raises or takes too long."""
    try:
        with time_limit():
            outcome.errors[act()] += 1
    except (Exception, HangError) as error:
        message = " ".join(str(error).split())[:200]
        outcome.findings.setdefault(_place(error), (f"{type(error).__name__}: {message}", raw))


def keep(outcome: Outcome, folder: Path, suffix: str) -> list[str]:
    """Write the findings' inputs into ``folder`` and return a line for each."""
    lines = []
    for place, (raised, raw) in outcome.findings.items():
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{hashlib.sha256(raw).hexdigest()[:10]}{suffix}"
        path.write_bytes(raw)
        lines.append(f"{path}: {raised} (at {place})")
    return lines


def _numbers(count: int | None, seconds: float | None, start: float) -> Iterator[int]:
    number = 0
    while (count is None or number < count) and (seconds is None or time.perf_counter() - start < seconds):
        yield number
        number += 1


def _place(error: BaseException) -> str:
    """Name the line of this project's that raised it, or the place that it names, so that one fault is one finding."""
    if hasattr(error, "place"):
        return str(error.place)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "caffeport/" in frame.filename or "normface/" in frame.filename] or frames
    parts = Path(own[-1].filename).parts[-3:]
    return f"{'/'.join(parts)}:{own[-1].lineno}"


@contextmanager
def silent() -> Iterator[None]:
    """Send what libraries in C write of each damaged file nowhere."""
    sys.stdout.flush()
    before, nowhere = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1), os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(before[0], 1), os.dup2(before[1], 2)
        for number in (*before, nowhere):
            os.close(number)


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise HangError(f"took more than {SECONDS} s of processor time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Allow ``ADDRESSES`` beyond what the process has; what asks for more gets a MemoryError, which is a finding."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
