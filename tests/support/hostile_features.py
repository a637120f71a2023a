"""Features files made to fill memory: {name: (content, what the message says)}."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

import numpy as np


def npy(shape: tuple[int, ...], descr: str = "<f4", data: bytes = b"") -> bytes:
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def archive(method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:
        for name, content in members.items():
            made.writestr(f"{name}.npy", content)
    return stream.getvalue()


def bomb() -> bytes:
    """400 MB of zeros as features, packed into 400 kB."""
    return archive(features=npy((100_000, 1000), data=bytes(400_000_000)), names=npy((1,), "<U1", b"a\0\0\0"))


def with_method(raw: bytes, method: int) -> bytes:
    """Every member said to be packed in another way."""
    out = bytearray(raw)
    for magic, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = out.find(magic)
        while at >= 0:
            out[at + offset : at + offset + 2] = struct.pack("<H", method)
            at = out.find(magic, at + 4)
    return bytes(out)


GOOD = {"features": npy((2, 2), data=np.ones(4, "<f4").tobytes()), "names": npy((2,), "<U1", b"a\0\0\0b\0\0\0")}
FEATURES: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "bomb": (bomb, "far more than a file of"),
    "huge-shape": (archive(**{**GOOD, "features": npy((2, 1 << 40))}), "is no features file .* declares"),
    "huge-product": (archive(**{**GOOD, "features": npy((1 << 40, 1 << 40))}), "is no features file .* declares"),
    "negative-shape": (archive(**{**GOOD, "features": npy((-1, 4))}), "is no features file"),
    "huge-text": (archive(**{**GOOD, "names": npy((2,), "<U500000000")}), "is no features file .* declares"),
    "objects": (archive(**{**GOOD, "names": npy((2,), "|O")}), "Python objects"),
    "nothing-each": (archive(**{**GOOD, "features": npy((1 << 40, 2), "|V0")}), "is no features file"),
    "no-letter": (archive(**{**GOOD, "names": npy((2,), "<U1", b"\xff" * 8)}), "is no features file"),
    "long-header": (
        archive(**{**GOOD, "names": b"\x93NUMPY\x02\x00" + struct.pack("<I", 5_000_000) + b"[" * 5_000_000}),
        "is no features file",
    ),
    "lzma": (with_method(archive(**GOOD), 14), "packed by method 14"),
    "unknown-method": (with_method(archive(**GOOD), 97), "packed by method 97"),
    "deep-settings": (
        archive(**GOOD, settings=npy((), "<U100000", ("[" * 100_000).encode("utf-32-le"))),
        "its settings are no JSON object",
    ),
}
