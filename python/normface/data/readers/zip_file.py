"""Images in a zip file, read where they lie: nothing is unpacked."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError
from ...mapped_file import MappedFile
from ...reading import MAX_IMAGE, opened, parsing, unpacked_limit
from .folder import TreeReader

_ENCRYPTED = 1
_LOCAL_HEADER = 30
_OTHER_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 99: "AES"}


@dataclass(frozen=True)
class _Member:
    header: int  # where its local header stands
    packed: int
    size: int
    method: int
    crc: int
    flags: int


class ZipReader(TreeReader):
    """The images in the folders within a zip (stored or deflated)."""

    def __init__(self, path: Path, color: bool | None = True, labelled: bool = True) -> None:
        with (
            opened(path) as (stream, _),
            parsing(path, "is no zip file, or is damaged"),
            zipfile.ZipFile(stream) as archive,
        ):
            members = {
                info.filename.replace("\\", "/"): _Member(
                    info.header_offset,
                    info.compress_size,
                    info.file_size,
                    info.compress_type,
                    info.CRC,
                    info.flag_bits,
                )
                for info in archive.infolist()
                if not info.is_dir()
            }
        super().__init__(path, members, color, labelled)
        self._file = MappedFile(path)
        self._members = [members[name] for name in self.names]
        for name, member in zip(self.names, self._members, strict=True):
            self._check(name, member)

    def _check(self, name: str, member: _Member) -> None:
        if member.flags & _ENCRYPTED:
            raise DataError(f"{self.path}: {name} is encrypted; pack the images again without a password")
        if member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            way = _OTHER_METHODS.get(member.method, f"method {member.method}")
            raise DataError(f"{self.path}: {name} is packed by {way}; pack the images again, stored or deflated")
        size = max(member.size, member.packed)
        if size > MAX_IMAGE:
            raise DataError(f"{self.path}: {name} declares {size} bytes; at most {MAX_IMAGE} are read")
        if size > unpacked_limit(member.packed):
            raise DataError(f"{self.path}: {name} declares {size} bytes, far more than its {member.packed} can hold")

    def raw(self, index: int) -> bytes:
        member = self._members[index]
        header = self._file.read(member.header, _LOCAL_HEADER, self.title, index)
        if not header.startswith(b"PK\x03\x04"):
            raise DataError(f"{self.title(index)}: is not where the zip's directory says; pack it again")
        start = member.header + _LOCAL_HEADER + sum(struct.unpack_from("<HH", header, 26))  # name and extra field
        raw = packed = self._file.copy(start, member.packed, self.title, index).tobytes()
        if member.method == zipfile.ZIP_DEFLATED:
            with parsing(self.title(index), "is damaged"):
                raw = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.size + 1)
        if len(raw) != member.size or zlib.crc32(raw) != member.crc:
            raise DataError(f"{self.title(index)}: is damaged (its size or checksum differs from the zip's directory)")
        return raw
