"""A line for every iteration and every test, as CSV or JSON lines."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

from caffeport.files import replacing
from caffeport.json_text import to_json

from ..errors import TrainingError
from ..reading import parsing, read_text

SUFFIXES = (".csv", ".jsonl")


class Log:
    """columns: of a CSV, besides iteration and phase; a row may lack some of them.

    A log that is there already, of a run that goes on from iteration ``start``, keeps its rows before that.
    """

    def __init__(self, path: Path, columns: list[str], start: int) -> None:
        if path.suffix not in SUFFIXES:
            raise TrainingError(f"{path}: expected a log that ends in {' or '.join(SUFFIXES)}")
        self.path, self._columns = path, ["iteration", "phase", *columns]
        kept = self._kept(start) if start and os.path.isfile(path) else []
        with replacing(path) as stream:
            if path.suffix == ".csv":
                stream.write(self._csv(dict(zip(self._columns, self._columns, strict=True))))
            for row in kept:
                stream.write(self._line(row))
        self._stream = open(path, "ab")  # noqa: SIM115 - open as long as the run is

    def write(self, iteration: int, phase: str, **values: Any) -> None:
        self._stream.write(self._line({"iteration": iteration, "phase": phase, **values}))
        self._stream.flush()  # a run that is killed leaves its lines

    def close(self) -> None:
        self._stream.close()

    def _kept(self, start: int) -> list[dict[str, Any]]:
        """The rows before ``start``; a test of iteration ``start`` itself comes again."""
        text = read_text(self.path, error=TrainingError)
        with parsing(self.path, "is no log of a run (name another file)", TrainingError):
            if self.path.suffix == ".csv":
                rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(text)))
            else:
                rows = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
            return [row for row in rows if int(row["iteration"]) < start]

    def _line(self, row: dict[str, Any]) -> bytes:
        return self._csv(row) if self.path.suffix == ".csv" else (to_json(row, indent=None) + "\n").encode()

    def _csv(self, row: dict[str, Any]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([row.get(column, "") for column in self._columns])
        return text.getvalue().encode()
