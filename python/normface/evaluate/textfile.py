"""Protocol files of one record a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import ProtocolError


def read_lines(path: Path, separator: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each line that is not empty.

    Fields are parted by ``separator``, else by tabs where a line has them, else by blanks.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ProtocolError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ProtocolError(f"{path}: is no text file: byte {error.start} is not UTF-8") from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            parted = line.strip().split(separator or ("\t" if "\t" in line.strip() else None))
            yield number, [field.strip() for field in parted if field.strip()]
