"""MATLAB's .mat files of version 5 to 7, as much as a protocol file needs: numbers, texts, and cells of them.

SciPy's reader sets aside what an array's dimensions declare (896 bytes can declare 4 GB); here every item has to have
its bytes. An element is a tag (type and length, four bytes each; or, for up to four bytes of data, the length above
the type in one word) and its data, padded to eight bytes. A matrix is an element of elements: flags, dimensions, name,
then numbers or, for a cell, matrices. A packed element holds one other, deflated. Format: MathWorks' "MAT-File Format".
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from ..reading import inflate, unpacked_limit

_MATRIX, _PACKED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_UTF = {16: "utf-8", 17: "utf-16", 18: "utf-32"}
_NUMERIC = range(6, 16)  # classes: double, single, int8 to uint64
_CELL, _CHAR = 1, 4
_DEEPEST = 8  # cells within cells
_HEAD = 128
_MOST_ELEMENTS = 400_000  # of a file: five a name, and the largest protocols list some ten thousand
_BEGINNING = 512  # bytes of a matrix that hold its name


class NewerFormatError(ValueError):
    """MATLAB 7.3, which is HDF5."""


def read_mat(raw: bytes, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """{name: array} of the ``wanted`` variables that are there; a cell is an array of objects, a text one of str.

    Raises ValueError for anything that is no such file; NewerFormatError for MATLAB 7.3.
    """
    if len(raw) < _HEAD or raw[126:128] not in (b"IM", b"MI"):
        raise ValueError("it does not start as MATLAB's files do")
    order = "<" if raw[126:128] == b"IM" else ">"
    version = struct.unpack_from(order + "H", raw, 124)[0] >> 8
    if version == 2:
        raise NewerFormatError("it is of MATLAB 7.3")
    if version != 1:
        raise ValueError(f"its version is {version}; expected 1")
    return _Mat(order, wanted, unpacked_limit(len(raw))).variables(raw)


class _Mat:
    """room: bytes that may still be unpacked; ``_left``: elements that may still be read."""

    def __init__(self, order: str, wanted: Collection[str], room: int) -> None:
        self._order, self._wanted, self._room, self._left = order, wanted, room, _MOST_ELEMENTS

    def variables(self, raw: bytes) -> dict[str, np.ndarray]:
        content = {}
        for kind, element in self._elements(raw[_HEAD:]):
            if kind == _PACKED:
                beginning = zlib.decompressobj().decompress(element, _BEGINNING)
                if self._name(beginning[8:]) not in self._wanted:
                    continue
                unpacked = inflate(element, self._room)
                self._room -= len(unpacked)
                kind, element = next(self._elements(unpacked), (0, b""))
            if kind == _MATRIX and self._name(element) in self._wanted:
                content[self._name(element)] = self._matrix(element, 0)
        return content

    def _elements(self, raw: bytes) -> Iterator[tuple[int, bytes]]:
        """(type, data) of one element after the other."""
        position = 0
        while position + 8 <= len(raw):
            kind, length = struct.unpack_from(self._order + "II", raw, position)
            start = position + 8
            if kind >> 16:  # the short form
                kind, length, start = kind & 0xFFFF, kind >> 16, position + 4
            end = start + length
            if end > len(raw) or (start == position + 4 and length > 4):
                raise ValueError(f"an element of {length} bytes leaves the {len(raw)} that hold it")
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"it has more than {_MOST_ELEMENTS} elements")
            yield kind, raw[start:end]
            position = end if kind == _PACKED else end + -end % 8

    def _name(self, matrix: bytes) -> str:
        """Return the name of a matrix, from its first bytes; "" where it has none."""
        elements = self._elements(matrix)
        try:
            _, _, (_, name) = next(elements), next(elements), next(elements)
        except (StopIteration, ValueError):
            return ""
        return name.decode("latin-1")

    def _matrix(self, raw: bytes, depth: int) -> np.ndarray:
        if not raw:
            return np.empty((0, 0))
        elements = self._elements(raw)
        (_, flags), (_, dimensions), _ = (next(elements, (0, b"")) for _ in range(3))
        if len(flags) != 8 or len(dimensions) < 8 or len(dimensions) % 4:
            raise ValueError("a matrix lacks its flags or dimensions")
        kind = struct.unpack(self._order + "II", flags)[0] & 0xFF
        shape = struct.unpack(f"{self._order}{len(dimensions) // 4}i", dimensions)
        if min(shape) < 0:
            raise ValueError(f"a matrix has the dimensions {shape}")
        if kind == _CELL:
            return self._cell(elements, shape, len(raw), depth)
        of_type, data = next(elements, (0, b""))
        if kind == _CHAR:
            return self._texts(of_type, data, shape)
        if kind not in _NUMERIC or of_type not in _NUMBERS:
            raise ValueError(f"a matrix is of the class {kind}; expected numbers, text or a cell")
        # As they are stored, which is as narrow as MATLAB finds; the class is what MATLAB computes with.
        return self._shaped(np.frombuffer(data, self._order + _NUMBERS[of_type]), shape)

    def _cell(self, elements: Iterator[tuple[int, bytes]], shape: tuple[int, ...], size: int, depth: int) -> np.ndarray:
        if depth >= _DEEPEST:
            raise ValueError("cells lie within cells within cells")
        count = math.prod(shape)
        if 8 * count > size:
            raise ValueError(f"a cell declares {count} matrices in {size} bytes")
        cells = np.empty(count, object)
        for place in range(count):
            kind, element = next(elements, (0, b""))
            if kind != _MATRIX:
                raise ValueError(f"a cell declares {count} matrices, and holds {place}")
            cells[place] = self._matrix(element, depth + 1)
        return self._shaped(cells, shape)

    def _texts(self, of_type: int, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
        """A text a row."""
        if of_type in _UTF:
            order = {"<": "-le", ">": "-be"}[self._order] if of_type > 16 else ""
            letters = np.array(list(data.decode(_UTF[of_type] + order)), "U1")
        elif of_type in _NUMBERS and of_type not in (7, 9):
            codes = np.frombuffer(data, self._order + _NUMBERS[of_type])
            letters = np.array([chr(code) for code in codes.tolist()], "U1")
        else:
            raise ValueError(f"a text is stored by the type {of_type}")
        if letters.size == 0:
            return np.empty(0, "U1")
        rows = self._shaped(letters, shape).reshape(shape[0], -1)
        return np.array(["".join(row) for row in rows.tolist()])

    @staticmethod
    def _shaped(values: Any, shape: tuple[int, ...]) -> np.ndarray:
        if values.size != math.prod(shape):
            raise ValueError(f"a matrix declares {math.prod(shape)} values, and holds {values.size}")
        return values.reshape(shape, order="F")
