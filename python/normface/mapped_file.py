"""A user's file that is read in pieces, in any order, by threads and processes: mapped into memory."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from .errors import DataError
from .reading import opened


class MappedFile:
    """A file's bytes, which every process maps into memory once, when it first reads them.

    A mapping has no position, so that threads share it, and forked processes their parent's; a pickled copy maps the
    file anew where it arrives. Raises DataError that names the file where it is missing, empty, or no regular file.

    ``read`` and ``copy`` look at the file's size every time, and raise DataError, which names ``title(*of)``, where it
    ends before: touching a page that it has lost since it was mapped would end the process. No memory is set aside
    for more than there is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: mmap.mmap | None = None

    @property
    def size(self) -> int:
        """The length of the file in bytes as it is now, which does not map it."""
        try:
            return os.stat(self.path).st_size
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror or error}") from error

    @property
    def array(self) -> np.ndarray:
        """All bytes, uint8 (N,), of the file as it was when it was mapped, uncopied."""
        return np.frombuffer(self._map or self._mapped(), np.uint8)

    def read(self, position: int, size: int, title: Callable[..., str], *of: Any) -> bytes:
        """Return ``size`` bytes from ``position``, in the shortest time if they are in memory."""
        data, end = self._map or self._mapped(), position + size
        if not 0 <= position <= end <= data.size() or end > len(data):
            self._cut_short(title(*of))
        return data[position:end]

    def copy(self, position: int, size: int, title: Callable[..., str], *of: Any) -> np.ndarray:
        """Return ``size`` bytes, uint8; other threads run while they come from the disk, as NumPy gives up the GIL."""
        data, end = self._map or self._mapped(), position + size
        if not 0 <= position <= end <= data.size() or end > len(data):
            self._cut_short(title(*of))
        return np.frombuffer(data, np.uint8, size, position).copy() if size else np.empty(0, np.uint8)

    def _mapped(self) -> mmap.mmap:
        with opened(self.path) as (stream, size):
            if not size:
                raise DataError(f"{self.path}: is empty")
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def _cut_short(self, title: str) -> NoReturn:
        raise DataError(f"{title}: is cut short, {self.path.name} has {self.size} bytes; fetch or make it again")

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_map": None}
