"""Files made to hang their reader or to fill memory: each is refused in one line, in little time and memory.

Measured in a process of its own (bounded_reads.py) of 2 GiB, torch and all included.
"""

from __future__ import annotations

import gzip
import pickle
import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bounded_reads import Reading, readings
from support.data_writers import encoded, image_record, random_image, record, tagged, write_lmdb
from support.hostile_archives import TABLES, TARS
from support.hostile_databases import hdf5, lmdb_of_one_record, lmdb_of_shared_pages, split_record, zipped_image
from support.hostile_dense import DENSE, filled
from support.hostile_features import FEATURES, GOOD, archive
from support.hostile_images import IMAGES
from support.hostile_matlab import MATS, element, mat, matrix, packed
from support.hostile_pickles import PICKLES, array_references
from support.hostile_states import EXTRAS, STATES, solverstate
from support.hostile_texts import TEXTS, results

CASES = Path(__file__).parents[3] / "shared" / "cases"
READERS = CASES / "readers"
ERRORS = {"CaffemodelError", "DataError", "ProtocolError", "PrototxtError", "TrainingError"}
SECONDS, MEGABYTES = 5.0, 64
"""Of processor time, beyond ten times what reading the file's bytes and their SHA-256 takes: 1 s is the bound on an
idle machine (docs/security.md), of which a busy one makes 2; what grows as a square takes minutes. And of memory,
beyond 40 times the file's size: a reader may hold twice what a packed file may hold, 32 MiB and 20 times its size."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="measures memory by Linux's /proc"),
]


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
