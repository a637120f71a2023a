"""Caffe's databases of images: an LMDB of Datums."""

from __future__ import annotations

import os
from array import array
from pathlib import Path

import numpy as np
from caffeport.lazy import require

from ...errors import DataError
from ...mapped_file import MappedFile
from ..decoding import decode
from .base import Reader
from .datum import Datum, read_datum, shaped
from .datum_table import scan_datums
from .lmdb_file import find_records

DATA_FILE = "data.mdb"


class Database:
    """An LMDB of Datums by number, in the keys' order; every process maps its file once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = MappedFile(path / DATA_FILE if os.path.isdir(path) else path)
        if not os.path.exists(self.file.path):
            raise DataError(f"{path}: is no LMDB (there is no {DATA_FILE} in it)")
        keys, self.starts, self.sizes = find_records(self.file)
        if not keys:
            raise DataError(f"{path}: is an LMDB without records")
        self.keys = [key.decode("utf-8", "backslashreplace") for key in keys]

    def __len__(self) -> int:
        return len(self.keys)

    def title(self, index: int) -> str:
        """Return the record as a message names it."""
        return f"{self.path}: record {self.keys[index]}"

    def datum(self, index: int) -> Datum:
        """Read a record and parse it. Raises DataError that names it."""
        raw = self.file.copy(self.starts.item(index), self.sizes.item(index), self.title, index).tobytes()
        return read_datum(raw, self.title(index))


class DatabaseReader(Reader):
    """The images of a Caffe LMDB; names are its keys. Bare Datums hold planes in BGR, as convert_imageset makes.

    Where each image lies is found when the database is opened, so that reading one is a copy from the mapped file.
    """

    def __init__(self, path: Path, color: bool | None = True) -> None:
        self._database = Database(path)
        super().__init__(path, self._database.keys, color)
        database = self._database
        self._file = database.file
        table = self._table = scan_datums(database.file.array, database.starts, database.sizes)
        # Python's own take a single number four times as fast as NumPy's, which tells where an image is small.
        self._encoded = table.encoded.tobytes()
        self._starts, self._sizes = (array("q", column.tobytes()) for column in (table.starts, table.sizes))
        if table.damaged.any():
            first = int(np.argmax(table.damaged))
            database.datum(first)  # says what is wrong
            raise DataError(f"{self.title(first)}: is no Datum, or is damaged")
        self.take_labels(table.labels)

    def title(self, index: int) -> str:
        return self._database.title(index)

    def raw(self, index: int) -> bytes:
        """Return the encoded bytes. Raises DataError for a Datum that holds bare pixels."""
        if not self._encoded[index]:
            raise DataError(f"{self.title(index)}: holds bare pixels, no encoded image")
        return self._file.read(self._starts[index], self._sizes[index], self.title, index)

    def read(self, index: int) -> np.ndarray:
        title = self.title(index)
        if self._encoded[index]:
            return decode(self._copy(index).tobytes(), title, self.color)
        return image_of(self._planes(index), title, self.color)

    def _copy(self, index: int) -> np.ndarray:
        """Copy the Datum's data, encoded or bare, uint8."""
        return self._file.copy(self._starts[index], self._sizes[index], self.title, index)

    def _planes(self, index: int) -> np.ndarray:
        """Return the bare pixels (C, H, W)."""
        title = self.title(index)
        if self._table.floats.item(index):
            datum = self._database.datum(index)
            if not datum.data:
                raise DataError(f"{title}: holds float_data, which is no image")
        return shaped(self._copy(index), self._table.shapes[index].tolist(), title)


def image_of(planes: np.ndarray, title: str, color: bool | None) -> np.ndarray:
    """Bare pixels (C, H, W) as an image (H, W, 3 or 1); None leaves the channels. Raises DataError that names it."""
    if len(planes) not in (1, 3):
        raise DataError(f"{title}: has {len(planes)} channels; expected an image of 1 or 3")
    image = np.ascontiguousarray(planes.transpose(1, 2, 0))
    channels = len(planes) if color is None else 3 if color else 1
    if channels == len(planes):
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    cv2 = require("cv2")
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[:, :, None]
