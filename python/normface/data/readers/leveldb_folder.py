"""A LevelDB of Caffe's, by plyvel: its records by number, in the keys' order.

LevelDB opens a folder for one process, and writes to it even for reading: a lock, a log, tables that it merges. The
user's folder stays as it is here: a temporary one links to its tables and has copies of the rest, and that is opened,
so that several processes, a read-only disk and a Caffe that has it open do no harm.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from caffeport import MissingDependencyError

from ...errors import DataError
from ...reading import parsing
from ..decoding import decode
from .base import Reader
from .database import DATA_FILE, image_of
from .datum import Datum, read_datum

_CURRENT = "CURRENT"
_TABLES = (".ldb", ".sst")
_FREE_RECORDS, _BYTES_EACH = 100_000, 64
"""Records that are read, and one for 64 bytes; empty ones, packed by Snappy, take a dozen."""


def is_leveldb(path: Path) -> bool:
    """Return whether a folder holds a LevelDB (and no LMDB)."""
    return os.path.isdir(path) and os.path.exists(path / _CURRENT) and not os.path.exists(path / DATA_FILE)


class LevelDatabase:
    """Datums by number. Threads may read side by side; a forked or pickled copy opens the database for itself.

    Raises MissingDependencyError without plyvel, DataError that names the folder for one that is damaged or empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: tuple[int, Any, Any] | None = None  # process, database, temporary folder
        self._lock = threading.Lock()
        most = _FREE_RECORDS + sum(entry.stat().st_size for entry in os.scandir(path)) // _BYTES_EACH
        with parsing(path, "is a damaged LevelDB, or cut short"), self._opened().iterator(include_value=False) as keys:
            self._raw_keys: list[bytes] = list(itertools.islice(keys, most + 1))
        if not self._raw_keys:
            raise DataError(f"{path}: is a LevelDB without records")
        if len(self._raw_keys) > most:
            raise DataError(f"{path}: has more than {most} records, which no images have that lie in so few bytes")
        self.keys = [key.decode("utf-8", "backslashreplace") for key in self._raw_keys]

    def __len__(self) -> int:
        return len(self.keys)

    def title(self, index: int) -> str:
        """Return the record as a message names it."""
        return f"{self.path}: record {self.keys[index]}"

    def datum(self, index: int) -> Datum:
        """Read a record and parse it. Raises DataError that names it."""
        title = self.title(index)
        with parsing(title, "cannot be read from the LevelDB"):
            raw = self._opened().get(self._raw_keys[index], verify_checksums=True)
        if raw is None:
            raise DataError(f"{title}: is gone from the LevelDB, which has changed since it was opened")
        return read_datum(raw, title)

    def datums(self) -> Iterator[Datum]:
        """Read all records, in order, which takes a fraction of the time that one after the other does."""
        with parsing(self.path, "is a damaged LevelDB, or cut short"), self._opened().iterator() as records:
            for index, (_, raw) in enumerate(records):
                yield read_datum(raw, self.title(index))

    def _opened(self) -> Any:
        with self._lock:
            if self._handle is None or self._handle[0] != os.getpid():
                self._handle = (os.getpid(), *_open(self.path))
            return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


class LevelReader(Reader):
    """The images of a LevelDB; names are its keys. Bare Datums hold planes in BGR, as convert_imageset makes them."""

    def __init__(self, path: Path, color: bool | None = True) -> None:
        self._database = LevelDatabase(path)
        super().__init__(path, self._database.keys, color)
        self.take_labels(np.array([datum.label for datum in self._database.datums()], np.int64))

    def title(self, index: int) -> str:
        return self._database.title(index)

    def raw(self, index: int) -> bytes:
        """Return the encoded bytes. Raises DataError for a Datum that holds bare pixels."""
        datum = self._database.datum(index)
        if not datum.encoded:
            raise DataError(f"{self.title(index)}: holds bare pixels, no encoded image")
        return datum.data

    def read(self, index: int) -> np.ndarray:
        datum, title = self._database.datum(index), self.title(index)
        if datum.encoded:
            return decode(datum.data, title, self.color)
        if not datum.data:
            raise DataError(f"{title}: holds float_data, which is no image")
        return image_of(datum.array(title), title, self.color)


def _open(path: Path) -> tuple[Any, Any]:
    """(plyvel's database, the temporary folder that it is opened in)"""
    try:
        import plyvel
    except ImportError as error:
        advice = "is a LevelDB, which needs plyvel; install it: pip install plyvel"
        raise MissingDependencyError(f"{path}: {advice}") from error
    folder = tempfile.TemporaryDirectory(prefix="normface-leveldb-")
    try:
        for entry in os.scandir(path):
            if entry.name.endswith(_TABLES):
                os.symlink(os.path.abspath(entry.path), os.path.join(folder.name, entry.name))
            elif entry.name == _CURRENT or entry.name.startswith("MANIFEST-") or entry.name.endswith(".log"):
                shutil.copyfile(entry.path, os.path.join(folder.name, entry.name))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    with parsing(path, "is a damaged LevelDB, or cut short"):
        return plyvel.DB(folder.name, create_if_missing=False, paranoid_checks=True), folder
