"""The members of random tars, whole and damaged, as Python's tarfile finds them."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import pytest
from normface.data.readers.tar_members import members
from support.hostile_archives import END, header, padded, pax, record, sparse

FORMATS = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)
NAMES = ("a/b.jpg", "é.png", "x" * 90 + "/" + "y" * 60 + ".jpg", "../a", "/b/c.cls", "d/")
LONG = "n" * 300 + "/a.jpg"
KINDS = (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, b"V")


def write(path: Path, random_: random.Random) -> None:
    form = random_.choice(FORMATS)
    everywhere = {"comment": "0123abc"} if form == tarfile.PAX_FORMAT and random_.random() < 0.3 else {}
    with tarfile.open(path, "w", format=form, pax_headers=everywhere) as archive:
        for number in range(random_.randrange(everywhere != {}, 6)):
            name = random_.choice(NAMES if form == tarfile.USTAR_FORMAT else (*NAMES, LONG))
            member = tarfile.TarInfo(name)
            member.type = random_.choice((*[tarfile.REGTYPE] * 8, *KINDS))
            member.linkname = random_.choice(NAMES[:2]) if member.type in KINDS[1:3] else ""
            member.size = random_.choice((0, 1, 511, 512, 513, 2000)) if member.isreg() or number % 2 else 0
            member.mtime = random_.choice((0, 0, 0, 1.5))  # which takes a PAX header, as webdataset's own writer makes
            archive.addfile(member, io.BytesIO(bytes(member.size)) if member.isreg() else None)
            if member.type == b"V":
                archive.fileobj.write(padded(bytes(member.size)))
                archive.offset += len(padded(bytes(member.size)))


def by_tarfile(path: Path) -> list[tuple]:
    with open(path, "rb") as stream:
        archive = tarfile.open(fileobj=stream, mode="r:", errors="replace")  # noqa: SIM115 - read here
        found = []
        for one in archive:
            if one.sparse is not None:
                return [*found, (one.name, one.isreg(), "sparse")]
            found.append((one.name, one.offset_data, one.size, one.isreg()))
        stream.seek(archive.offset)
        assert stream.read(512) == bytes(512)
        return found


def by_us(path: Path) -> list[tuple]:
    with open(path, "rb") as stream:
        found = []
        for one in members(stream, path.stat().st_size):
            found.append((one.name, one.regular, "sparse") if one.sparse else one[:4])
        return found


def outcome(read, path: Path) -> list[tuple] | str:
    try:
        return read(path)
    except Exception as error:  # of all sorts, for damaged ones
        # Python's older versions take PAX records that are damaged (gh-121285); the tar itself is then no longer sure.
        return "other" if "PAX record" in str(error) else "refused"


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [False, True])
def test_they_are_those_that_tarfile_finds(damaged, tmp_path):
    random_ = random.Random(1)
    path, outcomes = tmp_path / "a.tar", set()
    for number in range(2000):
        write(path, random_)
        if damaged:
            raw = bytearray(path.read_bytes())
            for _ in range(random_.choice((1, 1, 2))):
                raw[random_.randrange(min(len(raw), 2600))] = random_.choice((0, 32, 48, 49, 56, 255, 130))
            path.write_bytes(raw[: random_.choice((len(raw), len(raw), random_.randrange(len(raw))))])
        expected, found = outcome(by_tarfile, path), outcome(by_us, path)
        outcomes.add(found if isinstance(found, str) else "")
        assert found in (expected, "other"), number
    assert outcomes == ({"", "refused", "other"} if damaged else {""})


def changed(raw: bytes, start: int, content: bytes, signed: bool = False) -> bytes:
    """A header with other bytes from ``start`` on, and the sum that it then has."""
    raw = raw[:start] + content + raw[start + len(content) :]
    blank = raw[:148] + b" " * 8 + raw[156:]
    total = sum(byte - 256 if signed and byte > 127 else byte for byte in blank)
    return raw[:148] + b"%06o\0 " % total + raw[156:]


FIRST, ABC = header("a.jpg", 3), padded(b"abc")
IMAGE = header("b.jpg", 3) + ABC
ODD = {
    "empty": END,
    "old form": changed(FIRST, 156, bytes(345 - 156)) + ABC + IMAGE + END,
    "old form's folder": changed(header("d/"), 156, b"\0") + IMAGE + END,
    "size in binary": changed(FIRST, 124, b"\x80" + (3).to_bytes(11, "big")) + ABC + IMAGE + END,
    "size without an end": changed(FIRST, 124, b"000000000003") + ABC + IMAGE + END,
    "size with blanks": changed(FIRST, 124, b"          3 ") + ABC + IMAGE + END,
    "no size": changed(header("a.jpg"), 124, b" " * 12) + IMAGE + END,
    "signed sum": changed(header("\xe9" * 40 + ".jpg", 3), 0, b"\xe9" * 40, signed=True) + ABC + IMAGE + END,
    "blocks of zeros in between": IMAGE + bytes(512) + IMAGE + END,
    "a block after the end": IMAGE + END + bytes(10240),
    "long name, then PAX": header("x", 2, b"L") + padded(b"a") + pax(record(b"path", b"b.jpg")),
    "PAX, then long name": pax(record(b"path", b"c.jpg"))[:-1536] + header("x", 2, b"L") + padded(b"a")
    + IMAGE + END,
    "two long names": (header("x", 2, b"L") + padded(b"a") + header("x", 2, b"L") + padded(b"b")) + IMAGE + END,
    "PAX for all": header("x", 14, b"g") + padded(record(b"comment", b"")) + IMAGE + IMAGE + END,
    "a larger size by PAX": header("x", len(record(b"size", b"600")), b"x") + padded(record(b"size", b"600"))
    + FIRST + padded(bytes(600)) + IMAGE + END,
    "sparse, old": IMAGE + sparse(2),
    "sparse, PAX": IMAGE + pax(record(b"GNU.sparse.size", b"1") + record(b"GNU.sparse.map", b"0,1")) + END,
    "nothing": b"",
    "half a block": IMAGE[:256],
    "no end": IMAGE,
    "half of an end": IMAGE + bytes(100),
    "extension of nothing": header("x", 2, b"L") + padded(b"a") + END,
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_ones(name, tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(ODD[name])
    assert outcome(by_us, path) == outcome(by_tarfile, path)


@pytest.mark.parametrize("key", ["path", "size", "GNU.sparse.size"])
def test_a_header_for_all_members_names_none(key, tmp_path):
    content = record(key.encode(), b"1")
    (tmp_path / "a.tar").write_bytes(header("x", len(content), b"g") + padded(content) + IMAGE + END)
    with pytest.raises(ValueError, match="a PAX header gives all members one name or size"):
        by_us(tmp_path / "a.tar")
