"""The files of an index: NumPy's ``.npy``, written in pieces, and mapped into memory checked against what they hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError, shape_text
from ...reading import opened, parsing

NO_ARRAY = "is no array of an index, or is damaged; build it anew with normface index"
PIECE = 1 << 16
"""Rows that are copied at once."""


def write_array(path: Path, dtype: Any, shape: Sequence[int], parts: Iterable[np.ndarray]) -> None:
    """Write the parts one behind the other as one array. Raises DataError where the file cannot be written.

    Parts that do not make up the shape are a mistake of the caller's (ValueError). No file is mapped for writing:
    where the disk is full a write fails, and a touched page would end the process.
    """
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": tuple(shape)}
    count = 0
    try:
        with open(path, "wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for part in parts:
                numbers = np.ascontiguousarray(part, dtype)
                stream.write(numbers.data if numbers.size else b"")
                count += numbers.size
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    if count != math.prod(shape):
        raise ValueError(f"{path}: {count} numbers written for the shape {shape_text(shape)}")


def read_array(path: Path, dtype: Any, shape: Sequence[int | None]) -> np.ndarray:
    """Map an array of this type and shape (None: any length) into memory, read-only.

    Raises DataError, naming the file, for another array and where it holds less than it declares.
    """
    wanted = np.dtype(dtype)
    with opened(path) as (stream, size), parsing(path, NO_ARRAY):
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("it is in another format of NumPy's")
        found, fortran, kind = np.lib.format.read_array_header_1_0(stream)
        start = stream.tell()
        fits = len(found) == len(shape) and all(want in (None, have) for want, have in zip(shape, found, strict=True))
        if kind != wanted or fortran or not fits:
            expected = "x".join("N" if side is None else str(side) for side in shape)
            raise ValueError(f"it holds {shape_text(found)} {kind}; expected {expected} {wanted}")
        if min(found, default=0) < 0 or start + math.prod(found) * wanted.itemsize != size:
            raise ValueError(f"it declares {shape_text(found)} {kind}, and has {size} bytes")
        if not math.prod(found):
            return np.empty(found, wanted)
        return np.memmap(stream, wanted, "r", start, found)


def blocks(array: np.ndarray, rows: int = PIECE) -> Iterable[np.ndarray]:
    """Yield an array's rows, some at a time."""
    for start in range(0, len(array), rows):
        yield array[start : start + rows]
