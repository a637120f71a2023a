"""Files made to hang their reader or to fill memory: each is refused in one line, in little time and memory.

Measured in a process of its own (bounded_reads.py) of 2 GiB, torch and all included.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.bounded_reads import Reading, readings
from support.data_writers import encoded, image_record, random_image, record, tagged, write_lmdb
from support.hostile_archives import TABLES, TARS
from support.hostile_dense import DENSE, filled
from support.hostile_images import IMAGES

CASES = Path(__file__).parents[3] / "shared" / "cases"
READERS = CASES / "readers"
ERRORS = {"CaffemodelError", "DataError", "ProtocolError", "PrototxtError", "TrainingError"}
SECONDS, MEGABYTES = 1.0, 64
"""Of processor time, beyond ten times what reading the file's bytes and their SHA-256 takes; and of memory, beyond 40
times the file's size: a reader may hold twice what a packed file may hold, 32 MiB and 20 times its size."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="measures memory by Linux's /proc"),
]


# Pickles


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


# Features


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


# MATLAB


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


# Texts and the rest


LONG_NUMBER = "9" * 5000
TEXTS: dict[str, tuple[str, bytes, str]] = {
    "pairs-first-line": ("pairs", f"{LONG_NUMBER} 300".encode(), ":1: expected"),
    "pairs-number": ("pairs", f"1 1\na 1 {LONG_NUMBER}\na 1 b 2\n".encode(), ":2: expected"),
    "pairs-not-text": ("pairs", b"\xff\xfe" + bytes(100), "is no text file"),
    "splits-number": (
        "splits",
        f"{LONG_NUMBER}, 1, a/1, b/1, 0\n{LONG_NUMBER}, 1, a/1, b/1, 0\n".encode(),
        ":2: expected",
    ),
    "splits-escape": ("splits", b"1, \x1b[2J\n2, 3\n", r":1: expected .*\\x1b\[2J"),
    "list-long-name": ("list", b"a" * 6000, ":1: is no image's path .6000 characters"),
    "list-long-part": ("list", b"a.png\nb/" + b"a" * 700 + b"/c.png\n", ":2: is no image's path"),
    "list-no-text": ("list", b"a\0b", "is no text"),
    "landmarks-number": ("landmarks", f'{{"a.jpg": [{LONG_NUMBER}]}}'.encode(), "is no"),
    "landmarks-deep": ("landmarks", b"[" * 1_000_000, "is no|nested"),
    "landmarks-lone-half": ("landmarks", rb'[{"photo": "\ud800", "landmarks": [1]}]', "landmarks are five points"),
    "results-empty": ("results", b"{}", "is not what an experiment writes"),
    "results-list": ("results", b"[1, 2]", "is not what an experiment writes"),
    "results-number": ("results", f'{{"seed": {LONG_NUMBER}}}'.encode(), "cannot be read"),
    "results-deep": ("results", b'{"a":' * 100_000, "cannot be read"),
    "calibration-deep": ("calibration", b"[" * 100_000, "is no calibration file"),
    "calibration-number": (
        "calibration",
        f'{{"thresholds": {{"0.1": {"9" * 400}}}}}'.encode(),
        "is no calibration file",
    ),
    "calibration-not-text": ("calibration", b"\xff\xfe{}", "is no"),
}


def results(**changes: object) -> bytes:
    """A results.json that is whole but for ``changes``."""
    whole = {"experiment": "case", "title": "t", "command": "c", "claim": "c", "finding": "f", "measured": {}}
    whole |= {"figures": [], "timings": {"seconds": 1.0}, "seed": 0, "full": False, "holds": True}
    return json.dumps(whole | changes).encode()


TEXTS |= {
    "results-seconds": ("results", results(timings={"seconds": 10**400}), "is not what an experiment writes"),
    "results-lone-half": ("results", results(title="\ud800"), "is not what an experiment writes"),
    "results-other-name": (
        "results",
        results(experiment="\x1b[2J" + "x" * 5000),
        r"is of the experiment '\\x1b\[2Jx{60}",
    ),
}
for _key in json.loads(results()):
    if _key != "holds":
        TEXTS[f"results-without-{_key}"] = (
            "results",
            json.dumps({k: v for k, v in json.loads(results()).items() if k != _key}).encode(),
            rf"is not what an experiment writes \({_key}\)",
        )


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


def cases(folder: Path) -> list[tuple[str, str, bytes | Callable[[], bytes], str]]:
    """(name, reader, content, what the message says)."""
    made = [(f"bin-{name}", "bin", *case) for name, case in PICKLES.items()]
    made += [(f"{name}.npz", "features", *case) for name, case in FEATURES.items()]
    made += [(f"{name}.mat", "mat", *case) for name, case in MATS.items()]
    made += [(f"{name}.png", "images", *case) for name, case in IMAGES.items()]
    made += [(f"{name}.tar", "images", *case) for name, case in TARS.items()]
    made += [(f"{name}.parquet", "images", *case) for name, case in TABLES.items()]
    made += [(name, *case) for name, case in (TEXTS | DENSE).items()]
    made += [
        (f"state-{name}", "solverstate", (lambda c=content: solverstate(c() if callable(c) else c)), told)
        for name, (content, told) in STATES.items()
    ]
    made += [
        ("overlapping.mdb", "images", lmdb_of_one_record(folder / "db"), "damaged LMDB.*the nodes of page"),
        ("shared.mdb", "images", lmdb_of_shared_pages(folder / "shared"), "damaged LMDB.*share their pages"),
        (
            "fields.mdb",
            "images",
            (write_lmdb(folder / "fields", [filled(tagged(5, 1))]) / "data.mdb").read_bytes(),
            "is no Datum, or is damaged .more than 1000 fields",
        ),
        (
            "many-fields.mdb",
            "images",
            (write_lmdb(folder / "many", [tagged(5, 1) * 40_000] * 200) / "data.mdb").read_bytes(),
            "is no Datum, or is damaged .more than 1000 fields",
        ),
        (
            "floats.mdb",
            "images",
            (write_lmdb(folder / "floats", [filled(b"\x35abcd")]) / "data.mdb").read_bytes(),
            "holds float_data",
        ),
        ("zip-bomb.zip", "images", zipped_image, "declares .* bytes, far more than"),
        (
            "long.rec",
            "images",
            record(image_record(0, 0, b""))[:4] + struct.pack("<I", (1 << 29) - 1),
            "is cut short",
        ),
        ("parts.rec", "images", split_record(), "is cut short|out of order"),
        (
            "idx3.gz",
            "idx",
            lambda: gzip.compress(struct.pack(">4BIII", 0, 0, 8, 3, 10**6, 28, 28) + bytes(10**6)),
            "far more than",
        ),
        ("declared.h5", "hdf5", hdf5(folder, "data", 1), "declare 200000000 bytes"),
        ("declared.caffemodel.h5", "weights", hdf5(folder, "data/fc{}/0", 4), "declares 50000000 numbers, more than"),
    ]
    return made


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


@pytest.fixture(scope="module")
def read(tmp_path_factory) -> dict[str, tuple[Reading, int, str]]:
    """{name: (what came of reading it, its size, what the message should say)}."""
    folder = tmp_path_factory.mktemp("hostile")
    made = cases(folder)
    for name, reader, content, _ in made:
        path = folder / ("case" if reader == "results" else "files") / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content() if callable(content) else content)
    paths = [folder / ("case" if reader == "results" else "files") / name for name, reader, _, _ in made]
    found = readings([(reader, path) for (_, reader, _, _), path in zip(made, paths, strict=True)])
    return {
        name: (reading, path.stat().st_size, told)
        for (name, _, _, told), path, reading in zip(made, paths, found, strict=True)
    }


def bounded(name: str, reading: Reading, size: int) -> None:
    assert reading.seconds <= SECONDS + 10 * reading.bytes_seconds, (name, reading)
    assert reading.megabytes <= MEGABYTES + 40 * size / 2**20, (name, reading)


NAMES = [
    *(f"bin-{name}" for name in PICKLES),
    *(f"{name}.npz" for name in FEATURES),
    *(f"{name}.mat" for name in MATS),
    *(f"{name}.png" for name in IMAGES),
    *(f"{name}.tar" for name in TARS),
    *(f"{name}.parquet" for name in TABLES),
    *TEXTS,
    *DENSE,
    *(f"state-{name}" for name in STATES),
    *(
        "overlapping.mdb",
        "shared.mdb",
        "fields.mdb",
        "many-fields.mdb",
        "floats.mdb",
        "zip-bomb.zip",
        "long.rec",
        "parts.rec",
        "idx3.gz",
        "declared.h5",
        "declared.caffemodel.h5",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_refused_in_one_line(read, name):
    import re

    reading, size, told = read[name]
    assert reading.error in ERRORS, reading
    assert re.search(told, reading.message), reading
    assert name in reading.message
    assert "\n" not in reading.message and "\x1b" not in reading.message
    assert len(reading.message) < 600
    bounded(name, reading, size)


@pytest.mark.slow
def test_one_array_that_is_referred_to_thousands_of_times_is_read_once(tmp_path):
    (tmp_path / "set.bin").write_bytes(array_references(6000))
    (reading,) = readings([("bin", tmp_path / "set.bin")])
    assert reading.error == ""
    bounded("set.bin", reading, 200_000)


@pytest.mark.slow
@pytest.mark.skipif(not READERS.is_dir(), reason="the damaged files (../shared/cases/readers) are not here")
def test_damaged_files():
    """Found by mutating good files; each raised an error that was not the reader's own, or took gigabytes."""
    files = [path for path in sorted(READERS.iterdir()) if not path.name.startswith("prototxt")]
    wanted = [(path.name.split("-")[0], path) for path in files]
    wanted += [("landmarks", path) for reader, path in wanted if reader == "list"]
    for (_, path), reading in zip(wanted, readings(wanted), strict=True):
        assert reading.error in ERRORS, (path.name, reading)
        assert path.name in reading.message and len(reading.message) < 600
        bounded(path.name, reading, path.stat().st_size)


@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_dir(), reason="the damaged files (../shared/cases) are not here")
def test_damaged_nets():
    """Texts of a grammar, and damaged ones, are compared in torch and ONNX Runtime, or refused."""
    damaged = sorted(READERS.glob("prototxt-*"))
    paths = [*damaged, *sorted((CASES / "layers").glob("*.prototxt"))]
    assert len(damaged) == 3 and len(paths) == 18
    for path, reading in zip(paths, readings([("net", path) for path in paths]), strict=True):
        refused = {"NetError", "ExportError", "PrototxtError", "CaffeportError", "UnknownLayerError"}
        assert reading.error in (refused if path in damaged else refused | {""}), (path.name, reading)
        assert "\n" not in reading.message and len(reading.message) < 4000
        assert reading.seconds <= SECONDS + 10 * reading.bytes_seconds and reading.megabytes <= 10 * MEGABYTES, reading


@pytest.mark.slow
def test_mutated_files_raise_what_they_should(tmp_path):
    """A few hundred of each kind: any bytes give a value, or the reader's own error."""
    draw = random.Random(0)
    whole = {
        "bin": pickle.dumps(([encoded(random_image(i, 4, 4)) for i in range(4)], [True, False]), 4),
        "features": archive(**GOOD),
        "mat": mat(packed(matrix(1, (1, 1), matrix(4, (1, 3), element(4, b"a\0b\0c\0")), "imageList"))),
        "solverstate": solverstate(EXTRAS),
        "results": results(),
        "images": record(image_record(0, 0, encoded(random_image(0)))),
        "landmarks": b'{"a.jpg": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}',
        "calibration": b'{"thresholds": {"0.001": 0.5}}',
    }
    wanted = []
    (tmp_path / "case").mkdir()
    for reader, raw in whole.items():
        for number in range(150):
            changed = bytearray(raw)
            for _ in range(draw.randint(1, 6)):
                changed[draw.randrange(len(changed))] = draw.randrange(256)
            path = tmp_path / "case" / f"{reader}{number}{'.rec' if reader == 'images' else ''}"
            path.write_bytes(changed[: draw.randint(1, len(changed))] if number % 3 == 0 else changed)
            wanted.append((reader, path))
    for (_, path), reading in zip(wanted, readings(wanted), strict=True):
        # A rate that the file has no threshold for is an answer, too.
        assert reading.error in ERRORS | {"", "NormfaceError", "UnknownThresholdError"}, (path.name, reading)
        bounded(path.name, reading, path.stat().st_size)
