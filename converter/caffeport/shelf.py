"""Arrays that wait for their turn in files instead of memory.

What is put on a shelf lies in a mapped temporary file: it is read like any array, and the system brings in what is
read.
``rest`` lets go of what has been brought in, so that of many large arrays only those in use are in memory.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import tempfile
import weakref
from typing import IO

import numpy as np

LEAST = 1 << 22
"""Bytes from which on an array is worth a file."""
_SPARE = 2
"""Files that are kept for arrays to come: of two backends, one lets go of a blob while the other makes its next."""


def is_large(shape: tuple[int, ...]) -> bool:
    """Return whether a float32 array of this shape is worth a file."""
    return 4 * math.prod(shape) >= LEAST


class Shelf:
    """Holds no array itself: each lasts as long as somebody has it, and so does its file, which has no name.

    A file whose array is gone takes the next one. Its pages are in the system's cache already, which makes writing it
    three times as fast as a new file.
    """

    def __init__(self) -> None:
        self._places: weakref.WeakKeyDictionary[mmap.mmap, int] = weakref.WeakKeyDictionary()
        self._spare: list[IO[bytes]] = []
        weakref.finalize(self, _close, self._spare)

    def put(self, array: np.ndarray) -> np.ndarray:
        """Return an array with the same numbers that lies in a file; a small one, and all where that fails, itself.

        What lies in such a file already, or is a view of what does, is returned as it is too.
        """
        if array.nbytes < LEAST or not hasattr(mmap, "MADV_DONTNEED") or self._has(array):
            return array
        with contextlib.suppress(OSError), contextlib.ExitStack() as on_error:  # a disk that is full, say
            opened = self._spare.pop if self._spare else tempfile.TemporaryFile
            file = on_error.enter_context(opened())
            file.seek(0)
            file.write(np.ascontiguousarray(array).data.cast("B"))
            file.truncate()  # what a larger array has left
            on_error.pop_all()
            return self._mapped(file, array.shape, array.dtype)
        return array

    def room(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return a float32 array to be written to, whose numbers are anything; in a file where one is to spare.

        Writing there costs a third of what new memory does, which the system has to clear first. It needs a file that
        has all its blocks: no error is raised where the disk is full by then, the process would be killed.
        """
        size = 4 * math.prod(shape)
        for file in self._spare:
            free = os.fstatvfs(file.fileno())  # a file system that copies what is written anew needs as much again
            if os.fstat(file.fileno()).st_size >= size and free.f_bavail * free.f_frsize > 2 * size:
                self._spare.remove(file)
                return self._mapped(file, shape, np.dtype(np.float32))
        return np.empty(shape, np.float32)

    def rest(self) -> None:
        """Let the system take back the memory of all arrays here; what is read next comes from their files again."""
        for mapped in list(self._places):
            mapped.madvise(mmap.MADV_DONTNEED)  # the file keeps the numbers: the mapping is shared, not private

    def _mapped(self, file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array that lies at the file's start, and gives it back when it is gone."""
        mapped = mmap.mmap(file.fileno(), math.prod(shape) * dtype.itemsize)
        array = np.frombuffer(mapped, dtype).reshape(shape)
        self._places[mapped] = array.ctypes.data
        weakref.finalize(mapped, _take_back, weakref.ref(self), file)
        return array

    def _has(self, array: np.ndarray) -> bool:
        start = array.ctypes.data
        return any(place <= start < place + len(mapped) for mapped, place in list(self._places.items()))


def _take_back(shelf: weakref.ref[Shelf], file: IO[bytes]) -> None:
    """Keep the file of an array that is gone, or let it go too."""
    owner = shelf()
    if owner is not None and len(owner._spare) < _SPARE:
        owner._spare.append(file)
    else:
        file.close()


def _close(files: list[IO[bytes]]) -> None:
    for file in files:
        file.close()
