"""A zip's directory, of random zips, whole and damaged, as Python's zipfile finds it."""

from __future__ import annotations

import io
import random
import struct
import zipfile

import pytest
from normface.zip_directory import read_directory, refuse_more

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")
NAMES = ("a/b.jpg", "é.png", "a/", "x" * 300, "\\a.jpg", "日/1.jpg")


def written(random_: random.Random) -> bytes:
    stream = io.BytesIO(b"before" * random_.choice((0, 0, 1)))
    with zipfile.ZipFile(stream, "a") as archive:
        for number in range(random_.randrange(5)):
            entry = zipfile.ZipInfo(random_.choice(NAMES))
            entry.compress_type = random_.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            entry.extra = random_.choice((b"", struct.pack("<2H", 7, 3) + b"abc"))
            entry.comment = random_.choice((b"", b"PK\x01\x02"))
            with archive.open(entry, "w", force_zip64=number % 2 == 1) as member:
                member.write(bytes(random_.randrange(100)))
        archive.comment = random_.choice((b"", b"of the archive"))
    return stream.getvalue()


def wide(raw: bytes) -> bytes:
    """The zip with its last member's numbers in 64 bits, and the end of the directory, too."""
    at, end = raw.rindex(b"PK\x01\x02"), raw.rindex(b"PK\x05\x06")
    entry = list(struct.unpack("<4s6H3L5H2L", raw[at : at + 46]))
    name = raw[at + 46 : at + 46 + entry[10]]
    extra = struct.pack("<2H3Q", 1, 24, entry[9], entry[8], entry[16])
    entry[8] = entry[9] = entry[16] = 0xFFFFFFFF
    entry[11], entry[12] = len(extra), 0
    start = struct.unpack("<L", raw[end + 16 : end + 20])[0]
    table = raw[start:at] + struct.pack("<4s6H3L5H2L", *entry) + name + extra
    count = struct.unpack("<H", raw[end + 10 : end + 12])[0]
    last = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(table), start)
    last += struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(table), 1)
    return raw[:start] + table + last + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, *[65535] * 2, *[2**32 - 1] * 2, 0)


def by_zipfile(raw: bytes) -> list[tuple] | str:
    try:
        entries = zipfile.ZipFile(io.BytesIO(raw)).infolist()
    except Exception:  # of all sorts, for damaged ones
        return "refused"
    return [
        (one.filename, one.header_offset, one.compress_size, one.file_size, one.compress_type, one.CRC, one.flag_bits)
        for one in entries
    ]


def by_us(raw: bytes) -> list[tuple] | str:
    try:
        names, members = read_directory(io.BytesIO(raw), len(raw))
    except (ValueError, struct.error):
        return "refused"
    return [(name, *member) for name, member in zip(names, members.tolist(), strict=True)]


def test_whole_ones():
    random_ = random.Random(0)
    for number in range(500):
        raw = written(random_)
        assert by_us(raw) == by_zipfile(raw) != "refused", number


def test_numbers_of_64_bits():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.jpg", b"abc")
        archive.writestr("b.jpg", b"defg")
    raw = wide(stream.getvalue())
    assert by_us(raw) == by_zipfile(raw) and len(by_us(raw)) == 2


def test_damaged_ones():
    """zipfile looks at more of each member (its version, its other extra fields): then it alone refuses."""
    random_, outcomes = random.Random(1), set()
    for number in range(2000):
        raw = bytearray(written(random_))
        start = max(raw.find(b"PK\x01\x02"), 0)
        for _ in range(random_.choice((1, 2))):
            raw[random_.randrange(start, len(raw))] = random_.choice((0, 1, 5, 80, 255))
        raw = raw[: random_.choice((len(raw), len(raw), random_.randrange(len(raw)) + 1))]
        expected, found = by_zipfile(bytes(raw)), by_us(bytes(raw))
        outcomes.add((isinstance(expected, str), isinstance(found, str)))
        assert expected in (found, "refused") or found == "refused", number
    assert {(True, True), (False, False)} <= outcomes


def test_more_members_than_are_read():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}", b"")
    refuse_more(stream, len(stream.getvalue()), 3)
    with pytest.raises(ValueError, match="it has 3 members; at most 2 are read"):
        refuse_more(stream, len(stream.getvalue()), 2)
