"""WebDataset's tars, Parquet tables and shards of several files, and the order in which they are read."""

from __future__ import annotations

import io
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from normface.data import open_images, open_reader
from normface.data.order import shard_order
from normface.errors import DataError
from normface.finetune.sampling import Sampler, some_of_each, units_of
from support.data_writers import encoded, image_record, random_image, write_recordio


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """By Python's own tarfile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, raw in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return path


def webdataset(path: Path, first: int, labels: list[int | str]) -> Path:
    """Samples of an image, a label and a caption; the images are those of random_image from ``first`` on."""
    members = {}
    for number, label in enumerate(labels, first):
        members[f"{number:06d}.png"] = encoded(random_image(number))
        members[f"{number:06d}.cls"] = str(label).encode()
        members[f"{number:06d}.txt"] = b"a face"
    return write_tar(path, members)


def write_parquet(path: Path, first: int, labels: list[int], group: int = 2) -> Path:
    """As Hugging Face writes a data set of images: a column of {bytes, path}."""
    arrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")

    images = [{"bytes": encoded(random_image(n)), "path": f"{n}.png"} for n in range(first, first + len(labels))]
    table = arrow.table({"image": images, "label": arrow.array(labels, arrow.int64())})
    parquet.write_table(table, path, row_group_size=group)
    return path


class TestTar:
    def test_images_and_labels(self, tmp_path):
        with pytest.warns(match=r"2 labels between 3 and 7 were numbered anew"):
            images = open_images(webdataset(tmp_path / "a.tar", 0, [7, 3, 7]))
        assert images.names == ["000000.png", "000001.png", "000002.png"]
        assert images.labels.tolist() == [1, 0, 1] and images.original_labels.tolist() == [3, 7]
        for number in range(3):
            np.testing.assert_array_equal(images.read(number), random_image(number))
        again = pickle.loads(pickle.dumps(images))
        np.testing.assert_array_equal(again.read(2), random_image(2))
        assert images.title(1) == f"{tmp_path / 'a.tar'}: 000001.png"

    def test_people_by_name_and_by_folder(self, tmp_path):
        named = open_images(webdataset(tmp_path / "a.tar", 0, ["Ann", "Bob", "Ann"]))
        assert named.identities == ["Ann", "Bob"] and named.labels.tolist() == [0, 1, 0]
        names = ["faces/Bob/1.jpg", "faces/Ann/1.x.jpg", "faces/Ann/2.JPG"]
        with pytest.warns(match=r"1 files are no images by their names and are left out \(first: faces/Ann/1.x.jpg\)"):
            folders = open_images(
                write_tar(tmp_path / "b.tar", {name: encoded(random_image(1), ".jpg") for name in names})
            )
        assert folders.names == ["faces/Bob/1.jpg", "faces/Ann/2.JPG"]  # .x.jpg is another part of its sample
        assert folders.identities == ["Bob", "Ann"]

    def test_errors(self, tmp_path):
        raw = webdataset(tmp_path / "a.tar", 0, [0, 1]).read_bytes()
        members = {"1.png": encoded(random_image(0)), "1.cls": b"1", "2.png": encoded(random_image(1))}
        write_tar(tmp_path / "missing.tar", members)
        for name, content, message in (
            ("half", raw[:3000], "is cut short in 000001.png|is no tar file"),
            ("data", raw[:700], "is cut short in 000000.png"),
            ("junk", b"x" * 2000, "is no tar file, or is damaged"),
            ("empty", b"\0" * 10240, "holds no images"),
            ("missing", (tmp_path / "missing.tar").read_bytes(), r"2.png has no .cls, as 1.png has"),
        ):
            (tmp_path / f"{name}.tar").write_bytes(content)
            with pytest.raises(DataError, match=message):
                open_images(tmp_path / f"{name}.tar")
        end = raw.rstrip(b"\0")
        (tmp_path / "end.tar").write_bytes(end + bytes(-len(end) % 512))
        with pytest.raises(DataError, match="has no end; it is cut short"):
            open_images(tmp_path / "end.tar")


class TestParquet:
    def test_images_and_labels(self, tmp_path):
        images = open_reader(write_parquet(tmp_path / "a.parquet", 0, [0, 0, 1, 1, 0]))
        assert images.names == ["0", "1", "2", "3", "4"] and images.labels.tolist() == [0, 0, 1, 1, 0]
        assert images.units.tolist() == [2, 2, 1]
        order = np.random.default_rng(0).permutation(np.tile(np.arange(5), 20))
        with ThreadPoolExecutor(4) as pool:  # several readers at once
            for number, image in zip(
                order, pool.map(pickle.loads(pickle.dumps(images)).read, order.tolist()), strict=True
            ):
                np.testing.assert_array_equal(image, random_image(int(number)))

    def test_people_and_binary_columns(self, tmp_path):
        arrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")

        raw = [encoded(random_image(number)) for number in range(3)]
        table = {"jpg": raw, "identity": ["b", "a", "b"], "name": ["x", "y", "z"]}
        parquet.write_table(arrow.table(table), tmp_path / "a.parquet")
        images = open_reader(tmp_path / "a.parquet")
        assert (
            images.identities == ["b", "a"] and images.labels.tolist() == [0, 1, 0] and images.names == ["x", "y", "z"]
        )
        assert images.raw(2) == raw[2]
        for columns, message in (
            ({"x": [1]}, "has no column of encoded images .* it has x"),
            ({"image": [b"a"], "label": [None]}, "1 rows have no label"),
            ({"image": [b"a"], "label": [0.5]}, "the column label is double; expected whole numbers or texts"),
        ):
            parquet.write_table(arrow.table(columns), tmp_path / "b.parquet")
            with pytest.raises(DataError, match=message):
                open_reader(tmp_path / "b.parquet")
        (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
        with pytest.raises(DataError, match="is no Parquet file of images"):
            open_reader(tmp_path / "b.parquet")


def shards(folder: Path, kind: str) -> Path:
    """Three shards of 4, 2 and 5 images, image n of person (n % 3) * 2."""
    folder.mkdir(exist_ok=True)
    for number, (first, count) in enumerate(((0, 4), (4, 2), (6, 5))):
        labels = [n % 3 * 2 for n in range(first, first + count)]
        path = folder / f"train-{number:04d}.{kind}"
        if kind == "tar":
            webdataset(path, first, labels)
        elif kind == "parquet":
            write_parquet(path, first, labels)
        else:
            records = [image_record(float(label), n, encoded(random_image(n))) for n, label in enumerate(labels, first)]
            write_recordio(path, records, number != 1)
    return folder


@pytest.mark.parametrize("kind", ["tar", "parquet", "rec"])
@pytest.mark.filterwarnings("ignore:.*numbered anew")
def test_shards_are_one_data_set(kind, tmp_path):
    folder = shards(tmp_path / "data", kind)
    for path in (folder, folder / f"train-*.{kind}"):
        images = open_reader(path)
        assert len(images) == 11 and images.labels.tolist() == [n % 3 for n in range(11)]
        assert images.original_labels.tolist() == [0, 2, 4]
        assert len(set(images.names)) == 11 and images.names[4].startswith(f"train-0001.{kind}/")
        assert images.units.tolist() == ([2, 2, 2, 2, 2, 1] if kind == "parquet" else [4, 2, 5])
        for number in range(11):
            np.testing.assert_array_equal(images.read(number), random_image(number))
    assert open_reader(folder / f"train-0002.{kind}").read(1).tolist() == random_image(7).tolist()


def test_shards_that_may_not_belong_together(tmp_path):
    folder = shards(tmp_path / "data", "tar")
    webdataset(folder / "val-0000.tar", 0, [1])
    with pytest.raises(DataError, match=r"holds 4 shards; name one of them \(.*train-\*.tar, …\)"):
        open_reader(folder)
    webdataset(folder / "train-0003.tar", 0, ["Ann"])
    with pytest.raises(DataError, match=r"train-0003.tar: has people's names, and train-0000.tar labels that are numb"):
        open_reader(folder / "train-*.tar")


class TestOrder:
    UNITS = np.array([3, 1, 4, 2, 5, 3, 2])

    @pytest.mark.parametrize("window", [0, 1, 2, 3, 100])
    def test_every_image_comes_once_and_windows_stay_together(self, window):
        owner = np.repeat(np.arange(7), self.UNITS)
        orders = [shard_order(self.UNITS, seed, epoch, window) for seed in (0, 1) for epoch in (0, 1)]
        assert len({tuple(order) for order in orders}) == 4
        for order in orders:
            assert sorted(order.tolist()) == list(range(20))
            if not 0 < window < 7:
                continue
            seen: list[set[int]] = []
            rest = order.tolist()
            while rest:  # units come in windows: as many as fit, each read to its end before the next window begins
                first: list[int] = []
                for place in rest:
                    if owner[place] not in first:
                        first.append(int(owner[place]))
                members = set(first[:window])
                count = int(self.UNITS[list(members)].sum())
                assert {int(owner[place]) for place in rest[:count]} == members
                seen.append(members)
                rest = rest[count:]
            assert [len(members) for members in seen[:-1]] == [window] * (len(seen) - 1)

    def test_images_of_a_window_are_mixed(self):
        """Every fourth image is of the first one's unit, without a run of any."""
        order = shard_order(np.full(8, 1000), 0, 0, 4)
        owner = order[:4000] // 1000
        assert np.abs(np.diff(np.flatnonzero(owner == owner[0]))).max() < 60

    @pytest.mark.parametrize("sizes", [(1, 3), (2, 3), (4, 1)])
    def test_a_run_goes_on_at_another_number_of_ranks(self, sizes):
        """The batches are those of one rank, whoever has which part: a step and the seed are all that is known."""
        labels = np.zeros(20, np.int64)
        whole = Sampler(labels, 12, seed=3, mirror=True, balanced=False, units=self.UNITS, window=2)
        expected = [whole.batch(step) for step in range(8)]
        for step, ranks in enumerate([sizes[0]] * 4 + [sizes[1]] * 4):
            samplers = [
                Sampler(labels, 12, seed=3, mirror=True, balanced=False, units=self.UNITS, window=2)
                for _ in range(ranks)
            ]
            parts = [one.batch(step).share(slice(rank, None, ranks)) for rank, one in enumerate(samplers)]
            for name in ("places", "mirrored"):
                joined = np.empty_like(getattr(expected[step], name))
                for rank, one in enumerate(parts):
                    joined[rank::ranks] = getattr(one, name)
                np.testing.assert_array_equal(joined, getattr(expected[step], name))
        epoch = np.concatenate([one.places for one in expected])[:20]
        assert sorted(epoch.tolist()) == list(range(20))

    def test_units_of_some_images(self):
        places = np.array([0, 2, 3, 8, 9, 19])
        assert units_of(self.UNITS, places).tolist() == [2, 1, 0, 2, 0, 0, 1]
        assert units_of(None, places) is None


def test_some_images_of_each_class():
    labels = np.random.default_rng(0).integers(0, 5, 200)
    places = some_of_each(labels, 7, seed=0)
    assert (np.bincount(labels[places]) == 7).all() and (np.diff(places) > 0).all()
    assert some_of_each(labels, 7, seed=1).tolist() != places.tolist()
    assert some_of_each(labels, 1000, seed=1).tolist() == list(range(200))
