"""A line for every iteration and every test, as CSV or JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import TrainingError
from ..row_log import RowLog, read_rows


class Log:
    """columns: of a CSV, besides iteration and phase; a row may lack some of them.

    A log that is there already, of a run that goes on from iteration ``start``, keeps its rows before that.
    """

    def __init__(self, path: Path, columns: list[str], start: int) -> None:
        rows = _before(path, start) if start and path.is_file() else []
        self._rows = RowLog(path, ["iteration", "phase", *columns], rows)

    def write(self, iteration: int, phase: str, **values: Any) -> None:
        self._rows.write({"iteration": iteration, "phase": phase, **values})

    def close(self) -> None:
        self._rows.close()


def _before(path: Path, start: int) -> list[dict[str, Any]]:
    """The rows before ``start``; a test of iteration ``start`` itself comes again."""
    try:
        return [row for row in read_rows(path) if int(row["iteration"]) < start]
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: is no log of a run ({error}); name another file") from error
