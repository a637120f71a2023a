"""A line for every iteration and every test, as CSV or JSON lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import TrainingError
from ..reading import parsing
from ..row_log import NO_LOG, RowLog, read_rows


class Log:
    """columns: of a CSV, besides iteration and phase; a row may lack some of them.

    A log that is there already, of a run that goes on from iteration ``start``, keeps its rows before that.
    """

    def __init__(self, path: Path, columns: list[str], start: int) -> None:
        rows = _before(path, start) if start and os.path.isfile(path) else []
        self._rows = RowLog(path, ["iteration", "phase", *columns], rows)

    def write(self, iteration: int, phase: str, **values: Any) -> None:
        self._rows.write({"iteration": iteration, "phase": phase, **values})

    def close(self) -> None:
        self._rows.close()


def _before(path: Path, start: int) -> list[dict[str, Any]]:
    """The rows before ``start``; a test of iteration ``start`` itself comes again."""
    rows = read_rows(path)
    with parsing(path, NO_LOG, TrainingError):
        return [row for row in rows if int(row["iteration"]) < start]
