"""Caffe's LMDBs: read without the lmdb package, which made them, and files that would crash it."""

from __future__ import annotations

import struct

import lmdb
import numpy as np
import pytest
from normface.data import open_images
from normface.data.readers.lmdb_file import records
from normface.errors import DataError, NormfaceWarning
from support.data_writers import datum, encoded, random_image, write_lmdb


@pytest.mark.parametrize(("count", "largest"), [(1, 20), (400, 1500), (3000, 60), (60, 30000)])
def test_records_agree_with_the_library(tmp_path, count, largest):
    """Records within leaves and on overflow pages, one to three levels, written over several transactions, some
    deleted and some replaced."""
    random = np.random.default_rng(count)
    values = {b"%08d" % i: random.bytes(int(random.integers(largest))) for i in range(count)}
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 28) as environment:
        for part in range(3):
            with environment.begin(write=True) as transaction:
                for key in list(values)[part::3]:
                    transaction.put(key, values[key])
        with environment.begin(write=True) as transaction:
            for key in list(values)[1::4]:
                transaction.delete(key)
                del values[key]
            for key in list(values)[2::4]:
                values[key] = random.bytes(int(random.integers(largest)))
                transaction.put(key, values[key])
    path = tmp_path / "db" / "data.mdb"
    raw = path.read_bytes()
    found = [(key, raw[start : start + size]) for key, start, size in records(path)]
    assert found == sorted(values.items())


def test_images(tmp_path):
    """Encoded and bare Datums, colour and grey; keys in their own order."""
    colour, grey = random_image(0), random_image(1)[:, :, :1]
    planes = [array.transpose(2, 0, 1) for array in (colour, grey)]
    values = {
        b"2_b.png": datum(encoded(colour), 1, encoded=True),
        b"1_a.png": datum(planes[0], 0),
        b"3_c.png": datum(planes[1], 1),
    }
    images = open_images(write_lmdb(tmp_path / "db", values))
    assert images.names == ["1_a.png", "2_b.png", "3_c.png"]
    assert images.labels.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(images.read(0), colour)
    np.testing.assert_array_equal(images.read(1), colour)
    np.testing.assert_array_equal(images.read(2), np.repeat(grey, 3, axis=2))
    np.testing.assert_array_equal(open_images(tmp_path / "db", color=False).read(2), grey)
    # ITU-R BT.601, which OpenCV computes in fixed point.
    found = open_images(tmp_path / "db", color=False).read(0)[:, :, 0]
    np.testing.assert_allclose(found, colour @ [0.114, 0.587, 0.299], atol=1)
    assert len(open_images(tmp_path / "db" / "data.mdb")) == 3


def test_one_file_without_a_folder(tmp_path):
    with (
        lmdb.open(str(tmp_path / "faces.lmdb"), subdir=False, map_size=1 << 20) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(b"0", datum(encoded(random_image(0)), 0, encoded=True))
    np.testing.assert_array_equal(open_images(tmp_path / "faces.lmdb").read(0), random_image(0))


def test_labels_with_gaps(tmp_path):
    values = [datum(encoded(random_image(0)), label, encoded=True) for label in (5, 2, 5)]
    with pytest.warns(NormfaceWarning, match=r"2 labels between 2 and 5 were numbered anew, 0 to 1"):
        images = open_images(write_lmdb(tmp_path / "db", values))
    assert images.labels.tolist() == [1, 0, 1]
    assert images.identities == ["2", "5"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (datum(np.ones((3, 4, 4), np.float32), 0), r"db: record 00000000: holds float_data, which is no image"),
        (datum(np.ones((2, 4, 4), np.uint8), 0), r"record 00000000: has 2 channels; expected an image of 1 or 3"),
        (datum(np.ones((3, 4, 4), np.uint8), 0)[6:], r"declares 0 x 0 x 0 numbers .*and holds 48"),
        (datum(b"\1" * 5, 0), r"declares 0 x 0 x 0 numbers \(channels, height, width\), and holds 5"),
        (datum(b"no image", 0, encoded=True), r"db: record 00000000: is no JPEG"),
        (datum(b"", 0, encoded=True), r"db: record 00000000: is empty"),
        (b"", r"declares 0 x 0 x 0 numbers"),
    ],
)
def test_bad_datums_are_named_when_read(tmp_path, value, message):
    images = open_images(write_lmdb(tmp_path / "db", [value]))
    with pytest.raises(DataError, match=message):
        images.read(0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"\xff\xff\xff", r"db: record 00000001: is no Datum, or is damaged \(the data ends inside a number"),
        (datum(b"1234", 0)[:4], r"db: record 00000001: is no Datum, or is damaged"),
        (b'{"json": 1}', r"db: record 00000001: is no Datum, or is damaged"),
        (datum(b"1234", -2), r"db: record 00000001: has the label -2; labels are 0 or above"),
    ],
)
def test_bad_labels_are_named_when_opened(tmp_path, value, message):
    with pytest.raises(DataError, match=message):
        open_images(write_lmdb(tmp_path / "db", [datum(b"1", 0), value]))


def database(folder):
    """Its data file, with a branch, leaves and overflow pages."""
    random = np.random.default_rng(0)
    values = [datum(random.integers(0, 256, (3, 20, int(w)), np.uint8), 0) for w in random.integers(1, 200, 80)]
    return write_lmdb(folder, values) / "data.mdb"


@pytest.mark.parametrize("left", [0, 10, 1023, 4096, 8191, 8192, 12288, 0.5, 0.99])
def test_truncated(tmp_path, left):
    """The library would map such a file and die of it."""
    path = database(tmp_path / "db")
    raw = path.read_bytes()
    path.write_bytes(raw[: int(left * len(raw)) if 0 < left < 1 else left])
    with pytest.raises(DataError, match=r"data.mdb: is (no LMDB|a damaged LMDB, or cut short: page \d+ is beyond)"):
        open_images(path.parent)


def test_foreign_files(tmp_path):
    folder = tmp_path / "db"
    folder.mkdir()
    (folder / "data.mdb").write_bytes(bytes(20000))
    with pytest.raises(DataError, match=r"data.mdb: is no LMDB \(or one of a big-endian or 32-bit machine\)"):
        open_images(folder)
    path = database(tmp_path / "other")
    raw = path.read_bytes()
    path.write_bytes(raw[:20] + struct.pack("<I", 2) + raw[24:])
    with pytest.raises(DataError, match=r"is an LMDB of format 2; expected format 1"):
        open_images(path.parent)


def test_databases_that_are_not_caffes(tmp_path):
    with lmdb.open(str(tmp_path / "named"), map_size=1 << 20, max_dbs=2) as environment:
        inner = environment.open_db(b"inner")
        with environment.begin(write=True, db=inner) as transaction:
            transaction.put(b"a", b"b")
    with pytest.raises(DataError, match=r"it holds named databases or duplicates, which Caffe's do not"):
        open_images(tmp_path / "named")
    with lmdb.open(str(tmp_path / "empty"), map_size=1 << 20):
        pass
    with pytest.raises(DataError, match=r"empty: is an LMDB without records"):
        open_images(tmp_path / "empty")


def test_tree_in_circles(tmp_path):
    """A branch whose every child is the branch itself."""
    path = database(tmp_path / "db")
    raw = bytearray(path.read_bytes())
    for page in range(2, len(raw) // 4096):
        start = page * 4096
        number, _, flags, lower = struct.unpack_from("<QHHH", raw, start)
        if flags == 1 and number == page:
            for (offset,) in struct.iter_unpack("<H", raw[start + 16 : start + lower]):
                struct.pack_into("<HHH", raw, start + offset, page, 0, 0)
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"is a damaged LMDB, or cut short: its tree runs in circles"):
        open_images(path.parent)


@pytest.mark.slow
def test_random_damage_is_met(tmp_path):
    """Whatever the bytes, opening and reading end in images or a DataError."""
    path = database(tmp_path / "db")
    whole = path.read_bytes()
    heads = [page * 4096 for page in range(len(whole) // 4096)]
    random = np.random.default_rng(2)
    refused = 0
    for _ in range(120):
        raw = np.frombuffer(whole, np.uint8).copy()
        at = random.choice(heads, 6) + random.integers(0, 200, 6)  # where pointers and lengths stand
        raw[at] = random.integers(0, 256, 6)
        path.write_bytes(raw.tobytes())
        try:
            images = open_images(path.parent)
            for i in range(len(images)):
                images.read(i)
        except (DataError, NormfaceWarning):
            refused += 1
    assert refused > 12
