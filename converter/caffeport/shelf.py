"""Arrays that wait for their turn in files instead of memory.

What is put on a shelf lies in a mapped temporary file: it is read like any array, and the system brings in what is
read.
``rest`` lets go of what has been brought in, so that of many large arrays only those in use are in memory.
"""

from __future__ import annotations

import contextlib
import mmap
import tempfile
import weakref
from typing import IO

import numpy as np

LEAST = 1 << 22
"""Bytes from which on an array is worth a file."""
_SPARE = 2
"""Files that are kept for arrays to come: a pair of blobs goes when the next pair has been made."""


class Shelf:
    """Holds no array itself: each lasts as long as somebody has it, and so does its file, which has no name.

    A file whose array is gone takes the next one. Its pages are in the system's cache already, which makes writing it
    three times as fast as a new file.
    """

    def __init__(self) -> None:
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
        self._spare: list[IO[bytes]] = []

    def put(self, array: np.ndarray) -> np.ndarray:
        """Return an array with the same numbers that lies in a file; a small one, and all where that fails, itself."""
        if array.nbytes < LEAST or not hasattr(mmap, "MADV_DONTNEED"):
            return array
        with contextlib.suppress(OSError), contextlib.ExitStack() as on_error:  # a disk that is full, say
            file = self._spare.pop() if self._spare else tempfile.TemporaryFile()
            on_error.callback(file.close)
            file.seek(0)
            file.write(np.ascontiguousarray(array).data.cast("B"))
            file.truncate()  # what a larger array has left
            mapped = mmap.mmap(file.fileno(), array.nbytes)
            on_error.pop_all()
            self._maps.add(mapped)
            weakref.finalize(mapped, _take_back, self._spare, file).atexit = False
            return np.frombuffer(mapped, array.dtype).reshape(array.shape)
        return array

    def rest(self) -> None:
        """Let the system take back the memory of all arrays here; what is read next comes from their files again."""
        for mapped in list(self._maps):
            mapped.madvise(mmap.MADV_DONTNEED)  # the file keeps the numbers: the mapping is shared, not private


def _take_back(spare: list[IO[bytes]], file: IO[bytes]) -> None:
    """Keep the file of an array that is gone, or let it go too."""
    if len(spare) < _SPARE:
        spare.append(file)
    else:
        file.close()
