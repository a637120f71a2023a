"""Images in a zip file, read where they lie: nothing is unpacked."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...mapped_file import MappedFile
from ...reading import MAX_IMAGE, UNPACKED_FLOOR, UNPACKED_GROWTH, opened, parsing
from ...zip_directory import read_directory
from .folder import TreeReader

_ENCRYPTED = 1
_LOCAL_HEADER = 30
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_OTHER_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 99: "AES"}


class ZipReader(TreeReader):
    """The images in the folders within a zip (stored or deflated)."""

    def __init__(self, path: Path, color: bool | None = True, labelled: bool = True) -> None:
        with opened(path) as (stream, size), parsing(path, "is no zip file, or is damaged"):
            names, table = read_directory(stream, size)
        places = {name.replace("\\", "/"): place for place, name in enumerate(names) if not name.endswith("/")}
        super().__init__(path, places, color, labelled)
        self._file = MappedFile(path)
        self._members = table[[places[name] for name in self.names]]
        self._check()

    def _check(self) -> None:
        members = self._members
        largest = np.maximum(members["size"], members["packed"])
        for wrong, problem in (
            (members["flags"] & _ENCRYPTED != 0, "is encrypted; pack the images again without a password"),
            (~np.isin(members["method"], _METHODS), "is packed by {way}; pack the images again, stored or deflated"),
            (largest < 0, "has a size below 0"),
            (largest > MAX_IMAGE, f"declares {{size}} bytes; at most {MAX_IMAGE} are read"),
            (
                largest > UNPACKED_FLOOR + UNPACKED_GROWTH * members["packed"],
                "declares {size} bytes, far more than its {packed} can hold",
            ),
        ):
            if wrong.any():
                index = int(np.argmax(wrong))
                method, packed = int(members["method"][index]), int(members["packed"][index])
                way = _OTHER_METHODS.get(method, f"method {method}")
                words = problem.format(way=way, size=largest[index], packed=packed)
                raise DataError(f"{self.path}: {self.names[index]} {words}")

    def raw(self, index: int) -> bytes:
        place, packed_size, size, method, crc, _ = self._members[index].tolist()
        header = self._file.read(place, _LOCAL_HEADER, self.title, index)
        if not header.startswith(b"PK\x03\x04"):
            raise DataError(f"{self.title(index)}: is not where the zip's directory says; pack it again")
        start = place + _LOCAL_HEADER + sum(struct.unpack_from("<HH", header, 26))  # name and extra field
        raw = packed = self._file.copy(start, packed_size, self.title, index).tobytes()
        if method == zipfile.ZIP_DEFLATED:
            with parsing(self.title(index), "is damaged"):
                raw = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)
        if len(raw) != size or zlib.crc32(raw) != crc:
            raise DataError(f"{self.title(index)}: is damaged (its size or checksum differs from the zip's directory)")
        return raw
