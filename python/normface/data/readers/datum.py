"""Caffe's Datum, the message that its databases hold: pixels (encoded or bare) and a label. Fields: caffe.proto."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from caffeport.formats import wire

from ...errors import DataError
from ..decoding import MAX_PIXELS

CHANNELS, HEIGHT, WIDTH, DATA, LABEL, FLOATS, ENCODED = range(1, 8)


@dataclass(frozen=True)
class Datum:
    """``data`` are bytes (C, H, W), or an encoded image's; ``floats`` float32 in place of them, else empty."""

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
        return shaped(np.frombuffer(self.data, np.uint8) if self.data else self.floats, self.shape, name)


def shaped(numbers: np.ndarray, shape: Sequence[int], name: str) -> np.ndarray:
    """Return a Datum's numbers as (C, H, W). Raises DataError, which names it, where they are not that many."""
    channels, height, width = shape
    if min(shape) < 1 or height * width > MAX_PIXELS or numbers.size != channels * height * width:
        raise DataError(
            f"{name}: declares {channels} x {height} x {width} numbers (channels, height, width), "
            f"and holds {numbers.size}"
        )
    return numbers.reshape(channels, height, width)


def read_datum(raw: bytes, name: str) -> Datum:
    """Parse a Datum. Raises DataError, which names it, for bytes that are none."""
    numbers = {CHANNELS: 0, HEIGHT: 0, WIDTH: 0, LABEL: 0, ENCODED: 0}
    data = b""
    floats = bytearray()
    for number, kind, a, b in _fields(raw, name):
        if number in numbers and kind == wire.VARINT:
            numbers[number] = wire.signed(a)
        elif number == DATA and kind == wire.LENGTH:
            data = raw[a:b]
        elif number == FLOATS and kind in (wire.FIXED32, wire.LENGTH):
            floats += raw[a:b]
    if len(floats) % 4:
        raise DataError(f"{name}: is a damaged Datum (its float_data has {len(floats)} bytes)")
    return Datum(
        numbers[CHANNELS],
        numbers[HEIGHT],
        numbers[WIDTH],
        data,
        numbers[LABEL],
        np.frombuffer(bytes(floats), "<f4"),
        bool(numbers[ENCODED]),
    )


def _fields(raw: bytes, name: str) -> Iterator[tuple[int, int, int, int]]:
    try:
        yield from wire.fields(raw, 0, len(raw))
    except wire.WireError as error:
        raise DataError(f"{name}: is no Datum, or is damaged ({error})") from error
