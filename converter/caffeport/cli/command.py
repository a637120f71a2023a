"""The parts that every command line of this distribution shares: exit codes, one-line errors, tables."""

from __future__ import annotations

import argparse
import io
import os
import re
import shlex
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Literal

from ..errors import CaffeportError, CaffeportWarning, WeightsWarning, one_line

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
LONGEST_CELL = 1000  # characters of a table


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
        return options.run(options)
    try:
        return options.run(options)
    except CaffeportError as error:
        complain(program, str(error))
    except MemoryError:
        complain(program, "not enough memory for this")
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


def print_table(headings: Sequence[str], lines: Sequence[tuple[str, ...]], whole: set[str]) -> None:
    """Columns in ``whole`` (numbers, verdicts) are never cut; names give way on a narrow terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = [tuple(one_line(cell, LONGEST_CELL) for cell in line) for line in lines]
    widths = [max(len(cell) for cell in column) for column in zip(headings, *lines, strict=True)]
    console = Console(width=None if sys.stdout.isatty() else sum(widths) + 2 * len(widths))
    # Off a terminal a line is as long as it has to be, so that other programs find one row a line.
    excess = sum(widths) + 2 * (len(widths) - 1) - console.width
    while excess > 0:
        names = [i for i, heading in enumerate(headings) if heading not in whole and widths[i] > 8]
        if not names:  # rather wrapped by the terminal than cut
            console = Console(width=sum(widths) + 2 * len(widths))
            break
        widths[max(names, key=lambda i: widths[i])] -= 1
        excess -= 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, width in zip(headings, widths, strict=True):
        justify: Literal["left", "right"] = "right" if heading in whole and heading else "left"
        table.add_column(heading, justify=justify, no_wrap=True, overflow="ellipsis", width=width)
    for line in lines:
        style = "red" if line[0] == "DIFFERS" else ""
        table.add_row(*(Text(cell, style=style) for cell in line))
    console.print(table)
