"""The members of a tar, by their headers: of ustar, PAX, GNU's and the oldest form, as Python's tarfile finds them.

A shard is opened for where its files lie. tarfile takes twenty microseconds a member, and keeps them all; this takes
two. What tarfile takes and this refuses: PAX records of wrong lengths (as later versions of tarfile do), more of them
than files need, and a PAX header that gives all members one name or size.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from .tar_extensions import KINDS, Extensions

_BLOCK = 512
_FIELDS = struct.Struct("100s24x12s12x8sc188x155s12x")
"""Name, size, checksum, type, and what stands before a long name; nothing else is looked at."""
_NEAR, _WINDOW = 4 * _BLOCK, 128 * _BLOCK
"""Headers that lie so near to each other are read in windows."""
_REGULAR = frozenset((b"0", b"\0", b"7", b"S"))
_OLDEST, _FOLDER, _SPARSE = b"\0", b"5", b"S"
_WITHOUT_DATA = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))
"""Links, devices, folders and pipes: no data follow them, whatever size they have."""
_ASCII = bytes(range(128))
_ADLER = 65521
_NO_END = "it has no end; it is cut short: fetch or make it again"


class Member(NamedTuple):
    """``start`` and ``size`` are the header's word and may lie beyond the file; of a sparse file they mean nothing."""

    name: str
    start: int
    size: int
    regular: bool = True
    sparse: bool = False


def members(stream: IO[bytes], size: int) -> Iterator[Member]:
    """Yield the members of the tar of ``size`` bytes in ``stream``; a sparse file is the last, as none is read here.

    Raises ValueError for what is no tar, is damaged, or has no end.
    """
    blocks, extensions, position = _Blocks(stream.fileno(), size), Extensions(size), 0
    while True:
        data, at = blocks.around(position)
        raw_name, raw_size, raw_sum, kind, prefix = _FIELDS.unpack_from(data, at)
        if not _has_sum(data[at : at + _BLOCK], raw_sum):
            break
        name, length, start = _text(raw_name), _number(raw_size), position + _BLOCK
        if length < 0:
            raise ValueError(f"the header at byte {position} declares {length} bytes")
        if kind in KINDS:
            extensions.take(kind, blocks.content(start, length))
            position = start + -(-length // _BLOCK) * _BLOCK
            continue
        if kind == _OLDEST and name.endswith("/"):
            kind = _FOLDER
        if prefix[0] and kind != _SPARSE:
            name = f"{_text(prefix)}/{name}"
        sparse = kind == _SPARSE
        if extensions.waiting:
            name, length, sparse = extensions.applied(name, length, sparse)
        if kind == _FOLDER:
            name = name.rstrip("/")
        position = start if kind in _WITHOUT_DATA else start + -(-length // _BLOCK) * _BLOCK
        yield Member(name, start, length, kind in _REGULAR, sparse)
        if sparse:
            return
    if data[at : at + _BLOCK] != bytes(_BLOCK):
        raise ValueError(_NO_END if position else "its first block is no header")
    if extensions.waiting:
        raise ValueError(f"the header before byte {position} is of no member")


def _has_sum(header: bytes, stored: bytes) -> bool:
    """Whether a header has the sum of its bytes that it says, which is taken with blanks in the sum's own place."""
    try:
        total = _number(stored)
    except ValueError:
        return False
    # Adler's checksum begins with 1 and the sum, and takes a quarter of the time that sum() does.
    sought = zlib.adler32(header) & 0xFFFF
    total += sum(stored) - 8 * ord(" ") + 1
    if sought == total % _ADLER:
        return True
    high = len(header.translate(None, _ASCII)) - len(stored.translate(None, _ASCII))
    return sought == (total + 256 * high) % _ADLER  # some old tars sum signed characters


def _number(field: bytes) -> int:
    """Return a number in octal digits, or in GNU's way: a first byte of 128 or 255, and binary digits."""
    digits = field.rstrip(b"\0 ")
    if digits.isdigit():
        return int(digits, 8)
    if field[0] in (128, 255):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 255 else 0)
    return int(field.partition(b"\0")[0].strip() or b"0", 8)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


class _Blocks:
    """A file's blocks, which are read in windows where they are asked for one behind the other."""

    def __init__(self, handle: int, size: int) -> None:
        self._handle, self._size = handle, size
        self._start, self._data, self._last = 0, b"", 0

    def around(self, position: int) -> tuple[bytes, int]:
        """(bytes, where in them the block at ``position`` begins)"""
        at = position - self._start
        if at + _BLOCK > len(self._data):
            most = _WINDOW if position - self._last <= _NEAR else _BLOCK
            self._data = os.pread(self._handle, most, position) if position < self._size else b""
            self._start, at = position, 0
            if len(self._data) < _BLOCK:
                raise ValueError(_NO_END if position else "it has no block of 512 bytes")
        self._last = position
        return self._data, at

    def content(self, start: int, length: int) -> bytes:
        """Return the bytes that a header is followed by."""
        at = start - self._start
        if at + length <= len(self._data):
            return self._data[at : at + length]
        if start + length > self._size:
            raise ValueError(f"the header before byte {start} declares {length} bytes; the file has {self._size}")
        return os.pread(self._handle, length, start)
