"""Changes to bytes, drawn from a seed: what a damaged disk, a cut download and an attacker make of a file."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence

EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
LONGEST = 1 << 16
"""Bytes: mutated files stay small, since most that a reader does with many bytes it does with few."""


def mutated(raw: bytes, random_: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Return ``raw`` after one to six changes, of which some take parts of ``others``."""
    data = bytearray(raw)
    for _ in range(random_.choice((1, 1, 1, 2, 3, 6))):
        random_.choice(_CHANGES)(data, random_, others)
    return bytes(data[:LONGEST])


def _flip(data: bytearray, random_: random.Random, others: Sequence[bytes]) -> None:
    if data:
        data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)


def _byte(data: bytearray, random_: random.Random, others: Sequence[bytes]) -> None:
    if data:
        data[random_.randrange(len(data))] = random_.choice((0, 1, 0x7F, 0x80, 0xFF, random_.randrange(256)))


def _cut(data: bytearray, random_: random.Random, others: Sequence[bytes]) -> None:
    del data[random_.randint(0, len(data)) :]


def _remove(data: bytearray, random_: random.Random, others: Sequence[bytes]) -> None:
    start = random_.randint(0, len(data))
    del data[start : start + random_.choice((1, 2, 4, 8, 64, 1000))]


def _repeat(data: bytearray, random_: random.Random, others: Sequence[bytes]) -> None:
    start = random_.randint(0, len(data))
    part = bytes(data[start : start + random_.choice((1, 2, 4, 16, 256))])
    data[start:start] = part * random_.choice((1, 2, 10, 200))


def _number(data: bytearray, random_: random.Random, others: Sequence[bytes]) -> None:
    """Write a number at the edge of its type over what is there."""
    size = random_.choice((1, 2, 4, 8))
    raw = struct.pack("<Q", random_.choice(EDGES))[:size]
    start = random_.randint(0, max(len(data) - size, 0))
    data[start : start + size] = raw if random_.random() < 0.7 else raw[::-1]


def _digits(data: bytearray, random_: random.Random, others: Sequence[bytes]) -> None:
    """Put another number in the place of one that is written out."""
    places = [match.span() for match in re.finditer(rb"-?\d+(\.\d+)?(e[+-]?\d+)?", bytes(data))]
    if places:
        start, end = random_.choice(places)
        data[start:end] = random_.choice(
            (b"0", b"-1", b"2147483648", b"99999999999999999999", b"1e400", b"nan", b"-inf", b"0x10", b"9" * 5000)
        )


def _splice(data: bytearray, random_: random.Random, others: Sequence[bytes]) -> None:
    if others:
        other = random_.choice(others)
        start, at = random_.randint(0, len(other)), random_.randint(0, len(data))
        data[at:at] = other[start : start + random_.choice((4, 32, 500))]


def _swap_lines(data: bytearray, random_: random.Random, others: Sequence[bytes]) -> None:
    lines = bytes(data).split(b"\n")
    if len(lines) > 2:
        a, b = random_.randrange(len(lines)), random_.randrange(len(lines))
        lines[a], lines[b] = lines[b], lines[a]
        data[:] = b"\n".join(lines)


_CHANGES: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], None], ...] = (
    _flip, _byte, _byte, _cut, _remove, _repeat, _number, _number, _digits, _splice, _swap_lines,
)  # fmt: skip
