"""NumPy's ``.npz`` archives, read bounded: no pickle, nothing that a header declares without the bytes for it.

``numpy.load`` sets aside what an array's header declares, and unpacks what a zip's directory declares.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection
from typing import IO

import numpy as np

from .reading import printable, unpacked_limit
from .zip_directory import refuse_more

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""NumPy's own. A file packed by LZMA says itself how much memory it takes."""
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_PIECE = 1 << 20
_MOST_ARRAYS = 10_000


def array_names(stream: IO[bytes], size: int) -> list[str]:
    """Return the names of the arrays of an archive of ``size`` bytes."""
    refuse_more(stream, size, _MOST_ARRAYS)
    with zipfile.ZipFile(stream) as archive:
        return [entry.filename.removesuffix(".npy") for entry in archive.infolist()]


def read_arrays(stream: IO[bytes], size: int, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """{name: array} of an archive of ``size`` bytes: those ``wanted`` that it has, or all.

    Raises ValueError for arrays that declare more than they hold or than ``unpacked_limit``, and whatever zipfile,
    zlib and NumPy raise at damage: to be called within ``reading.parsing``.
    """
    refuse_more(stream, size, _MOST_ARRAYS)
    with zipfile.ZipFile(stream) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        chosen = {name: entry for name, entry in entries.items() if wanted is None or name in wanted}
        total = sum(entry.file_size for entry in chosen.values())
        if total > unpacked_limit(size):
            raise ValueError(f"its arrays declare {total} bytes, far more than a file of {size} bytes holds")
        return {name: _array(archive, entry, name) for name, entry in chosen.items()}


def array_rows(stream: IO[bytes], size: int, name: str) -> int:
    """Return the length of one array of an archive of ``size`` bytes, as its header declares it."""
    refuse_more(stream, size, _MOST_ARRAYS)
    with zipfile.ZipFile(stream) as archive:
        entry = archive.getinfo(f"{name}.npy")
        _check_method(entry, name)
        with archive.open(entry) as member:
            shape = _header(member, name)[0]
        return int(shape[0]) if shape else 0


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> np.ndarray:
    title = f'"{printable(name)}"'
    _check_method(entry, name)
    with archive.open(entry) as member:
        shape, fortran, dtype = _header(member, name)
        if dtype.hasobject or not dtype.itemsize:
            raise ValueError(f"{title} holds Python objects, which need allow_pickle and are not read")
        count, there = math.prod(shape), entry.file_size - member.tell()
        if min(shape, default=0) < 0 or count * dtype.itemsize != there:
            raise ValueError(f"{title} declares {count} items of {dtype}, and holds {there} bytes")
        array = np.empty(count, dtype)
        _fill(member, array.view(np.uint8) if count else np.empty(0, np.uint8))
        return array.reshape(shape, order="F" if fortran else "C")


def _check_method(entry: zipfile.ZipInfo, name: str) -> None:
    if entry.compress_type not in METHODS:
        raise ValueError(f'"{printable(name)}" is packed by method {entry.compress_type}; expected none or deflate')


def _header(member: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether it is in Fortran's order, dtype)"""
    version = np.lib.format.read_magic(member)
    if version not in _HEADERS:
        raise ValueError(f'"{printable(name)}" is in the format {version}; expected 1.0 or 2.0')
    header: tuple[tuple[int, ...], bool, np.dtype] = _HEADERS[version](member)
    return header


def _fill(member: IO[bytes], flat: np.ndarray) -> None:
    place = 0
    while piece := member.read(_PIECE):  # to the end, where zipfile looks at the checksum
        flat[place : place + len(piece)] = np.frombuffer(piece, np.uint8)
        place += len(piece)
    if place != flat.nbytes:
        raise ValueError("it is cut short")
