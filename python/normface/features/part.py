"""The features of an unfinished job on the disk: a run that is stopped, even killed, loses seconds only."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
from caffeport.files import replacing
from caffeport.json_text import to_json

from ..errors import DataError

SAVE_EVERY = 5.0
"""Seconds between two notes of how far the work is."""


class Part:
    """A folder with the features so far, and a note of how many images they are of.

    Rows are appended first and noted afterwards, so that a row which was not noted is written again. A folder of
    another key (other work), or a damaged one, starts anew.

    done: images that are dealt with. skipped: of these, (number, why) of those without a feature. sizes: (H, W) of the
    images read.
    """

    def __init__(self, folder: Path, key: str, dimension: int) -> None:
        self._folder, self._key, self._dimension = folder, key, dimension
        self._rows, self._note = folder / "rows.f32", folder / "note.json"
        try:
            folder.mkdir(exist_ok=True)
            self._stream = open(self._rows, "ab")  # noqa: SIM115 - lives as long as the job
        except OSError as error:
            raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error
        if not locked(self._stream):
            raise DataError(f"{folder}: another run is writing there; wait for it, or choose another file")
        note = self._noted() or {"done": 0, "skipped": [], "sizes": []}
        self.done: int = note["done"]
        self.skipped: list[tuple[int, str]] = [(number, why) for number, why in note["skipped"]]
        self.sizes: set[tuple[int, int]] = {(height, width) for height, width in note["sizes"]}
        self._stream.truncate(4 * dimension * self._count())
        self._saved = time.monotonic()

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever ends the work, what is done is kept, unless ``remove`` was called."""
        if not self._stream.closed:
            with self._stream:
                self.save()

    def add(self, fate: list[int | DataError], features: np.ndarray) -> None:
        """The next images, as Extractor.batches tells of them."""
        try:
            self._stream.write(np.ascontiguousarray(features, "<f4").tobytes())
        except OSError as error:
            raise DataError(f"{self._rows}: cannot be written: {error.strerror or error}") from error
        numbered = enumerate(fate, self.done)
        self.skipped += [(number, str(entry)) for number, entry in numbered if isinstance(entry, DataError)]
        self.done += len(fate)
        if time.monotonic() - self._saved >= SAVE_EVERY:
            self.save()

    def save(self) -> None:
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise DataError(f"{self._rows}: cannot be written: {error.strerror or error}") from error
        note = {"key": self._key, "done": self.done, "skipped": self.skipped, "sizes": sorted(self.sizes)}
        with replacing(self._note) as stream:
            stream.write(to_json(note, indent=None).encode())
        self._saved = time.monotonic()

    def kept(self) -> np.ndarray:
        """(n,) int64: the images that have features."""
        mask = np.ones(self.done, bool)
        mask[[number for number, _ in self.skipped]] = False
        return np.flatnonzero(mask)

    def rows(self) -> np.ndarray:
        """(n, D) float32, the features; mapped into memory, since they may be more than fits."""
        self._stream.flush()
        shape = (self._count(), self._dimension)
        return np.memmap(self._rows, "<f4", "r", shape=shape) if shape[0] else np.empty(shape, np.float32)

    def remove(self) -> None:
        """Only what was made here is deleted."""
        self._stream.close()
        for path in (self._rows, self._note):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _count(self) -> int:
        return self.done - len(self.skipped)

    def _noted(self) -> dict[str, Any] | None:
        """The note of an earlier run of the same work whose rows are there, else None."""
        try:
            note = json.loads(self._note.read_text())
            count = note["done"] - len(note["skipped"])
            whole = self._rows.stat().st_size >= 4 * self._dimension * count
            return note if note["key"] == self._key and whole and "sizes" in note else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None


def locked(stream: IO[bytes]) -> bool:
    """Return whether this run alone has the file from now on; the system gives it free however the run ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
