"""Features files: what is written is read again, and hostile or damaged ones get one clear line."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from normface.errors import DataError, MissingDependencyError, NormfaceError
from normface.features import Features, load_features, save_features

NAMES = ["Zoë/a b.jpg", "Bo/1.png", "Bo/2.png", "日本/1.jpg"]
ROWS = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
SETTINGS = {"model": "m.onnx", "mirror": "sum", "mean": [127.5], "size": [112, 96]}


def full() -> Features:
    return Features(ROWS, NAMES, np.array([2, 0, 0, 1]), ["Bo", "日本", "Zoë"], SETTINGS)


def assert_same(found: Features, expected: Features) -> None:
    assert (found.features.dtype, found.names, found.settings) == (np.float32, expected.names, expected.settings)
    np.testing.assert_array_equal(found.features, expected.features)
    people = [[one.identity(row) for row in range(len(one))] for one in (found, expected)]
    assert people[0] == people[1]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("made", [full(), Features(ROWS, NAMES)], ids=["full", "bare"])
def test_round_trip(tmp_path, suffix, made):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"f{suffix}"
    save_features(path, made)
    assert_same(load_features(path), made)
    before = path.read_bytes()
    save_features(path, made)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_npz_is_plain_numpy(tmp_path):
    """What the documentation promises to other programs."""
    save_features(tmp_path / "f.npz", full())
    with np.load(tmp_path / "f.npz", allow_pickle=False) as stored:
        assert sorted(stored) == ["features", "identities", "labels", "names", "settings"]
        assert (stored["features"].dtype, stored["labels"].dtype) == (np.float32, np.int64)
        assert stored["names"].tolist() == NAMES
        assert stored["identities"][stored["labels"]].tolist() == ["Zoë", "Bo", "Bo", "日本"]
        assert json.loads(str(stored["settings"])) == SETTINGS


def test_a_table_of_another_program(tmp_path):
    """Lists of free length, doubles, labels with gaps."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {
        "name": arrow.array(["a", "b", "c"]),
        "feature": arrow.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        "label": arrow.array([30, 10, 30]),
        "identity": arrow.array(["Al", "Bo", "Al"]),
    }
    parquet.write_table(arrow.table(columns), tmp_path / "f.parquet")
    found = load_features(tmp_path / "f.parquet")
    np.testing.assert_array_equal(found.features, [[1, 2], [3, 4], [5, 6]])
    assert (found.labels.tolist(), found.identities) == ([1, 0, 1], ["Bo", "Al"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"name": ["a"]}, r"needs the columns name and feature, has name"),
        ({"name": ["a", "b"], "feature": [[1.0, 2.0], [3.0]]}, r"not of one length, or some are missing"),
        ({"name": ["a", "b"], "feature": [[1.0, 2.0], None]}, r"not of one length, or some are missing"),
        ({"name": ["a"], "feature": [[1.0, None]]}, r"not of one length, or some are missing"),
        ({"name": ["a", None], "feature": [[1.0], [2.0]]}, r"the column name has 1 rows without a value"),
        ({"name": ["a"], "feature": [1.0]}, r"the column feature is double; expected lists"),
        ({"name": ["a"], "feature": [["x"]]}, r"the column feature is list<.*string>; expected lists"),
        ({"name": ["a"], "feature": [[1.0]], "label": ["x"]}, r"labels are 1 .*; expected a whole number"),
        ({"name": [3], "feature": [[1.0]]}, r"the column name is int64; expected texts"),
        ({"name": [], "feature": []}, r"the column feature is null"),
    ],
)
def test_other_tables_are_refused(tmp_path, columns, message):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), tmp_path / "f.parquet")
    with pytest.raises(DataError, match=r"f\.parquet: .*" + message):
        load_features(tmp_path / "f.parquet")


def test_parquet_without_pyarrow_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "f.parquet").write_bytes(b"PAR1")
    for use in (lambda: load_features(tmp_path / "f.parquet"), lambda: save_features(tmp_path / "g.parquet", full())):
        with pytest.raises(MissingDependencyError, match=r"pip install pyarrow, or use \.npz"):
            use()


class Bomb:
    """Unpickling it calls a function that fails the test."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


def npz(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def with_member(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


HUGE = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 512), }".ljust(
    117
)
GOOD = {"features": ROWS, "names": np.array(NAMES)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is no features file"),
        (b"text", r"is no features file"),
        (npz(**GOOD)[:-60], r"is no features file"),
        (npz(**GOOD).replace(ROWS.tobytes(), ROWS[::-1].tobytes()), r"is no features file .*CRC"),
        (saved(ROWS), r"holds one array; expected an \.npz"),
        (npz(features=ROWS, names=np.array([Bomb()] * 4)), r"is no features file .*allow_pickle"),
        (npz(features=np.array([Bomb()]), names=np.array(NAMES)), r"is no features file .*allow_pickle"),
        (saved(np.array([Bomb()])), r"holds one array; expected an \.npz"),
        (with_member("features.npy", HUGE + b"\n"), r"is no features file"),
        (with_member("features.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': [[[[  "), r"is no features file"),
        (npz(other=ROWS), r'has no "features"; it has other'),
        (npz(features=ROWS), r'has no "names"; it has features'),
        (npz(features=ROWS, names=np.array(NAMES[:3])), r"features are 4x6 float32 for 3 names"),
        (npz(features=ROWS[0], names=np.array(NAMES[:1])), r"features are 6 float32 for 1 names"),
        (npz(features=ROWS.astype(int), names=np.array(NAMES)), r"features are 4x6 int64 for 4 names"),
        (npz(features=ROWS[:0], names=np.array([], "U1")), r"features are 0x6 float32 for 0 names"),
        (npz(features=ROWS, names=np.arange(4)), r"names are 4 int64; expected a list of texts"),
        (npz(features=ROWS, names=np.array("a")), r"names are scalar <U1; expected a list of texts"),
        (
            npz(features=ROWS.astype(float) * 1e300, names=np.array(NAMES)),
            r"the features of Zoë/a b\.jpg are not finite",
        ),
        (npz(**GOOD, labels=np.arange(3)), r"labels are 3 int64; expected a whole number for each of the 4 names"),
        (npz(**GOOD, labels=np.arange(4.0)), r"labels are 4 float64"),
        (npz(**GOOD, labels=np.arange(4), identities=np.array(["a"])), r"has labels from 0 to 3 for 1 identities"),
        (npz(**GOOD, labels=-np.arange(4), identities=np.array(["a"])), r"has labels from -3 to 0 for 1 identities"),
        (npz(**GOOD, settings=np.array("[]")), r"its settings are no JSON object"),
        (npz(**GOOD, settings=np.array("{")), r"its settings are no JSON object"),
    ],
)
def test_bad_files(tmp_path, content, message):
    (tmp_path / "f.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"f\.npz: " + message) as caught:
        load_features(tmp_path / "f.npz")
    assert "\n" not in str(caught.value)


def test_a_feature_that_is_no_number_is_named(tmp_path):
    rows = ROWS.copy()
    rows[2, 3] = np.nan
    (tmp_path / "f.npz").write_bytes(npz(features=rows, names=np.array(NAMES)))
    with pytest.raises(DataError, match=r"the features of Bo/2\.png are not finite"):
        load_features(tmp_path / "f.npz")


def test_names_as_bytes_and_half_precision(tmp_path):
    names = np.array([name.encode() for name in NAMES])
    (tmp_path / "f.npz").write_bytes(npz(features=ROWS.astype(np.float16), names=names))
    found = load_features(tmp_path / "f.npz")
    assert (found.names, found.features.dtype) == (NAMES, np.float32)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("f.csv", r"written as \.npz or \.parquet"),
        ("f", r"written as \.npz or \.parquet"),
        ("missing/f.npz", r"the folder .*missing does not exist"),
        ("folder.npz", r"is a folder"),
    ],
)
def test_where_nothing_can_be_written(tmp_path, name, message):
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(NormfaceError, match=message):
        save_features(tmp_path / name, full())


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"f\.npz: no such file; normface extract makes one"):
        load_features(tmp_path / "f.npz")
