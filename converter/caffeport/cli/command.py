"""The parts that every command line of this distribution shares: exit codes, one-line errors, tables."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from ..errors import CaffeportError, CaffeportWarning, WeightsWarning, one_line
from ..table import Table, text_table

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


_ENDINGS = {"SIGTERM": "terminated", "SIGHUP": "the terminal is gone"}


class EndedError(KeyboardInterrupt):
    """A signal asks the process to end: it cleans up as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.words, self.code = _ENDINGS[signal.Signals(number).name], 128 + number


@contextlib.contextmanager
def ending_by_signals() -> Iterator[None]:
    """Within it TERM and HUP raise EndedError, as Ctrl-C raises KeyboardInterrupt, where they would end the process.

    What ignores them (nohup) goes on doing so. Python allows handlers in its main thread only.
    """

    def end(number: int, frame: Any) -> None:
        raise EndedError(number)

    numbers = [getattr(signal, name) for name in _ENDINGS if hasattr(signal, name)]
    main_thread = threading.current_thread() is threading.main_thread()
    taken = [number for number in numbers if main_thread and signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def run(program: str, options: argparse.Namespace) -> int:
    """Call ``options.run(options)``; errors become one line that starts with the program's name, and exit code 2.

    With ``options.debug`` the traceback is shown instead. ``options.notes`` holds what warnings have said so far.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal's encoding lacks is no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    options.notes = []
    warnings.showwarning = _notes(program, options.notes, quiet=getattr(options, "quiet", False))
    for category in (CaffeportWarning, WeightsWarning):
        warnings.simplefilter("always", category)
    if options.debug:
        with ending_by_signals():
            return options.run(options)
    try:
        with ending_by_signals():
            return options.run(options)
    except CaffeportError as error:
        complain(program, str(error))
    except MemoryError:
        complain(program, "not enough memory for this")
    except EndedError as ended:
        complain(program, ended.words)
        return ended.code
    except KeyboardInterrupt:
        complain(program, "interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        complain(program, f"unexpected {type(error).__name__}: {error}; --debug shows where")
    return BAD_INPUT


def as_options(text: str) -> str:
    """A message's hints at Python's ``outputs=["a"]`` as the option that the command line has in its place."""

    def option(match: re.Match[str]) -> str:
        names = re.findall(r'"([^"]*)"', match[1]) or ["BLOB"]
        return " ".join(f"--output {name if name == 'BLOB' else shlex.quote(name)}" for name in names)

    return re.sub(r"outputs=\[([^\]]*)\]", option, text)


def complain(program: str, problem: str) -> None:
    line = as_options(" ".join(problem.split()))
    # A file's names may hold escape sequences, which a terminal would obey.
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)
    print(f"{program}: error: {shown}", file=sys.stderr)


def _notes(program: str, notes: list[str], quiet: bool) -> Any:
    def show(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, (CaffeportWarning, WeightsWarning)):
            notes.append(one_line(as_options(str(message)), 3000))
            if not quiet:
                print(f"{program}: note: {notes[-1]}", file=sys.stderr)

    return show


def tell(options: argparse.Namespace, text: str) -> None:
    """Print a line that ``--quiet`` leaves out: what was done, rather than what was asked for."""
    if not options.quiet:
        print(text)


def remark(program: str, options: argparse.Namespace, text: str) -> None:
    """Print a note on standard error, where no program that reads the answer meets it; ``--quiet`` leaves it out."""
    if not options.quiet:
        print(f"{program}: note: {text}", file=sys.stderr)


@contextlib.contextmanager
def busy(options: argparse.Namespace, what: str) -> Iterator[None]:
    """Show on a terminal that the work goes on, and for how long; elsewhere, and with ``--quiet``, nothing."""
    if options.quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(what)
        yield


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal, or, off a terminal, as wide as it has to be; see text_table."""
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else None
    print(text_table(table, width, color=terminal), end="")
