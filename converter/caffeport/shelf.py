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

import numpy as np

LEAST = 1 << 22
"""Bytes from which on an array is worth a file."""


class Shelf:
    """Holds no array itself: each lasts as long as somebody has it, and so does its file, which has no name."""

    def __init__(self) -> None:
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()

    def put(self, array: np.ndarray) -> np.ndarray:
        """Return an array with the same numbers that lies in a file; a small one, and all where that fails, itself."""
        if array.nbytes < LEAST or not hasattr(mmap, "MADV_DONTNEED"):
            return array
        with contextlib.suppress(OSError), tempfile.TemporaryFile() as file:  # a disk that is full, say
            file.write(np.ascontiguousarray(array).data.cast("B"))
            file.flush()
            mapped = mmap.mmap(file.fileno(), array.nbytes)
            self._maps.add(mapped)
            return np.frombuffer(mapped, array.dtype).reshape(array.shape)
        return array

    def rest(self) -> None:
        """Let the system take back the memory of all arrays here; what is read next comes from their files again."""
        for mapped in list(self._maps):
            mapped.madvise(mmap.MADV_DONTNEED)  # the file keeps the numbers: the mapping is shared, not private
