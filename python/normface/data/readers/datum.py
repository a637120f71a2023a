"""Caffe's Datum, the message that its databases hold: pixels (encoded or bare) and a label. Fields: caffe.proto."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from caffeport.formats import wire

from ...errors import DataError
from ..decoding import MAX_PIXELS

CHANNELS, HEIGHT, WIDTH, DATA, LABEL, FLOATS, ENCODED = range(1, 8)
RUN = -1  # the kind of a run of numbers, beside wire's
FLOAT_STRIDE = 5  # bytes of such a number: a tag, and a float
FLOAT_TAG = FLOATS << 3 | wire.FIXED32


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


MOST_FIELDS = 1000
"""Of a Datum, where numbers of float_data that stand one behind the other count as one; caffe.proto gives it seven."""


def datum_fields(
    data: wire.Buffer, start: int, end: int, most: int = MOST_FIELDS
) -> Iterator[tuple[int, int, int, int]]:
    """Walk a Datum as wire.fields does, but yield a run of float_data that is not packed once, as the kind RUN.

    Its a and b bound the run, a number behind a tag each. Raises WireError for no Datum, or more than ``most`` fields.
    """
    position, left = start, most
    while position < end:
        run_end = end
        for field in wire.fields(data, position, end):
            left -= 1
            if left < 0:
                raise wire.WireError(f"more than {MOST_FIELDS} fields")
            number, kind, a, _ = field
            if number == FLOATS and kind == wire.FIXED32:
                run_end = a - 1 + FLOAT_STRIDE * wire.unpacked(data, FLOAT_TAG, a - 1, end, FLOAT_STRIDE)
                yield number, RUN, a - 1, run_end
                break
            yield field
        position = run_end


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
        elif number == FLOATS and kind == RUN:
            floats += np.frombuffer(raw, np.uint8)[a:b].reshape(-1, FLOAT_STRIDE)[:, 1:].tobytes()
        elif number == FLOATS and kind == wire.LENGTH:
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
        yield from datum_fields(raw, 0, len(raw))
    except wire.WireError as error:
        raise DataError(f"{name}: is no Datum, or is damaged ({error})") from error
