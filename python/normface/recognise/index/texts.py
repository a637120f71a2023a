"""Texts of an index by number, of which a search reads a few: their UTF-8 in one array, where each ends in another."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError
from .arrays import blocks, read_array, write_array

_BYTES = 1 << 20


class Texts:
    """``texts[i]``, from the files ``STEM.npy`` and ``STEM_ends.npy`` of a folder, mapped into memory.

    Raises DataError where they do not fit together.
    """

    def __init__(self, folder: Path, stem: str, count: int | None = None) -> None:
        self._path = folder / f"{stem}.npy"
        self.bytes = read_array(self._path, np.uint8, (None,))
        self.ends = read_array(folder / f"{stem}_ends.npy", np.int64, (count,))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> str:
        start = int(self.ends[number - 1]) if number else 0
        end = int(self.ends[number])
        if not 0 <= start <= end <= len(self.bytes):
            raise DataError(f"{self._path}: is damaged at text {number}")
        return self.bytes[start:end].tobytes().decode("utf-8", "replace")


def write_texts(folder: Path, stem: str, texts: Sequence[str]) -> None:
    """Write what Texts reads; a name that UTF-8 cannot say (another encoding's) comes back with marks in it."""
    encoded = [text.encode("utf-8", "replace") for text in texts]
    ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
    whole = np.frombuffer(b"".join(encoded), np.uint8)
    write_array(folder / f"{stem}.npy", np.uint8, whole.shape, [whole])
    write_array(folder / f"{stem}_ends.npy", np.int64, ends.shape, [ends])


def join_texts(folder: Path, stem: str, parts: Sequence[Texts]) -> None:
    """Write the texts of all parts, one behind the other."""
    starts = np.cumsum([0, *(len(part.bytes) for part in parts)])
    ends: Iterable[np.ndarray] = (
        block + start for part, start in zip(parts, starts, strict=False) for block in blocks(part.ends)
    )
    pieces = itertools.chain.from_iterable(blocks(part.bytes, _BYTES) for part in parts)
    write_array(folder / f"{stem}.npy", np.uint8, (int(starts[-1]),), pieces)
    write_array(folder / f"{stem}_ends.npy", np.int64, (sum(map(len, parts)),), ends)
