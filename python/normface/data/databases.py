"""Caffe's databases of pictures: an LMDB of Datums."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
from caffeport.lazy import require

from ..errors import DataError
from ..reading import read_at
from .datum import Datum, datum_label, read_datum
from .decoding import decode
from .lmdb_file import records
from .pictures import Pictures

DATA_FILE = "data.mdb"


class Database:
    """An LMDB of Datums by number, in the keys' order. Keeps where the values lie, and opens the file anew to read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path / DATA_FILE if os.path.isdir(path) else path
        refuse_leveldb(path)
        if not os.path.exists(self._file):
            raise DataError(f"{path}: is no LMDB (there is no {DATA_FILE} in it)")
        keys, starts, sizes = [], [], []
        for key, start, size in records(self._file):
            keys.append(key)
            starts.append(start)
            sizes.append(size)
        if not keys:
            raise DataError(f"{path}: is an LMDB without records")
        self.keys = [key.decode("utf-8", "backslashreplace") for key in keys]
        self._starts, self._sizes = np.array(starts, np.int64), np.array(sizes, np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def title(self, index: int) -> str:
        return f"{self.path}: record {self.keys[index]}"

    def datum(self, index: int) -> Datum:
        title = self.title(index)
        return read_datum(read_at(self._file, int(self._starts[index]), int(self._sizes[index]), title), title)

    def labels(self) -> np.ndarray:
        """int64 (N,). Touches no pixels, so that a database of gigabytes takes seconds."""
        with (
            open(self._file, "rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            spans = zip(self._starts.tolist(), self._sizes.tolist(), strict=True)
            return np.array([datum_label(data, s, s + n, self.title(i)) for i, (s, n) in enumerate(spans)], np.int64)


class DatabasePictures(Pictures):
    """The pictures of a Caffe LMDB; names are its keys. Bare Datums hold planes in BGR, as convert_imageset makes."""

    def __init__(self, path: Path, color: bool | None = True) -> None:
        self._database = Database(path)
        super().__init__(path, self._database.keys, color)
        self.take_labels(self._database.labels())

    def title(self, index: int) -> str:
        return self._database.title(index)

    def raw(self, index: int) -> bytes:
        """The encoded bytes; DataError for a Datum that holds bare pixels."""
        datum = self._database.datum(index)
        if not datum.encoded:
            raise DataError(f"{self.title(index)}: holds bare pixels, no encoded picture")
        return datum.data

    def read(self, index: int) -> np.ndarray:
        datum, title = self._database.datum(index), self.title(index)
        if datum.encoded:
            return decode(datum.data, title, self.color)
        if not datum.data and datum.floats.size:
            raise DataError(f"{title}: holds float_data, which is no picture")
        planes = datum.array(title)
        if len(planes) not in (1, 3):
            raise DataError(f"{title}: has {len(planes)} channels; expected a picture of 1 or 3")
        picture = np.ascontiguousarray(planes.transpose(1, 2, 0))
        channels = len(planes) if self.color is None else 3 if self.color else 1
        if channels == len(planes):
            return picture
        if channels == 3:
            return np.repeat(picture, 3, axis=2)
        cv2 = require("cv2")
        return cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)[:, :, None]


def refuse_leveldb(path: Path) -> None:
    if os.path.isdir(path) and os.path.exists(path / "CURRENT") and not os.path.exists(path / DATA_FILE):
        raise DataError(
            f"{path}: is a LevelDB, which is not read here; make an LMDB of it: convert_imageset --backend=lmdb, "
            "or copy its records (key, value) with Python's plyvel and lmdb packages"
        )
