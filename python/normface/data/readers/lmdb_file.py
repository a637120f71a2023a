"""LMDB files (``data.mdb``), read without the library: a walk over their B+ tree that trusts nothing.

The library maps the file and follows its pointers, so that a truncated or foreign file ends the process; here every
page number and length is checked first. Only what reading needs: the main database, keys in order, no duplicates.
Layout (LMDB 0.9, lmdb's mdb.c): pages of 4096 bytes, say. A page's header: number (u64), pad, flags, lower, upper
(u16 each; an overflow page has its page count in the last two). Pages 0 and 1 are meta pages, the one with the higher
transaction counts. Below a header lie ``(lower - 16) / 2`` u16 offsets of nodes; a node is lo, hi, flags, key size (u16
each), the key, and the value; a branch's node has the child's page number in lo, hi and flags instead.

All pages of a level of the tree are read together, by NumPy: a database of a million records opens in a second.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from ...errors import DataError
from ...mapped_file import MappedFile

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER_SIZE, _NODE_SIZE = 16, 8
_FLAGS_AT, _LOWER_AT = 10, 12  # within a page's header
_META = struct.Struct("<IIQQ48xIHHQQQQQQQ")  # magic … mapsize, the free list's record, the main one's, last page, txn
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4  # page flags
_BIG = 1  # node flag: the value is on overflow pages
_OTHER_NODES = 2 | 4  # of named databases and duplicates
_NO_ROOT = 2**64 - 1
_DEEPEST = 32  # LMDB's own limit
_AT_ONCE = 4 << 20  # bytes of leaves that are looked at together, which take some 100 MB of numbers at most


def is_lmdb(start: bytes) -> bool:
    """Return whether a file that starts with these 24 bytes or more is an LMDB."""
    return len(start) >= 24 and struct.unpack_from("<I", start, 16)[0] == _MAGIC


def records(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Yield (key, where its value starts, the value's length) of every record, as :func:`find_records` does."""
    keys, starts, sizes = find_records(MappedFile(path))
    yield from zip(keys, starts.tolist(), sizes.tolist(), strict=True)


def find_records(file: MappedFile) -> tuple[list[bytes], np.ndarray, np.ndarray]:
    """Return (keys, where the values start, their lengths, int64 (N,) both) of the main database, in the keys' order.

    Raises DataError, which names the file, for anything that is no whole LMDB.
    """
    if file.size < 2 * 512:
        raise DataError(f"{file.path}: is no LMDB ({file.size} bytes)")
    return _Tree(file).walk()


class _Tree:
    def __init__(self, file: MappedFile) -> None:
        self._path, self._data, self._used = file.path, file.array, 0
        self._words = self._data[: len(self._data) // 2 * 2].view("<u2")
        start = self._data[: _HEADER_SIZE + _META.size].tobytes()
        if not is_lmdb(start[:24]):
            raise DataError(f"{self._path}: is no LMDB (or one of a big-endian or 32-bit machine)")
        first = _META.unpack_from(start, _HEADER_SIZE)
        if first[1] != _VERSION:
            raise DataError(f"{self._path}: is an LMDB of format {first[1]}; expected format {_VERSION}")
        self._page = struct.unpack_from("<I", start, _HEADER_SIZE + 24)[0]
        if not 512 <= self._page <= 65536 or self._page & (self._page - 1) or len(self._data) < 2 * self._page:
            raise DataError(f"{self._path}: is no LMDB, or is cut short (pages of {self._page} bytes)")
        second = _META.unpack_from(self._data[self._page + _HEADER_SIZE :][: _META.size].tobytes())
        meta = max(first, second, key=lambda meta: meta[-1] if meta[0] == _MAGIC else -1)
        _, flags, _, _, _, _, self._entries, self._root = meta[4:12]
        if flags:
            raise DataError(f"{self._path}: is an LMDB with duplicate or integer keys, which Caffe's have not")

    def walk(self) -> tuple[list[bytes], np.ndarray, np.ndarray]:
        """Go down level by level, whose pages lie in the keys' order, to the leaves."""
        if self._root == _NO_ROOT:
            return [], np.empty(0, np.int64), np.empty(0, np.int64)
        pages = np.array([self._root], np.uint64)
        self._use(1, "its tree runs in circles")
        for _ in range(_DEEPEST):
            starts = self._page_starts(pages, np.ones(len(pages), np.int64))
            flags = self._words_at(starts + _FLAGS_AT)
            branches = flags & _BRANCH != 0
            wrong = flags & (_BRANCH | _LEAF) == 0
            if not wrong.any() and branches.any() != branches.all():
                self._damaged(f"page {pages[np.argmax(branches != branches[0])]} lies deeper than others of its kind")
            if wrong.any():
                self._damaged(f"page {pages[np.argmax(wrong)]} is neither branch nor leaf")
            if not branches.any():
                return self._leaves(starts)
            counts = self._counts(starts)
            self._use(int(counts.sum()), "its tree runs in circles")
            nodes = self._nodes(starts, counts)
            self._check_room(starts, counts, self._words_at(nodes + 6))
            low, high, top = (self._words_at(nodes + 2 * i) for i in range(3))
            pages = (low | high << 16 | top << 32).astype(np.uint64)
            if not len(pages):
                self._damaged("a branch has no children")
        self._damaged("its tree runs in circles")

    def _use(self, pages: int, problem: str) -> None:
        """Count pages that the tree refers to: each is one branch, one leaf, or of one record, however often."""
        self._used += pages
        if self._used > len(self._data) // self._page:
            self._damaged(problem)

    def _leaves(self, starts: np.ndarray) -> tuple[list[bytes], np.ndarray, np.ndarray]:
        keys: list[bytes] = []
        values, sizes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        at_once = _AT_ONCE // self._page
        for begin in range(0, len(starts), at_once):
            some = starts[begin : begin + at_once]
            page_keys, places, lengths = self._records(some, self._counts(some))
            keys += page_keys
            values.append(places)
            sizes.append(lengths)
            if len(keys) > self._entries:
                break
        if len(keys) != self._entries:
            self._damaged(f"it holds {len(keys)} records or more, and {self._entries} are declared")
        return keys, np.concatenate(values), np.concatenate(sizes)

    def _records(self, starts: np.ndarray, counts: np.ndarray) -> tuple[list[bytes], np.ndarray, np.ndarray]:
        """Return (keys, where the values start, their lengths) of leaves' ``counts`` nodes."""
        nodes = self._nodes(starts, counts)
        low, high, flags, key_sizes = (self._words_at(nodes + 2 * i) for i in range(4))
        sizes = low | high << 16
        big = flags & _BIG != 0
        within = np.where(big, 8, sizes)  # of the leaf; a big one's number of its page
        self._check_room(starts, counts, key_sizes + within)
        if (flags & _OTHER_NODES).any():
            self._damaged("it holds named databases or duplicates, which Caffe's do not")
        key_starts = nodes + _NODE_SIZE
        values = key_starts + key_sizes
        outside = values + within > np.repeat(starts + self._page, counts)
        if outside.any():
            self._damaged(f"a record leaves its page at byte {values[np.argmax(outside)]}")
        keys = self._bytes_at(key_starts, key_sizes)
        if big.any():
            pages = self._data[values[big, None] + np.arange(8)].view("<u8").reshape(-1)
            lengths = -(-(sizes[big] + _HEADER_SIZE) // self._page)
            places = self._page_starts(pages, lengths)
            self._use(int(lengths.sum()), "records share their pages")
            wrong = self._words_at(places + _FLAGS_AT) & _OVERFLOW == 0
            if wrong.any():
                self._damaged(f"page {pages[np.argmax(wrong)]} holds no overflow")
            values[big] = places + _HEADER_SIZE
        return keys, values, sizes

    def _counts(self, starts: np.ndarray) -> np.ndarray:
        """Return how many nodes each page has."""
        lower = self._words_at(starts + _LOWER_AT)
        wrong = (lower < _HEADER_SIZE) | (lower > self._page)
        if wrong.any():
            self._damaged(f"page {starts[np.argmax(wrong)] // self._page} is neither branch nor leaf")
        counts = (lower - _HEADER_SIZE) // 2
        self._refuse_crowded(starts, _HEADER_SIZE + (2 + _NODE_SIZE) * counts)
        return counts

    def _check_room(self, starts: np.ndarray, counts: np.ndarray, sizes: np.ndarray) -> None:
        """Nodes do not overlap: a page cannot hold more than it is long, however often it refers to one.

        sizes: of every node's key and what of its value is on the page, page by page.
        """
        before, ends = np.concatenate([[0], np.cumsum(sizes)]), np.cumsum(counts)
        self._refuse_crowded(starts, _HEADER_SIZE + (2 + _NODE_SIZE) * counts + before[ends] - before[ends - counts])

    def _refuse_crowded(self, starts: np.ndarray, taken: np.ndarray) -> None:
        crowded = np.flatnonzero(taken > self._page)
        if len(crowded):
            first = crowded[0]
            problem = f"take {taken[first]} bytes of its {self._page}"
            self._damaged(f"the nodes of page {starts[first] // self._page} {problem}")

    def _nodes(self, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return where each page's ``counts`` nodes start, page by page."""
        pages = np.repeat(starts, counts)
        number = np.arange(len(pages)) - np.repeat(np.cumsum(counts) - counts, counts)
        offsets = self._words_at(pages + _HEADER_SIZE + 2 * number)
        outside = (offsets < _HEADER_SIZE) | (offsets + _NODE_SIZE > self._page) | (offsets % 2 == 1)
        if outside.any():
            self._damaged(f"a node lies outside of its page at byte {pages[np.argmax(outside)]}")
        return pages + offsets

    def _page_starts(self, pages: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return where pages (uint64) start; each and the ``counts - 1`` after it lie within the file."""
        whole = len(self._data) // self._page
        outside = (pages < 2) | (pages > whole) | (np.minimum(pages, whole).astype(np.int64) + counts > whole)
        if outside.any():
            self._damaged(f"page {pages[np.argmax(outside)]} is beyond its end ({len(self._data)} bytes)")
        return pages.astype(np.int64) * self._page

    def _words_at(self, places: np.ndarray) -> np.ndarray:
        """The u16 that stand at these even places, which lie within the file, as int64."""
        return self._words[places >> 1].astype(np.int64)

    def _bytes_at(self, starts: np.ndarray, sizes: np.ndarray) -> list[bytes]:
        """``sizes`` bytes from each of ``starts``: copied together, and cut up then."""
        if len(sizes) and sizes[0] and (sizes == sizes[0]).all():  # as keys of padded numbers are, like Caffe's
            blocks = self._data[starts[:, None] + np.arange(sizes[0])]
            keys: list[bytes] = blocks.view(f"V{sizes[0]}").ravel().tolist()
            return keys
        ends = np.cumsum(sizes)
        together = self._data[np.repeat(starts - (ends - sizes), sizes) + np.arange(int(sizes.sum()))].tobytes()
        return [together[start:end] for start, end in zip((ends - sizes).tolist(), ends.tolist(), strict=True)]

    def _damaged(self, problem: str) -> NoReturn:
        raise DataError(f"{self._path}: is a damaged LMDB, or cut short: {problem}; copy or make it again")
