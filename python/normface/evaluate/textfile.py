"""Protocol files of one record a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import ProtocolError
from ..reading import read_text

_DIGITS = 9


def read_lines(path: Path, separator: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each line that is not empty.

    Fields are parted by ``separator``, else by tabs where a line has them, else by blanks.
    """
    for number, line in enumerate(read_text(path, error=ProtocolError).splitlines(), 1):
        if line.strip():
            parted = line.strip().split(separator or ("\t" if "\t" in line.strip() else None))
            yield number, [field.strip() for field in parted if field.strip()]


def whole_number(field: str) -> int | None:
    """The number that a field is, None for other text and for one of more than nine digits."""
    return int(field) if len(field) <= _DIGITS and field.isascii() and field.isdecimal() else None
