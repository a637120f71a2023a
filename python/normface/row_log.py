"""Rows of figures that a run writes as it goes, a line each: CSV or JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from caffeport.files import replacing
from caffeport.json_text import to_json

from .errors import TrainingError
from .reading import parsing, read_text

CSV = ".csv"
SUFFIXES = (CSV, ".jsonl")
NO_LOG = "is no log of a run (name another file)"


class RowLog:
    """A file of rows, in the form that its suffix says.

    columns: of a CSV, in their order; a row may lack some, whose cells stay empty, and has no others. Numbers are
        written so that reading gives them back exactly.
    rows: of an earlier part of the run; the file is written anew with them, and left as it was where that fails.

    Raises TrainingError, which names the file, where it cannot be written or its suffix is unknown.
    """

    def __init__(self, path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]] = ()) -> None:
        if path.suffix not in SUFFIXES:
            raise TrainingError(f"{path}: expected a log that ends in {' or '.join(SUFFIXES)}")
        self.path, self._columns = path, list(columns)
        with replacing(path) as stream:
            if path.suffix == CSV:
                stream.write(self._line(dict(zip(columns, columns, strict=True))))
            stream.writelines(map(self._line, rows))
        try:
            self._stream = open(path, "ab", buffering=0)  # noqa: SIM115 - open as long as the run is
        except OSError as error:
            raise TrainingError(f"{path}: cannot be written: {error.strerror or error}") from error

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; a run that is killed then leaves it."""
        rest = self._line(row)
        try:
            while rest:  # a disk that fills up takes a part of it first
                rest = rest[self._stream.write(rest) :]
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        self._stream.close()

    def _line(self, row: Mapping[str, Any]) -> bytes:
        if self.path.suffix != CSV:
            return (to_json(row, indent=None) + "\n").encode()
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([row.get(column, "") for column in self._columns])
        return text.getvalue().encode()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a log; a CSV's cells as text. A last line that a kill has cut short is passed over.

    Raises TrainingError, which names the file, where it is no log.
    """
    text = read_text(path, error=TrainingError)
    with parsing(path, NO_LOG, TrainingError):
        if path.suffix == CSV:
            return list(csv.DictReader(io.StringIO(text)))
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]
