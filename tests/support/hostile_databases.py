"""Databases, zips and records that declare more than they hold, or hold one thing again and again."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from support.data_writers import encoded, image_record, random_image, tagged, write_lmdb


def lmdb_of_one_record(folder: Path) -> bytes:
    """A leaf page whose offsets all point to its one record, which is 3 kB long."""
    raw = bytearray((write_lmdb(folder, [b"x" * 1900]) / "data.mdb").read_bytes())
    page = next(at for at in range(8192, len(raw), 4096) if struct.unpack_from("<H", raw, at + 10)[0] & 2)
    (offset,) = struct.unpack_from("<H", raw, page + 16)
    count = (offset - 16) // 2
    struct.pack_into("<H", raw, page + 12, 16 + 2 * count)
    raw[page + 16 : page + 16 + 2 * count] = struct.pack("<H", offset) * count
    return bytes(raw)


def lmdb_of_shared_pages(folder: Path) -> bytes:
    """Two hundred records of a megabyte each, which are all the same overflow pages."""
    values = [tagged(5, 1) * 500_000, *[b"x" * 5000] * 200]
    raw = bytearray((write_lmdb(folder, values) / "data.mdb").read_bytes())
    nodes = []
    for page in range(8192, len(raw), 4096):
        number, _, flags, lower = struct.unpack_from("<QHHH", raw, page)
        if flags == 2 and number == page // 4096:
            nodes += [page + offset for (offset,) in struct.iter_unpack("<H", raw[page + 16 : page + lower])]
    first = min(nodes, key=lambda node: bytes(raw[node + 8 : node + 16]))  # by the key
    for node in nodes:
        raw[node : node + 4] = raw[first : first + 4]
        raw[node + 16 : node + 24] = raw[first + 16 : first + 24]
    return bytes(raw)


def hdf5(folder: Path, name: str, count: int) -> bytes:
    """Data sets of 200 MB each that are stored nowhere."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(folder / "made.h5", "w") as file:
        for number in range(count):
            file.create_dataset(name.format(number), (50_000_000 // 4, 4), "f4", chunks=(1000, 4), compression="gzip")
    return (folder / "made.h5").read_bytes()


def zipped_image() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a/1.bmp", bytes(200_000_000))
    return stream.getvalue()


def split_record() -> bytes:
    """A record's first part, then one that declares half a gigabyte."""
    magic = struct.pack("<I", 0xCED7230A)
    first = image_record(0, 0, encoded(random_image(0)))
    first = first[: len(first) // 4 * 4]
    return magic + struct.pack("<I", 1 << 29 | len(first)) + first + magic + struct.pack("<I", 3 << 29 | (1 << 29) - 1)
