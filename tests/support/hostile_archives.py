"""Tars and Parquet tables made to hang their reader or to fill memory: {name: (content, what the message says)}."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest

from support.data_writers import encoded, random_image

Content = bytes | Callable[[], bytes]
END = bytes(1024)


def header(name: str, size: int = 0, kind: bytes = b"0") -> bytes:
    """A member's header; its content has to follow."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def pax(content: bytes, size: int | None = None) -> bytes:
    """A PAX header and an image that it is for; ``size``: what it declares in place of its length."""
    return header("x", len(content) if size is None else size, b"x") + padded(content) + header("a.jpg") + END


def record(keyword: bytes, value: bytes) -> bytes:
    """A PAX record, which begins with its own length."""
    rest = b" " + keyword + b"=" + value + b"\n"
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def sparse(entries: int) -> bytes:
    """An old GNU sparse file, whose map goes on for ``entries`` blocks of holes without end."""
    first = bytearray(header("a.jpg", 0, b"S"))
    first[386:410], first[482] = b"00000000000\0" + b"77777777777\0", 1
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    block = (b"77777777777\0" * 42).ljust(504, b"\0") + b"\1".ljust(8, b"\0")
    return bytes(first) + block * entries + END


TARS: dict[str, tuple[Content, str]] = {
    "beyond": (header("a.jpg", 1 << 32) + END, "is cut short in a.jpg"),
    "far-beyond": (header("a.jpg", 1 << 62) + END, "is cut short in a.jpg"),
    "escape-beyond": (header("../../\x1b[2J/1.jpg", 1 << 32) + END, r"is cut short in ../../\\x1b\[2J/1.jpg"),
    "escape": (
        header("a\x1b[2J/1.jpg", 10) + padded(b"0123456789") + END,
        r"a\\x1b\[2J/1\.jpg: is no JPEG",
    ),
    "upwards": (header("../../1.jpg", 4) + padded(b"root") + END, "holds no images"),
    "absolute": (header("/etc/passwd.jpg", 4) + padded(b"root") + END, "/etc/passwd.jpg: is no JPEG"),
    "link": (header("a.jpg", 0, b"2") + END, "holds no images"),
    "many-empty": (lambda: header("a.txt") * 100_000 + END, "holds no images"),
    "many-empty-images": (
        lambda: b"".join(header(f"{number}.jpg") for number in range(100_000)) + END,
        "0.jpg: is empty",
    ),
    "long-name-declares": (header("x", 1 << 32, b"L") + padded(b"a") + END, "is no tar file, or is damaged"),
    "many-folders": (lambda: header("a", 0, b"5") * 100_000 + END, "holds no images"),
    "many-pax": (lambda: pax(record(b"a", b"b"))[:-1024] * 50_000 + END, "a.jpg: is empty"),
    "long-names": (
        lambda: (header("x", 2, b"L") + padded(b"a")) * 20_000 + END,
        "is no tar file, or is damaged: the header before byte .* is of no member",
    ),
    "pax-declares": (pax(b"", 1 << 32), "is no tar file, or is damaged"),
    "pax-of-megabytes": (lambda: pax(record(b"a", b"b") * 500_000), "it has more than 246912 PAX records"),
    "pax-length": (pax(b"99999999999 path=a\n"), "is no tar file, or is damaged|holds no images"),
    "pax-digits": (pax(b"9" * 5000 + b" path=a\n"), "is no tar file, or is damaged"),
    "pax-sparse-map": (
        lambda: pax(record(b"GNU.sparse.size", b"1") + record(b"GNU.sparse.map", b"1,2" + b",1,2" * 250_000)),
        "has holes",
    ),
    "sparse": (lambda: sparse(20_000), "is no tar file, or is damaged|has holes"),
}


def table(content: bytes) -> bytes:
    """A Parquet table of one image, packed, without a dictionary."""
    arrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")
    stream = io.BytesIO()
    columns = arrow.table({"image": [content], "label": [1]})
    parquet.write_table(columns, stream, compression="zstd", use_dictionary=False, write_statistics=False)
    return stream.getvalue()


def declared_page() -> bytes:
    """A page that is said to unpack to 2 GB: 300 MB take as many bytes to say."""
    raw = table(bytes(300_000_000))
    return raw.replace(zigzag(300_000_010), zigzag(2**31 - 1))


def zigzag(value: int) -> bytes:
    """Thrift's varint of a number that is not negative."""
    value, out = value * 2, b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def cut_page() -> bytes:
    """A footer that is whole over pages that are zeros."""
    raw = bytearray(table(encoded(random_image(0))))
    raw[4:60] = bytes(56)
    return bytes(raw)


TABLES: dict[str, tuple[Content, str]] = {
    "bomb": (lambda: table(bytes(300_000_000)), "declares 300000010 bytes, far more than"),
    "declared": (declared_page, "declares 2147483647 bytes, far more than"),
    "zeros": (cut_page, "is no Parquet file of images: the page at byte 4 has no sizes"),
}
