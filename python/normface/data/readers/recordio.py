"""InsightFace's packed data sets: MXNet's RecordIO (``.rec``), with its index (``.idx``) if there is one.

A record is a word 0xced7230a, a word with 3 bits of a flag and 29 of a length, and the payload, padded to four
bytes. A payload that holds the magic word itself, aligned, is cut there into parts (flag 1 first, 2 middle, 3 last;
0 is a whole record), between which the word is put back. A payload starts with MXNet's IRHeader: flag (uint32),
label (float32), id and id2 (uint64); flag > 0 says that so many float32 labels follow, of which the first counts.
Then comes the encoded image. Formats: dmlc-core's recordio.h and MXNet's recordio.py.

InsightFace's record 0 holds two labels a, b and no image: images are records 1 to a - 1, and the records a to
b - 1 describe identities.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...mapped_file import MappedFile
from ...reading import MAX_IMAGE, read_file
from .base import Reader

MAGIC = 0xCED7230A

_MAGIC_BYTES = struct.pack("<I", MAGIC)
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_START = np.dtype(
    [("magic", "<u4"), ("length", "<u4"), ("flag", "<u4"), ("label", "<f4"), ("ids", "<u8", 2), ("first", "<f4")]
)
"""A record's first 36 bytes; ``first`` is a label only if ``flag`` > 0."""

_HEADER = 24  # bytes of IRHeader
_EXACT = 2.0**24  # from here on float32 skips whole numbers
_LENGTH_BITS = 29
_LENGTH_MASK = (1 << _LENGTH_BITS) - 1
_WORDS = struct.Struct("<II")
_AT_ONCE = 65536  # records whose starts are looked at together


class RecordReader(Reader):
    """The images of a ``.rec``. Names are the index's keys, or the records' numbers where there is no index.

    shard: it is one of several, whose labels are numbered together; ``labels`` are those that it stores.
    """

    def __init__(self, path: Path, color: bool | None = True, *, shard: bool = False) -> None:
        index = path.with_suffix(".idx")
        self._file = MappedFile(path)
        keys, offsets = _read_index(index, path, self._file.size) if os.path.exists(index) else _scan(self._file)
        starts = _read_starts(self._file, keys, offsets)
        labels = np.where(starts["flag"] > 0, starts["first"], starts["label"]).astype(np.float64)
        chosen = _images_of(path, keys, starts, labels)
        keys, labels, self._offsets = keys[chosen], labels[chosen], offsets[chosen]
        super().__init__(path, [str(key) for key in keys.tolist()], color)
        wrong = np.flatnonzero(~(labels == np.floor(labels)) | (np.abs(labels) >= 2**31))
        if len(wrong):
            raise DataError(f"{self.title(int(wrong[0]))}: has the label {labels[wrong[0]]}; expected a whole number")
        if shard:
            self.labels = labels.astype(np.int64)
        else:
            self.take_labels(labels.astype(np.int64))

    def title(self, index: int) -> str:
        return f"{self.path}: record {self.names[index]}"

    def raw(self, index: int) -> bytes:
        payload = _read_record(self._file, self._offsets.item(index), self.title(index))
        flag = int.from_bytes(payload[:4], "little")
        return payload[_HEADER + 4 * flag :]


def _images_of(path: Path, keys: np.ndarray, starts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return which records are images (N,): all, or those that InsightFace's record 0 tells."""
    zero = np.flatnonzero(keys == 0)
    if len(zero) and starts["flag"][zero[0]] and starts["length"][zero[0]] == _HEADER + 4 * starts["flag"][zero[0]]:
        end = labels[zero[0]]
        chosen = (keys > 0) & (keys < end)
        if end >= _EXACT:  # too large for float32, which stores it; but descriptions hold no image
            chosen = (keys > 0) & (starts["length"] > _HEADER + 4 * starts["flag"].astype(np.int64))
        if not chosen.any():
            raise DataError(f"{path}: record 0 says that images are records 1 to {end - 1:.0f}, and there are none")
        return chosen
    return np.ones(len(keys), bool)


def _read_index(index: Path, path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(keys, offsets) of an index file, ``key TAB offset`` on each line, sorted by key."""
    try:
        table = np.array(read_file(index).split(), dtype=np.int64).reshape(-1, 2)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{index}: is no RecordIO index; expected a key and an offset on each line") from error
    if not len(table):
        raise DataError(f"{index}: is empty; without it {path.name} would be read from start to end")
    keys, offsets = table[np.argsort(table[:, 0], kind="stable")].T
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
        raise DataError(f"{index}: has the key {keys[twice[0]]} twice")
    outside = np.flatnonzero((offsets < 0) | (offsets + 8 > size))
    if len(outside):
        where = f"record {keys[outside[0]]} to byte {offsets[outside[0]]}"
        raise DataError(f"{index}: puts {where}, and {path.name} has {size} bytes; do the two belong together?")
    return keys, np.ascontiguousarray(offsets)


def _scan(file: MappedFile) -> tuple[np.ndarray, np.ndarray]:
    """(numbers, offsets) of all records, found by walking the file."""
    path = file.path
    if not file.size:
        raise DataError(f"{path}: is empty; expected RecordIO")
    offsets: list[int] = []
    data = file.array.data
    position, end, within = 0, len(data), False
    while position < end:
        start = position
        magic, word = _WORDS.unpack_from(data, position) if position + 8 <= end else (0, 0)
        if magic != MAGIC:
            _word(bytes(data[position : position + 8]), f"{path}: at byte {position}")  # says what is wrong
        length, kind = word & _LENGTH_MASK, word >> _LENGTH_BITS
        if within != (kind in (_MIDDLE, _LAST)):
            raise DataError(f"{path}: the parts of record {len(offsets)} are out of order, at byte {position}")
        position += 8 + length
        if position > end:
            raise DataError(f"{path}: is cut short in record {len(offsets)}; fetch it again")
        position += -length % 4
        if not within:
            offsets.append(start)
        within = kind in (_FIRST, _MIDDLE)
    if within:
        raise DataError(f"{path}: is cut short in record {len(offsets) - 1}; fetch it again")
    return np.arange(len(offsets)), np.array(offsets, np.int64)


def _read_starts(file: MappedFile, keys: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The first bytes of every record (N,), checked: what is wrong with any of them shows now, not in an hour."""
    data, path, size = file.array, file.path, len(file.array)
    starts = np.empty(len(offsets), _START)
    reach = np.arange(_START.itemsize)
    for begin in range(0, len(offsets), _AT_ONCE):
        wanted = np.minimum(offsets[begin : begin + _AT_ONCE, None] + reach, size - 1)
        starts[begin : begin + len(wanted)] = data[wanted].view(_START).reshape(-1)
    kinds = starts["length"] >> _LENGTH_BITS
    starts["length"] &= (1 << _LENGTH_BITS) - 1
    ends = offsets + 8 + starts["length"]
    # A magic word within the IRHeader itself; then the parts have to be joined to see it.
    for i in np.flatnonzero((starts["magic"] == MAGIC) & (kinds == _FIRST) & (starts["length"] < _HEADER + 4)):
        payload = _read_record(file, int(offsets[i]), f"{path}: record {keys[i]}")
        head = struct.pack("<II", MAGIC, len(payload)) + payload[: _HEADER + 4]
        starts[i] = np.frombuffer(head.ljust(_START.itemsize, b"\0"), _START)[0]
        kinds[i] = _WHOLE
    needed = _HEADER + 4 * starts["flag"].astype(np.int64)
    for wrong, problem in (
        (starts["magic"] != MAGIC, "does not start with RecordIO's magic word; does the .idx belong to it?"),
        ((kinds != _WHOLE) & (kinds != _FIRST), "starts in the middle of a record; does the .idx belong to it?"),
        (ends > size, "is cut short; fetch the file again"),
        ((kinds == _WHOLE) & (starts["length"] < needed), "is too short for an image and its labels"),
    ):
        if wrong.any():
            raise DataError(f"{path}: record {keys[np.argmax(wrong)]} {problem}")
    return starts


def _read_record(file: MappedFile, offset: int, title: str) -> bytes:
    """The payload of the record at ``offset``, its parts joined."""
    position = offset
    parts: list[bytes] = []
    kind = _WHOLE
    while not parts or kind in (_FIRST, _MIDDLE):
        length, kind = _word(file.read(position, 8, str, title), title)
        if bool(parts) != (kind in (_MIDDLE, _LAST)):
            raise DataError(f"{title}: its parts are out of order")
        start, position = position + 8, position + 8 + length + -length % 4
        if position - offset > MAX_IMAGE and start + length <= file.size:  # else it is cut short
            raise DataError(f"{title}: has more than {MAX_IMAGE} bytes, the most that is read of an image")
        parts.append(file.copy(start, length, str, title).tobytes())
    payload = _MAGIC_BYTES.join(parts)
    if len(payload) < _HEADER:
        raise DataError(f"{title}: is too short for an image's record")
    return payload


def _word(raw: bytes, title: str) -> tuple[int, int]:
    """(length, flag) of a record's first eight bytes."""
    if len(raw) < 8:
        raise DataError(f"{title}: the file ends within a record; fetch it again")
    magic, word = struct.unpack("<II", raw)
    if magic != MAGIC:
        raise DataError(f"{title}: expected RecordIO's magic word {MAGIC:#x}, got {magic:#x}")
    return word & ((1 << _LENGTH_BITS) - 1), word >> _LENGTH_BITS
