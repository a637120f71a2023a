"""LMDB files (``data.mdb``), read without the library: a walk over their B+ tree that trusts nothing.

The library maps the file and follows its pointers, so that a truncated or foreign file ends the process; here every
page number and length is checked first. Only what reading needs: the main database, keys in order, no duplicates.
Layout (LMDB 0.9, lmdb's mdb.c): pages of 4096 bytes, say. A page's header: number (u64), pad, flags, lower, upper
(u16 each; an overflow page has its page count in the last two). Pages 0 and 1 are meta pages, the one with the higher
transaction counts. Below a header lie ``(lower - 16) / 2`` u16 offsets of nodes; a node is lo, hi, flags, key size (u16
each), the key, and the value; a branch's node has the child's page number in lo, hi and flags instead.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError
from ..reading import opened

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_PAGE_HEADER = struct.Struct("<QHHHH")
_NODE = struct.Struct("<HHHH")
_META = struct.Struct("<IIQQ48xIHHQQQQQQQ")  # magic … mapsize, the free list's record, the main one's, last page, txn
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4  # page flags
_BIG = 1  # node flag: the value is on overflow pages
_OTHER_NODES = 2 | 4  # of named databases and duplicates
_NO_ROOT = 2**64 - 1
_DEEPEST = 32  # LMDB's own limit


def is_lmdb(start: bytes) -> bool:
    """Whether a file that starts with these 24 bytes or more is an LMDB."""
    return len(start) >= 24 and struct.unpack_from("<I", start, 16)[0] == _MAGIC


def records(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """(key, where its value starts, the value's length) of every record of the main database, in the keys' order.

    ``path`` is the data file. Raises DataError, which names it, for anything that is no whole LMDB.
    """
    with opened(path) as (stream, size):
        if size < 2 * 512:
            raise DataError(f"{path}: is no LMDB ({size} bytes)")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield from _Tree(path, data).walk()


class _Tree:
    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data = path, data
        if not is_lmdb(data[:24]):
            raise DataError(f"{path}: is no LMDB (or one of a big-endian or 32-bit machine)")
        first = _META.unpack_from(data, _PAGE_HEADER.size)
        if first[1] != _VERSION:
            raise DataError(f"{path}: is an LMDB of format {first[1]}; expected format {_VERSION}")
        self._page = struct.unpack_from("<I", data, _PAGE_HEADER.size + 24)[0]
        if not 512 <= self._page <= 65536 or self._page & (self._page - 1) or len(data) < 2 * self._page:
            raise DataError(f"{path}: is no LMDB, or is cut short (pages of {self._page} bytes)")
        second = _META.unpack_from(data, self._page + _PAGE_HEADER.size)
        meta = max(first, second, key=lambda meta: meta[-1] if meta[0] == _MAGIC else -1)
        _, flags, _, _, _, _, self._entries, self._root = meta[4:12]
        if flags:
            raise DataError(f"{path}: is an LMDB with duplicate or integer keys, which Caffe's have not")

    def walk(self) -> Iterator[tuple[bytes, int, int]]:
        if self._root == _NO_ROOT:
            return
        waiting = [(self._root, 0)]
        found, visits = 0, 0
        while waiting:
            number, depth = waiting.pop()
            visits += 1
            start = self._page_start(number, 1)
            _, _, flags, lower, _ = _PAGE_HEADER.unpack_from(self._data, start)
            if depth > _DEEPEST or visits > len(self._data) // self._page:
                self._damaged("its tree runs in circles")
            count = (lower - _PAGE_HEADER.size) // 2
            if not flags & (_BRANCH | _LEAF) or not 0 <= count <= self._page // 2 or lower > self._page:
                self._damaged(f"page {number} is neither branch nor leaf")
            offsets = struct.unpack_from(f"<{count}H", self._data, start + _PAGE_HEADER.size)
            self._check_room(number, start, offsets, leaf=not flags & _BRANCH)
            if flags & _BRANCH:
                for offset in reversed(offsets):
                    low, high, top, _ = self._node(start, offset)
                    waiting.append((low | high << 16 | top << 32, depth + 1))
                continue
            for offset in offsets:
                yield self._record(start, offset)
                found += 1
        if found != self._entries:
            self._damaged(f"it holds {found} records, and {self._entries} are declared")

    def _check_room(self, number: int, start: int, offsets: tuple[int, ...], leaf: bool) -> None:
        """Nodes do not overlap: a page cannot hold more than it is long, however often it refers to one."""
        taken = _PAGE_HEADER.size + 2 * len(offsets)
        for offset in offsets:
            low, high, flags, key_size = self._node(start, offset)
            taken += _NODE.size + key_size
            if leaf:
                taken += 8 if flags & _BIG else low | high << 16
        if taken > self._page:
            self._damaged(f"the nodes of page {number} take {taken} bytes of its {self._page}")

    def _record(self, start: int, offset: int) -> tuple[bytes, int, int]:
        low, high, flags, key_size = self._node(start, offset)
        if flags & _OTHER_NODES:
            self._damaged("it holds named databases or duplicates, which Caffe's do not")
        size = low | high << 16
        key_at = start + offset + _NODE.size
        value_at = key_at + key_size
        room = start + self._page - value_at
        if room < (8 if flags & _BIG else size):
            self._damaged(f"a record leaves its page at byte {value_at}")
        key = self._data[key_at:value_at]
        if flags & _BIG:
            first = struct.unpack_from("<Q", self._data, value_at)[0]
            pages = -(-(size + _PAGE_HEADER.size) // self._page)
            value_at = self._page_start(first, pages) + _PAGE_HEADER.size
            if not _PAGE_HEADER.unpack_from(self._data, value_at - _PAGE_HEADER.size)[2] & _OVERFLOW:
                self._damaged(f"page {first} holds no overflow")
        return key, value_at, size

    def _node(self, start: int, offset: int) -> tuple[int, int, int, int]:
        if offset < _PAGE_HEADER.size or offset + _NODE.size > self._page:
            self._damaged(f"a node lies outside of its page at byte {start}")
        return _NODE.unpack_from(self._data, start + offset)

    def _page_start(self, number: int, pages: int) -> int:
        """Where page ``number`` starts; it and the ``pages - 1`` after it lie within the file."""
        if number < 2 or (number + pages) * self._page > len(self._data):
            self._damaged(f"page {number} is beyond its end ({len(self._data)} bytes)")
        return number * self._page

    def _damaged(self, problem: str) -> None:
        raise DataError(f"{self._path}: is a damaged LMDB, or cut short: {problem}; copy or make it again")
