"""Reading the user's files: whole or their start, with errors that name them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import DataError

MAX_PICTURE = 256 << 20
"""Bytes of an encoded picture; a file that is larger, or declares more, is refused unread."""


def read_file(path: str | Path, most: int | None = None, start: int | None = None) -> bytes:
    """A file's bytes, or its first ``start``. Raises DataError, naming it, if it is no file or larger than ``most``."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise DataError(f"{path}: is a folder; expected a file")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait, and reading a device never end
            raise DataError(f"{path}: is a device or pipe; expected a file")
        if most is not None and status.st_size > most:
            raise DataError(f"{path}: has {status.st_size} bytes; at most {most} are read of a picture")
        with open(path, "rb") as stream:
            return stream.read() if start is None else stream.read(start)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def read_at(path: Path, position: int, size: int, title: str) -> bytes:
    """``size`` bytes from ``position``, with a handle of its own: threads and forks share no position."""
    try:
        with open(path, "rb") as stream:
            stream.seek(position)
            raw = stream.read(size)
    except OSError as error:
        raise DataError(f"{title}: {error.strerror or error}") from error
    if len(raw) != size:
        raise DataError(f"{title}: is cut short; {path.name} has changed since it was opened")
    return raw
