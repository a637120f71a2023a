"""Protobuf's wire format, as little of it as streaming needs: varints, tags, and walking a message.

Weights and ONNX files are written and read piece by piece with these, so that hundreds of megabytes
never pass through protobuf objects. Format: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from typing import TypeAlias

import numpy as np

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_FIXED_SIZE = {FIXED64: 8, FIXED32: 4}

MOST_FIELDS = 200_000
"""Fields of one file: a net of a thousand layers has 15,000. Numbers that are not packed count as one field a run."""

Buffer: TypeAlias = "bytes | mmap | memoryview"


class WireError(ValueError):
    """The bytes are no protobuf message; the message says where they go wrong."""


def varint(value: int) -> bytes:
    """Return ``value`` (an int64; negative ones take ten bytes) as a varint."""
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def header(number: int, length: int) -> bytes:
    """Return the tag and length of a length-delimited field; its ``length`` bytes follow."""
    return varint(number << 3 | LENGTH) + varint(length)


def delimited(number: int, payload: bytes) -> bytes:
    """Return a whole length-delimited field: string, bytes, packed array or message."""
    return header(number, len(payload)) + payload


def read_varint(data: Buffer, position: int, end: int) -> tuple[int, int]:
    """Return (value, next position); raises WireError past ``end`` or after ten bytes."""
    value = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
        if shift > 63:
            raise WireError(f"a number longer than ten bytes at byte {position}")
    raise WireError(f"the data ends inside a number, at byte {position}")


def fields(data: Buffer, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Walk a message: (field number, wire type, a, b) for each field.

    For LENGTH and fixed-size fields ``a`` and ``b`` bound the payload within ``data``; for VARINT
    ``a`` is the value and ``b`` the next position. Raises WireError where a field leaves the message.
    """
    position = start
    while position < end:
        at = position
        tag, position = read_varint(data, position, end)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise WireError(f"field number 0 at byte {at}")
        if kind == VARINT:
            value, position = read_varint(data, position, end)
            yield number, kind, value, position
            continue
        if kind == LENGTH:
            length, position = read_varint(data, position, end)
        elif kind in _FIXED_SIZE:
            length = _FIXED_SIZE[kind]
        else:
            raise WireError(f"field {number} has the unknown wire type {kind} at byte {at}")
        if position + length > end:
            raise WireError(f"field {number} at byte {at} needs {length} bytes, but only {end - position} are left")
        yield number, kind, position, position + length
        position += length


class Walk:
    """Walks the messages of one file, up to ``most`` fields in all: tiny fields by the million would take minutes.

    Raises WireError beyond that.
    """

    def __init__(self, data: Buffer, most: int = MOST_FIELDS) -> None:
        self.data, self._most, self._left = data, most, most

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Walk a message of the file, as :func:`fields` does."""
        for field in fields(self.data, start, end):
            if not self._left:
                raise WireError(f"more than {self._most} fields, which nothing of Caffe's has, before byte {field[3]}")
            self._left -= 1
            yield field


def unpacked(data: Buffer, tag: int, start: int, end: int, stride: int) -> int:
    """Count the numbers that stand ``stride`` bytes apart from ``start`` on, ``tag`` before each; the first does.

    Numbers that are not packed come by the million, too many to be walked one by one.
    """
    most = (end - start) // stride
    count, window = 1, 64
    while count < most:  # in growing windows: a look at all that is left, at every short run, would be quadratic
        window = min(2 * window, most - count)
        tags = np.ndarray((window,), "u1", buffer=data, offset=start + count * stride, strides=(stride,))
        different = np.flatnonzero(tags != tag)
        if different.size:
            return count + int(different[0])
        count += window
    return count


def signed(value: int) -> int:
    """Return a varint read as int64."""
    return value - (1 << 64) if value >> 63 else value
