"""Reading the user's files: whole or their start, with errors that name them."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError

MAX_PICTURE = 256 << 20
"""Bytes of an encoded image; a file that is larger, or declares more, is refused unread."""


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


class MappedFile:
    """A file's bytes, which every process maps into memory once, when it first reads them.

    A mapping has no position, so that threads share it, and forked processes their parent's; a pickled copy maps the
    file anew where it arrives. Raises DataError that names the file where it is missing or empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: mmap.mmap | None = None
        self._array: np.ndarray | None = None

    @property
    def array(self) -> np.ndarray:
        """All bytes, uint8 (N,), of the file as it was when it was mapped; reading them needs no copy."""
        if self._array is None:
            try:
                with open(self.path, "rb") as stream:
                    self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:  # ValueError: it is empty
                raise DataError(f"{self.path}: {getattr(error, 'strerror', None) or error}") from error
            self._array = np.frombuffer(self._map, np.uint8)
        return self._array

    @property
    def size(self) -> int:
        """The length of the file in bytes, without mapping it."""
        try:
            return os.stat(self.path).st_size
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror or error}") from error

    def read(self, position: int, size: int, title: str) -> bytes:
        """Return ``size`` bytes from ``position``. Raises DataError, which names ``title``, where the file ends before.

        Touching a page that a truncated file no longer has would end the process, hence the look at its size. NumPy
        copies without Python's lock, so that other threads run while pages come from the disk.
        """
        array = self.array
        assert self._map is not None
        end = min(self._map.size(), len(array))
        if position < 0 or position + size > end:
            raise DataError(f"{title}: is cut short, {self.path.name} has {end} bytes; fetch or make it again")
        return array[position : position + size].copy().tobytes()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_map": None, "_array": None}
