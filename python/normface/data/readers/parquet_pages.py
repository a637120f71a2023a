"""What a Parquet file's pages declare, by their headers, read before pyarrow unpacks them: few bytes may say 2 GB.

A column's chunk in a row group is pages one behind the other, a header and its data each; the footer says where it
begins. Both are Thrift's structs; the field numbers are those of parquet-format's parquet.thrift. The footer is read
here, too, since what pyarrow has in Python for a chunk ends the process where its statistics are damaged.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Any

from ...reading import unpacked_limit
from .thrift_compact import Struct, read_struct

_END = 8  # bytes behind the footer: its length, and a mark
_MOST_HEADER = 1 << 16  # bytes: statistics in it hold two values, which writers cut
_MOST_PAGES = 100_000
_UNPACKED, _PACKED = 2, 3  # PageHeader
_GROUPS = 4  # FileMetaData
_COLUMNS = 1  # RowGroup
_COLUMN = 3  # ColumnChunk
_PATH, _SIZE, _DATA_AT, _DICTIONARY_AT = 3, 7, 9, 11  # ColumnMetaData


class Pages:
    """Where the columns' pages lie. Raises ValueError for a footer that is none.

    handle: of the open file, which has ``size`` bytes.
    """

    def __init__(self, handle: int, size: int) -> None:
        end = os.pread(handle, _END, max(size - _END, 0))
        (length,) = struct.unpack("<I", end[:4]) if len(end) == _END else (size,)
        if length > size - _END:
            raise ValueError("its footer is longer than the file")
        footer, _ = read_struct(os.pread(handle, length, size - _END - length))
        self._groups = [_structs(group, _COLUMNS) for group in _structs(footer, _GROUPS)]

    def check(self, handle: int, size: int, group: int, names: Sequence[str]) -> None:
        """Raise ValueError where pages of the columns of these names declare far more than they can hold."""
        for chunk in self._groups[group] if group < len(self._groups) else []:
            column = chunk.get(_COLUMN)
            path = column.get(_PATH) if isinstance(column, dict) else None
            if not isinstance(path, list) or not path or not all(isinstance(part, bytes) for part in path):
                raise ValueError("a column without a name")
            if path[0].decode("utf-8", "replace") in names:
                self._check(handle, size, column)

    @staticmethod
    def _check(handle: int, size: int, column: Struct) -> None:
        start, length = column.get(_DATA_AT), column.get(_SIZE)
        if not isinstance(start, int) or not isinstance(length, int):
            raise ValueError("a column without a place")
        dictionary = column.get(_DICTIONARY_AT)
        if isinstance(dictionary, int) and dictionary > 0:  # some writers say 0 where there is none
            start = min(start, dictionary)
        if start < 0 or length < 0 or start + length > size:
            raise ValueError(f"a column lies beyond its {size} bytes")
        unpacked = unpacked_size(handle, start, start + length)
        if unpacked > unpacked_limit(length):
            raise ValueError(f"a column declares {unpacked} bytes, far more than its {length} hold")


def unpacked_size(handle: int, start: int, end: int) -> int:
    """Return what the pages between two places of a file unpack to, by their headers, in bytes.

    Raises ValueError where they are no pages.
    """
    total = 0
    for _ in range(_MOST_PAGES):
        if start >= end:
            return total
        header, length = read_struct(os.pread(handle, min(_MOST_HEADER, end - start), start))
        unpacked, packed = header.get(_UNPACKED), header.get(_PACKED)
        if not isinstance(unpacked, int) or not isinstance(packed, int) or min(unpacked, packed) < 0:
            raise ValueError(f"the page at byte {start} has no sizes")
        if packed > end - start - length:
            raise ValueError(f"the page at byte {start} declares {packed} bytes and has {end - start - length}")
        total += unpacked
        start += length + packed
    raise ValueError(f"a column has more than {_MOST_PAGES} pages")


def _structs(parent: Struct, number: int) -> list[Any]:
    values = parent.get(number)
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError(f"its footer has no field {number}")
    return values
