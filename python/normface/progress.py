"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere. Both go to standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PLAIN_EVERY = 10.0  # seconds between two plain lines
_quiet = False


def silence(quiet: bool) -> None:
    """Show no progress from now on, or show it again."""
    global _quiet
    _quiet = quiet


class Progress:
    """Counts steps of ``total`` (None: unknown); ``advance`` moves it, with a few words on where it stands."""

    def __init__(self, title: str, total: int | None, start: int, bar: Any, task: Any) -> None:
        self.title, self.total, self.done, self._start = title, total, start, start
        self._bar, self._task = bar, task
        self._started = self._told = time.monotonic()

    def advance(self, steps: int = 1, words: str = "") -> None:
        self.done += steps
        if self._bar is not None:
            self._bar.update(self._task, advance=steps, words=words)
            return
        now = time.monotonic()
        if _quiet:
            return
        if now - self._told >= PLAIN_EVERY or self.done == self.total:
            self._told = now
            of = f" of {self.total}" if self.total is not None else ""
            rate = (self.done - self._start) / max(now - self._started, 1e-9)
            print(f"{self.title}: {self.done}{of}, {rate:.3g}/s {words}".rstrip(), file=sys.stderr, flush=True)


@contextmanager
def progress(title: str, total: int | None, start: int = 0) -> Iterator[Progress]:
    """``with progress("features", 100) as bar: bar.advance()``. ``start``: steps that an earlier run has done."""
    if _quiet or not sys.stderr.isatty():
        yield Progress(title, total, start, None, None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
    ]
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, completed=start, words="")
        yield Progress(title, total, start, bar, task)
