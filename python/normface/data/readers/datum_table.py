"""The fields of many Datums and their places, read for all of them together: a field of each at a time, by NumPy.

A database of images is opened for its labels, and a million messages one after the other take Python ten seconds. The
few that have many more fields than the others are walked one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from caffeport.formats import wire

from .datum import (
    CHANNELS,
    DATA,
    ENCODED,
    FLOAT_STRIDE,
    FLOAT_TAG,
    FLOATS,
    HEIGHT,
    LABEL,
    MOST_FIELDS,
    RUN,
    WIDTH,
    datum_fields,
)

_LONGEST = 10  # bytes of a varint
_KNOWN = np.array([kind in (wire.VARINT, wire.FIXED64, wire.LENGTH, wire.FIXED32) for kind in range(8)])
_FIXED = np.array([{wire.FIXED64: 8, wire.FIXED32: 4}.get(kind, 0) for kind in range(8)], np.uint64)
_AT_ONCE = 65536  # messages that are walked together
_FEW = 64  # messages from which on walking them together is the faster way
_COLUMNS = {CHANNELS: 0, HEIGHT: 1, WIDTH: 2}


@dataclass(frozen=True)
class DatumTable:
    """The fields of N Datums, an array (N,) each. Of a field that stands twice the last counts, as in protobuf."""

    labels: np.ndarray
    """int64."""
    shapes: np.ndarray
    """int64 (N, 3): channels, height, width."""
    starts: np.ndarray
    """int64: where ``data`` starts in the file; its length is in ``sizes``."""
    sizes: np.ndarray
    encoded: np.ndarray
    """bool: ``data`` is an encoded image, no bare pixels."""
    floats: np.ndarray
    """bool: there is float_data."""
    damaged: np.ndarray
    """bool: the message is none; what else stands of it here is of no meaning."""


def scan_datums(data: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> DatumTable:
    """Return the table of the Datums at ``starts``, ``sizes`` long, within ``data``, uint8. Pixels are not touched."""
    count = len(starts)
    table = DatumTable(
        labels=np.zeros(count, np.int64),
        shapes=np.zeros((count, 3), np.int64),
        starts=np.zeros(count, np.int64),
        sizes=np.zeros(count, np.int64),
        encoded=np.zeros(count, bool),
        floats=np.zeros(count, bool),
        damaged=np.zeros(count, bool),
    )
    for begin in range(0, count, _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        _scan(data, starts[part], sizes[part], DatumTable(*(getattr(table, one.name)[part] for one in fields(table))))
    return table


def _scan(data: np.ndarray, starts: np.ndarray, sizes: np.ndarray, table: DatumTable) -> None:
    messages = _Messages(data, starts, starts + sizes, table.damaged)
    steps = 0
    while len(rows := messages.going_on()) >= _FEW:
        if steps == MOST_FIELDS:
            table.damaged[rows] = True
            break
        steps += 1
        tags = messages.varints(rows)
        if (tags == tags[0]).all() and _scan_one(int(tags[0]), messages, rows, table):  # a program wrote all alike
            continue
        kinds, numbers = tags & 7, tags >> 3
        table.damaged[rows[~_KNOWN[kinds] | (numbers == 0)]] = True

        plain = np.flatnonzero(kinds == wire.VARINT)
        values = messages.varints(rows[plain]).view(np.int64)
        for number, column in (
            (CHANNELS, table.shapes[:, 0]),
            (HEIGHT, table.shapes[:, 1]),
            (WIDTH, table.shapes[:, 2]),
            (LABEL, table.labels),
            (ENCODED, table.encoded),
        ):
            chosen = np.flatnonzero(numbers[plain] == number)
            column[rows[plain[chosen]]] = values[chosen]

        lengths = _FIXED[kinds]
        long = kinds == wire.LENGTH
        lengths[long] = messages.varints(rows[long])
        chosen = long & (numbers == DATA)
        table.starts[rows[chosen]] = messages.at[rows[chosen]]
        table.sizes[rows[chosen]] = lengths[chosen].view(np.int64)
        single = (numbers == FLOATS) & (kinds == wire.FIXED32)
        table.floats[rows[(numbers == FLOATS) & long | single]] = True
        for place in np.flatnonzero(single).tolist():
            lengths[place] = messages.run_length(rows.item(place))
        messages.skip(rows, lengths)
    view = data.data
    for row in messages.going_on().tolist():
        _walk(datum_fields(view, messages.at.item(row), messages.ends.item(row), MOST_FIELDS - steps), table, row)


def _scan_one(tag: int, messages: _Messages, rows: np.ndarray, table: DatumTable) -> bool:
    """Take a field that all ``rows`` have at their place, and return whether it is one that an image's Datum has."""
    number, kind = tag >> 3, tag & 7
    if number == DATA and kind == wire.LENGTH:
        lengths = messages.varints(rows)
        table.starts[rows], table.sizes[rows] = messages.at[rows], lengths.view(np.int64)
        messages.skip(rows, lengths)
    elif kind == wire.VARINT and number in (CHANNELS, HEIGHT, WIDTH, LABEL, ENCODED):
        values = messages.varints(rows).view(np.int64)
        if number in _COLUMNS:
            table.shapes[rows, _COLUMNS[number]] = values
        else:
            (table.labels if number == LABEL else table.encoded)[rows] = values
    else:
        return False
    return True


def _walk(left: Iterator[tuple[int, int, int, int]], table: DatumTable, row: int) -> None:
    """Take the fields that are left of one message."""
    try:
        for number, kind, a, b in left:
            if kind == wire.VARINT:
                if number in _COLUMNS:
                    table.shapes[row, _COLUMNS[number]] = wire.signed(a)
                elif number == LABEL:
                    table.labels[row] = wire.signed(a)
                elif number == ENCODED:
                    table.encoded[row] = bool(a)
            elif number == DATA and kind == wire.LENGTH:
                table.starts[row], table.sizes[row] = a, b - a
            elif number == FLOATS and kind in (wire.LENGTH, RUN):
                table.floats[row] = True
    except wire.WireError:
        table.damaged[row] = True


class _Messages:
    """Messages walked side by side: where each one stands, and which turned out damaged."""

    def __init__(self, data: np.ndarray, starts: np.ndarray, ends: np.ndarray, damaged: np.ndarray) -> None:
        self._data, self.at, self.ends, self._damaged = data, starts.copy(), ends, damaged

    def going_on(self) -> np.ndarray:
        """Return the rows that are not damaged and have fields left."""
        return np.flatnonzero((self.at < self.ends) & ~self._damaged)

    def varints(self, rows: np.ndarray) -> np.ndarray:
        """Read a varint of each of ``rows``, uint64; one that its message ends in, or that is too long, is damage."""
        whole = len(rows) == len(self.at)  # then they are all, in order
        at, ends = (self.at, self.ends) if whole else (self.at[rows], self.ends[rows])
        if whole and (at < ends).all():
            first = self._data[at]
            if first.max(initial=0) < 0x80:  # as tags and most numbers are
                self.at += 1
                return first.astype(np.uint64)
            at = at.copy()
        values = np.zeros(len(rows), np.uint64)
        waiting = np.arange(len(rows))
        for position in range(_LONGEST):
            inside = at[waiting] < ends[waiting]
            self._damaged[rows[waiting[~inside]]] = True
            waiting = waiting[inside]
            byte = self._data[at[waiting]]
            at[waiting] += 1
            values[waiting] |= (byte & 0x7F).astype(np.uint64) << np.uint64(7 * position)
            waiting = waiting[byte >= 0x80]
            if not len(waiting):
                break
        self._damaged[rows[waiting]] = True
        self.at[rows] = at
        return values

    def run_length(self, row: int) -> int:
        """Return the bytes from behind a number's tag to the end of the run of numbers that it begins."""
        start = self.at.item(row) - 1
        count = wire.unpacked(self._data.data, FLOAT_TAG, start, self.ends.item(row), FLOAT_STRIDE)
        return FLOAT_STRIDE * count - 1

    def skip(self, rows: np.ndarray, lengths: np.ndarray) -> None:
        """Pass over ``lengths`` bytes, uint64, of each of ``rows``; one that has fewer is damaged."""
        left = (self.ends[rows] - self.at[rows]).astype(np.uint64)
        self._damaged[rows[lengths > left]] = True
        self.at[rows] += np.minimum(lengths, left).astype(np.int64)
