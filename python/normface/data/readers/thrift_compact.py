"""Structs of Thrift's compact protocol, as Parquet's headers and footer are, without their schema: {field: value}.

A field is a byte (the difference of its number to the last one's above its type), and its value: integers as zigzag
varints, texts by their length, lists by a byte (count above the elements' type; a count from 15 on follows as a
varint); a byte 0 ends a struct. Format: Apache Thrift's thrift-compact-protocol.md.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from caffeport.formats.wire import read_varint

Struct: TypeAlias = "dict[int, Any]"

MOST_VALUES = 300_000
"""Of one struct: the footer of a thousand groups of five columns has some 200,000."""
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_DEEPEST = 12


def read_struct(raw: bytes, position: int = 0) -> tuple[Struct, int]:
    """Return the struct that begins at ``position``, and where it ends; doubles are left out.

    Raises ValueError for what is none, or has more than MOST_VALUES values.
    """
    reader = _Reader(raw, position)
    return reader.struct(0), reader.position


class _Reader:
    def __init__(self, raw: bytes, position: int) -> None:
        self.raw, self.position, self._left = raw, position, MOST_VALUES

    def struct(self, depth: int) -> Struct:
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        fields: Struct = {}
        number = 0
        while byte := self._byte():
            number = number + (byte >> 4) if byte >> 4 else self._integer()
            kind = byte & 15
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"it has more than {MOST_VALUES} values")
        if kind in (_TRUE, _FALSE, _BYTE):  # a truth in a list has a byte
            return self._byte()
        if kind in (_I16, _I32, _I64):
            return self._integer()
        if kind == _DOUBLE:
            self._bytes(8)
            return None
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind in (_LIST, _SET):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            return [self._element(head & 15, depth) for _ in range(self._counted(count))]
        if kind == _MAP:
            count = self._counted(self._varint())
            kinds = self._byte() if count else 0
            return [self._element(part, depth) for _ in range(count) for part in (kinds >> 4, kinds & 15)]
        if kind == _STRUCT:
            return self.struct(depth + 1)
        raise ValueError(f"it has a value of the type {kind}, which there is not")

    def _element(self, kind: int, depth: int) -> Any:
        if depth >= _DEEPEST:  # lists in lists
            raise ValueError("it is nested too deeply")
        return self._value(kind, depth + (kind in (_LIST, _SET, _MAP)))

    def _counted(self, count: int) -> int:
        if count > len(self.raw) - self.position:
            raise ValueError(f"it declares {count} elements in {len(self.raw) - self.position} bytes")
        return count

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, count: int) -> bytes:
        start = self.position
        if count > len(self.raw) - start:
            raise ValueError("it is cut short")
        self.position += count
        return self.raw[start : self.position]

    def _varint(self) -> int:
        value, self.position = read_varint(self.raw, self.position, len(self.raw))
        return value

    def _integer(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
