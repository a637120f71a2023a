"""MATLAB files made to hang their reader or to fill memory: {name: (content, what the message says)}."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from support.hostile_dense import filled


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(of_class: int, shape: tuple[int, ...], content: bytes, name: str = "") -> bytes:
    dims = struct.pack(f"<{len(shape)}i", *shape)
    head = element(6, struct.pack("<II", of_class, 0)) + element(5, dims) + element(1, name.encode())
    return element(14, head + content)


def mat(*variables: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(variables)


def packed(raw: bytes) -> bytes:
    data = zlib.compress(raw, 9)
    return struct.pack("<II", 15, len(data)) + data


def deep_cell(depth: int) -> bytes:
    made = matrix(6, (1, 1), element(9, bytes(8)))
    for _ in range(depth):
        made = matrix(1, (1, 1), made)
    return made


MATS: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "cell-declares": (mat(matrix(1, (1 << 29, 1), b"", "imageList")), "declares 536870912 matrices"),
    "numbers-declare": (mat(matrix(6, (1 << 15, 1 << 15), element(9, bytes(8)), "labels")), "declares 1073741824"),
    "text-declares": (mat(matrix(4, (1 << 30, 1), element(4, b"a\0"), "imageList")), "declares 1073741824 values"),
    "nothing-wide": (mat(matrix(4, (1 << 30, 0), element(4, b""), "imageList")), "is no MATLAB file|has no labels"),
    "element-leaves": (mat(struct.pack("<II", 14, 1 << 31) + bytes(64)), "leaves the"),
    "packed-bomb": (
        lambda: mat(packed(matrix(9, (1, 300_000_000), element(2, bytes(300_000_000)), "labels"))),
        "unpacks to more than",
    ),
    "deep": (mat(matrix(1, (1, 1), deep_cell(2000), "imageList")), "cells lie within cells"),
    "negative": (mat(matrix(6, (-1, -1), element(9, bytes(8)), "labels")), "has the dimensions"),
    "many-elements": (mat(filled(element(1, b""))), "more than 400000 elements"),
    "many-cells": (
        mat(matrix(1, (1 << 18, 1), matrix(4, (1, 1), element(4, b"a\0")) * (1 << 18), "imageList")),
        "more than 400000 elements",
    ),
}
