"""LevelDBs, written by plyvel: the records, the order, several processes, and what is damaged."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
from pathlib import Path

import caffeport
import numpy as np
import pytest
from caffeport.errors import MissingDependencyError
from normface.data import open_reader
from normface.data.caffe import Feed, input_shapes
from normface.data.readers.leveldb_folder import LevelDatabase
from normface.errors import DataError
from support.bvlc_solvers import write_leveldb
from support.data_writers import datum, encoded, random_image, write_lmdb

plyvel = pytest.importorskip("plyvel", reason="LevelDBs are read by plyvel")

NET = (
    'layer { name: "d" type: "Data" top: "data" top: "label" data_param { source: "level" batch_size: 3 } }'
    'layer { name: "sink" type: "Silence" bottom: "data" bottom: "label" }'
)


@pytest.fixture
def pixels(tmp_path):
    """Seven images as bare Datums, labels 2, 3, …, the records written from the last to the first."""
    images = [random_image(seed) for seed in range(7)]
    values = {b"%05d" % i: datum(image.transpose(2, 0, 1), 2 + i) for i, image in enumerate(images)}
    write_leveldb(tmp_path / "level", dict(reversed(values.items())))
    return images


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_data_layer_reads_it_in_the_keys_order(pixels, tmp_path):
    """backend LEVELDB is Caffe's default."""
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    before = contents(tmp_path / "level")
    net = caffeport.load(path, phase="train", input_shapes=input_shapes(path))
    with Feed(net, seed=0) as feed:
        for start in (0, 3, 6):
            batch = feed.next()
            rows = [i % 7 for i in range(start, start + 3)]
            np.testing.assert_array_equal(batch["data"], [pixels[i].transpose(2, 0, 1) for i in rows])
            np.testing.assert_array_equal(batch["label"], [2 + i for i in rows])
    assert contents(tmp_path / "level") == before  # LevelDB writes into what it opens


def test_the_same_records_as_an_lmdb_give_the_same_images(tmp_path):
    values = {
        b"a": datum(encoded(random_image(1)), 5, encoded=True),
        b"b": datum(random_image(2).transpose(2, 0, 1), 4),
    }
    level, lmdb = write_leveldb(tmp_path / "level", values), write_lmdb(tmp_path / "lmdb", values)
    with pytest.warns(UserWarning, match="numbered anew"):
        ours, theirs = open_reader(level), open_reader(lmdb)
    assert ours.names == theirs.names == ["a", "b"]
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    for i in range(2):
        np.testing.assert_array_equal(ours.read(i), theirs.read(i))
    assert ours.raw(0) == theirs.raw(0)
    with pytest.raises(DataError, match=r"level: record b: holds bare pixels, no encoded image"):
        ours.raw(1)


@pytest.mark.slow
def test_many_tables_compressed(tmp_path):
    """More than fits one table, written as Caffe does, so that tables of several levels are read."""
    random = np.random.default_rng(0)
    values = {
        b"%06d" % i: datum(np.repeat(random.integers(0, 256, (3, 32, 2), np.uint8), 16, 2), i % 9) for i in range(2000)
    }
    path = write_leveldb(tmp_path / "level", values, write_buffer_size=1 << 18, max_file_size=1 << 18)
    assert len(list(path.glob("*.ldb"))) > 3
    database = LevelDatabase(path)
    assert len(database) == 2000
    for i in (0, 1, 999, 1999):
        assert database.datum(i).label == i % 9 and database.datum(i).data == values[b"%06d" % i][-3 * 32 * 32 - 2 : -2]
    assert [one.label for one in database.datums()] == [i % 9 for i in range(2000)]


def _label(database: LevelDatabase, index: int) -> int:
    return database.datum(index).label


@pytest.mark.slow
def test_other_processes_open_it_for_themselves(pixels, tmp_path):
    database = LevelDatabase(tmp_path / "level")
    assert pickle.loads(pickle.dumps(database)).datum(3).label == 5
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.starmap(_label, [(database, i) for i in range(7)]) == list(range(2, 9))
    holder = plyvel.DB(str(tmp_path / "level"))  # another process that has it open, as Caffe would
    assert LevelDatabase(tmp_path / "level").datum(0).label == 2
    holder.close()


def test_the_temporary_folder_goes_with_it(pixels, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    database = LevelDatabase(tmp_path / "level")
    assert list(tmp_path.glob("normface-leveldb-*"))
    del database
    assert not list(tmp_path.glob("normface-leveldb-*"))


def test_without_plyvel_one_line_says_what_to_install(pixels, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plyvel", None)
    with pytest.raises(MissingDependencyError, match=r"level: is a LevelDB, which needs plyvel; install it: pip"):
        open_reader(tmp_path / "level")


def test_what_is_damaged_is_named(pixels, tmp_path):
    level = tmp_path / "level"
    plyvel.DB(str(level)).close()  # which makes a table of its log
    table = next(level.glob("*.ldb"))
    whole = table.read_bytes()
    table.write_bytes(bytes([whole[0] ^ 255, *whole[1:100]]) + bytes(len(whole) - 100))
    with pytest.raises(DataError, match=r"level: is a damaged LevelDB, or cut short"):
        open_reader(level)
    os.unlink(table)
    with pytest.raises(DataError, match=r"level: is a damaged LevelDB, or cut short"):
        open_reader(level)


def test_a_record_that_is_no_datum_and_a_database_without_records(tmp_path):
    with pytest.raises(DataError, match=r"level: record x: .*is no Datum, or is damaged"):
        open_reader(write_leveldb(tmp_path / "level", {b"x": b"\xff\xff"}))
    with pytest.raises(DataError, match=r"empty: is a LevelDB without records"):
        open_reader(write_leveldb(tmp_path / "empty", {}))
