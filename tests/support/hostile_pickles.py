"""Pickles made to hang their reader or to fill memory: {name: (content, what the message says)}."""

from __future__ import annotations

import pickle
import struct

import numpy as np


def opcodes(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


def tuple_tree(depth: int) -> bytes:
    """A tuple of two references to a tuple of two references …: written out it has 2**depth leaves."""
    return b"\x8c\x01a\x94" + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86\x94" for i in range(depth))


def array_references(count: int) -> bytes:
    """One NumPy array of 200 kB, memoised, and ``count`` references to it."""
    raw = pickle.dumps(np.zeros(200_000, np.uint8), 4)[2:-1]
    raw = raw[9:] if raw[:1] == b"\x95" else raw
    return opcodes(
        b"](",
        raw,
        b"r\xff\x00\x00\x00",
        b"j\xff\x00\x00\x00" * (count - 1),
        b"e]",
        b"(",
        b"\x88" * (count // 2),
        b"e\x86",
    )


PICKLES: dict[str, tuple[bytes, str]] = {
    "name-is-a-tree": (opcodes(tuple_tree(60), b"\x8c\x01b\x93"), "is no whole pickle: STACK_GLOBAL"),
    "dtype-is-a-tree": (
        opcodes(tuple_tree(60), b"\x8c\x05numpy\x8c\x05dtype\x93h\x3c\x85R"),
        "a call of numpy.dtype",
    ),
    "images-are-a-tree": (opcodes(tuple_tree(60), b"]\x86"), "its first part is no list of encoded images"),
    "one-text-encoded-again": (
        opcodes(
            b"](\x8c\x07_codecs\x8c\x06encode\x93\x94X"
            + struct.pack("<I", 1 << 20)
            + b"a" * (1 << 20)
            + b"\x94\x8c\x06latin1\x94",
            b"h\x00h\x01h\x02\x86R" * 4000,
            b"e",
        ),
        "it makes far more bytes than it has",
    ),
    "nested-lists": (opcodes(b"]" * 100_000 + b"a" * 99_999), "holds a list"),
    "nested-tuples": (opcodes(b")" + b"\x85" * 200_000), "holds a tuple"),
    "many-opcodes": (opcodes(b"N0" * 2_000_000), "refused at byte"),
    "truths-without-end": (opcodes(b"(" + b"\x88" * 4_000_000), "more opcodes than 200000"),
}
