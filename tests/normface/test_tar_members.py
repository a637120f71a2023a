"""The members of random tars, whole and damaged, as Python's tarfile finds them."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import pytest
from normface.data.readers.tar_members import members

FORMATS = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)
NAMES = ("a/b.jpg", "é.png", "x" * 90 + "/" + "y" * 60 + ".jpg", "../a", "/b/c.cls", "d/")


def write(path: Path, random_: random.Random) -> None:
    with tarfile.open(path, "w", format=random_.choice(FORMATS)) as archive:
        for _ in range(random_.randrange(6)):
            member = tarfile.TarInfo(random_.choice(NAMES))
            member.type = random_.choice((tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE))
            member.size = random_.choice((0, 1, 511, 512, 513, 2000)) if member.isreg() else 0
            member.mtime = random_.choice((0, 0, 0, 1.5))  # which takes a PAX header, as webdataset's own writer makes
            archive.addfile(member, io.BytesIO(bytes(member.size)))


def by_tarfile(path: Path) -> list[tuple]:
    with open(path, "rb") as stream:
        archive = tarfile.open(fileobj=stream, mode="r:", errors="replace")  # noqa: SIM115 - read here
        found = [(one.name, one.offset_data, one.size, one.isreg(), one.sparse is not None) for one in archive]
        stream.seek(archive.offset)
        assert stream.read(512) == bytes(512)
        return found


def by_us(path: Path) -> list[tuple]:
    with open(path, "rb") as stream:
        found = members(stream, path.stat().st_size)
        return [(one.name, one.start, one.size, one.regular, one.sparse) for one in found]


def outcome(read, path: Path) -> list[tuple] | str:
    try:
        return read(path)
    except Exception:  # of all sorts, for damaged ones
        return "refused"


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [False, True])
def test_they_are_those_that_tarfile_finds(damaged, tmp_path):
    random_ = random.Random(1)
    path, outcomes = tmp_path / "a.tar", set()
    for number in range(1000):
        write(path, random_)
        if damaged:
            raw = bytearray(path.read_bytes())
            for _ in range(random_.choice((1, 1, 2))):
                raw[random_.randrange(min(len(raw), 2600))] = random_.choice((0, 32, 48, 49, 56, 255, 130))
            path.write_bytes(raw[: random_.choice((len(raw), len(raw), random_.randrange(len(raw))))])
        expected = outcome(by_tarfile, path)
        assert outcome(by_us, path) == expected, number
        outcomes.add(expected == "refused")
    assert outcomes == ({True, False} if damaged else {False})
