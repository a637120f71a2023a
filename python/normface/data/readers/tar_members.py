"""The members of a tar, by their headers: plain ones are read here, all others by Python's tarfile.

A shard is opened for where its files lie. tarfile takes twenty microseconds a member and keeps them all; a plain header
(ustar's, of a regular file, with its size in octal digits) needs a fifth of that. What tarfile is for: long and foreign
names, PAX, sparse files, old forms, and saying what is wrong.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

_BLOCK = 512
_NAME, _SIZE, _SUM, _PREFIX = slice(0, 100), slice(124, 136), slice(148, 156), slice(345, 500)
_TYPE_AT, _MAGIC = 156, slice(257, 262)
_REGULAR = ord("0")


@dataclass(frozen=True, slots=True)
class Member:
    """``start`` and ``size`` are the header's word and may lie beyond the file; so may a sparse file's size."""

    name: str
    start: int
    size: int
    regular: bool = True
    sparse: bool = False


def members(stream: IO[bytes], size: int) -> Iterator[Member]:
    """Yield the members of the tar of ``size`` bytes in ``stream``.

    Raises tarfile.TarError, or whatever else tarfile raises, for what is none, and ValueError where its end is missing.
    """
    archive: Any = tarfile.TarFile(fileobj=_Bounded(stream, size), errors="replace")  # type: ignore[arg-type]
    position, plain = 0, True
    while True:
        member = _plain(os.pread(stream.fileno(), _BLOCK, position), position) if plain else None
        if member is None:
            if position:
                archive.firstmember, archive.offset = None, position
            entry = archive.next()
            position = archive.offset
            archive.members.clear()  # it keeps all that it has read
            if entry is None:
                break
            plain = not archive.pax_headers  # which are for all members that follow
            member = Member(entry.name, entry.offset_data, entry.size, entry.isreg(), entry.sparse is not None)
        else:
            position = member.start + -(-member.size // _BLOCK) * _BLOCK
        yield member
    if os.pread(stream.fileno(), _BLOCK, position) != bytes(_BLOCK):  # tarfile takes a missing end for one
        raise ValueError("it has no end; it is cut short: fetch or make it again")


def _plain(header: bytes, position: int) -> Member | None:
    """Return the member of a plain header, or None for any other and for a damaged one."""
    if len(header) < _BLOCK or header[_TYPE_AT] != _REGULAR or header[_MAGIC] != b"ustar":
        return None
    size, total = _octal(header[_SIZE]), _octal(header[_SUM])
    if size is None or total is None:
        return None
    whole = total - 8 * ord(" ") + sum(header[_SUM])  # the sum is taken with blanks in its own place
    if (
        zlib.adler32(header) & 0xFFFF != (1 + whole) % 65521
    ):  # which is how Adler's begins, at a fiftieth of sum()'s time
        return None
    name, prefix = header[_NAME].partition(b"\0")[0], header[_PREFIX].partition(b"\0")[0]
    path = prefix + b"/" + name if prefix else name
    return Member(path.decode("utf-8", "replace"), position + _BLOCK, size)


def _octal(field: bytes) -> int | None:
    digits = field.rstrip(b" \0").lstrip(b" ")
    return int(digits, 8) if digits.isdigit() and b"8" not in digits and b"9" not in digits else None


class _Bounded:
    """A file whose ``read`` asks for no more than there is: for what a header declares memory would be set aside."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._size = stream, size
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        return self._stream.read(min(size, max(self._size - self._stream.tell(), 0)))
