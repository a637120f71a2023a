"""Solver states made to fill memory: {name: (the archive of their extras, what the message says)}."""

from __future__ import annotations

from collections.abc import Callable

from support.data_writers import tagged
from support.hostile_features import archive, npy, with_method


def solverstate(extras: bytes) -> bytes:
    blob = b"\x3a\x04\x0a\x02\x01\x01\x2a\x04" + bytes(4)
    name = b"x.caffemodel"
    head = tagged(1, 5) + bytes([2 << 3 | 2, len(name)]) + name + tagged(4, 1) + bytes([3 << 3 | 2, len(blob)]) + blob
    return head + tagged(1000, 0)[:-1][:0] + b"\xc2\x3e" + tagged(0, len(extras))[1:] + extras


def json_member(text: str) -> bytes:
    raw = text.encode()
    return npy((len(raw),), "|u1", raw)


EXTRAS = archive(json=json_member('{"dict": {"a": {"array": 0}}}'), **{"0": npy((1,), "<i8", bytes(8))})
STATES: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "no-archive": (b"PK", "is no solver state"),
    "method": (with_method(EXTRAS, 97), "is no solver state"),
    "damaged": (EXTRAS[:60] + bytes(20) + EXTRAS[80:], "is no solver state"),
    "bomb": (
        lambda: archive(json=json_member("{}"), **{"0": npy((400_000_000,), "|u1", bytes(400_000_000))}),
        "declare",
    ),
    "empty-node": (archive(json=json_member('{"dict": {"a": {}}}')), "is no solver state"),
    "no-array": (archive(json=json_member('{"dict": {"a": {"array": 7}}}')), "is no solver state"),
    "list-is-number": (archive(json=json_member('{"list": 3}')), "is no solver state"),
    "deep": (archive(json=json_member('{"list": [' * 100_000)), "is no solver state"),
    "no-table": (archive(json=json_member("3")), "is no solver state"),
}
