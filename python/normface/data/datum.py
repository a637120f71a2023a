"""Caffe's Datum, the message that its databases hold: pixels (encoded or bare) and a label. Fields: caffe.proto."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from caffeport import wire

from ..errors import DataError
from .decoding import MAX_PIXELS

_CHANNELS, _HEIGHT, _WIDTH, _DATA, _LABEL, _FLOATS, _ENCODED = range(1, 8)


@dataclass(frozen=True)
class Datum:
    """``data`` are bytes (C, H, W), or an encoded picture's; ``floats`` float32 in place of them, else empty."""

    channels: int
    height: int
    width: int
    data: bytes
    label: int
    floats: np.ndarray
    encoded: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    def array(self, name: str) -> np.ndarray:
        """(C, H, W), uint8 or float32, of a Datum that is not encoded. Raises DataError where numbers are missing."""
        numbers = np.frombuffer(self.data, np.uint8) if self.data else self.floats
        channels, height, width = self.shape
        if min(self.shape) < 1 or height * width > MAX_PIXELS or numbers.size != channels * height * width:
            raise DataError(
                f"{name}: declares {channels} x {height} x {width} numbers (channels, height, width), "
                f"and holds {numbers.size}"
            )
        return numbers.reshape(self.shape)


def read_datum(raw: bytes, name: str) -> Datum:
    """Parse a Datum. Raises DataError, which names it, for bytes that are none."""
    numbers = {_CHANNELS: 0, _HEIGHT: 0, _WIDTH: 0, _LABEL: 0, _ENCODED: 0}
    data = b""
    floats = bytearray()
    for number, kind, a, b in datum_fields(raw, name):
        if number in numbers and kind == wire.VARINT:
            numbers[number] = wire.signed(a)
        elif number == _DATA and kind == wire.LENGTH:
            data = raw[a:b]
        elif number == _FLOATS and kind in (wire.FIXED32, wire.LENGTH):
            floats += raw[a:b]
    if len(floats) % 4:
        raise DataError(f"{name}: is a damaged Datum (its float_data has {len(floats)} bytes)")
    return Datum(
        numbers[_CHANNELS],
        numbers[_HEIGHT],
        numbers[_WIDTH],
        data,
        numbers[_LABEL],
        np.frombuffer(bytes(floats), "<f4"),
        bool(numbers[_ENCODED]),
    )


def datum_label(raw: wire.Buffer, start: int, end: int, name: str) -> int:
    """The label of the Datum between two positions; its pixels are passed over unread."""
    label = 0
    try:
        for number, kind, a, _ in wire.fields(raw, start, end):
            if number == _LABEL and kind == wire.VARINT:
                label = wire.signed(a)
    except wire.WireError as error:
        raise DataError(f"{name}: is no Datum, or is damaged ({error})") from error
    return label


def datum_fields(raw: bytes, name: str) -> Iterator[tuple[int, int, int, int]]:
    try:
        yield from wire.fields(raw, 0, len(raw))
    except wire.WireError as error:
        raise DataError(f"{name}: is no Datum, or is damaged ({error})") from error
