"""Folders, lists and zips of images: order, names, labels, and what is met in real ones."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import struct
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from normface.data import open_images
from normface.errors import DataError, NormfaceWarning
from support.data_writers import datum, encoded, image_record, random_image, write_images, write_lmdb, write_recordio

NAMES = ["Ann/1.png", "Ann/2.PNG", "Zoe/a b.png", "ann/0.png", "Ömer/x.png"]  # in the order of their bytes


def test_folder_per_identity(tmp_path):
    pixels = write_images(tmp_path, NAMES)
    images = open_images(tmp_path)
    assert len(images) == 5
    assert images.names == NAMES
    assert images.identities == ["Ann", "Zoe", "ann", "Ömer"]
    assert images.labels.dtype == np.int64
    assert images.labels.tolist() == [0, 0, 1, 2, 3]
    for i, array in enumerate(pixels):
        np.testing.assert_array_equal(images.read(i), array)
    assert open_images(str(tmp_path), color=False).read(0).shape == (12, 10, 1)


def test_flat_folder(tmp_path):
    pixels = write_images(tmp_path, ["10.png", "2.png"])
    images = open_images(tmp_path)
    assert (images.names, images.labels, images.identities) == (["10.png", "2.png"], None, [])
    np.testing.assert_array_equal(images.read(1), pixels[1])


def test_nested_folders_belong_to_the_outermost(tmp_path):
    """A person's videos; and a folder around everything does not count."""
    write_images(tmp_path, ["faces/A/video1/0.png", "faces/A/video2/0.png", "faces/B/1.png"])
    images = open_images(tmp_path)
    assert images.names == ["faces/A/video1/0.png", "faces/A/video2/0.png", "faces/B/1.png"]
    assert images.identities == ["A", "B"]
    assert images.labels.tolist() == [0, 0, 1]


def test_one_identity(tmp_path):
    write_images(tmp_path, ["A/1.png", "A/2.png"])
    assert open_images(tmp_path).identities == ["A"]


def test_order_is_by_folder_first(tmp_path):
    """As whole strings "A-b/…" would sort before "A/…"."""
    write_images(tmp_path, ["A/1.png", "A-b/1.png"])
    assert open_images(tmp_path).identities == ["A", "A-b"]


def test_unlabelled_on_request(tmp_path):
    write_images(tmp_path, ["A/1.png", "b.png"])
    images = open_images(tmp_path, labelled=False)
    assert (images.names, images.labels) == (["A/1.png", "b.png"], None)
    assert open_images(tmp_path / "A", labelled=False).labels is None
    with pytest.raises(DataError, match=r"A: has no labels; expected a folder per identity, or a label on each line"):
        open_images(tmp_path / "A", labelled=True)


def test_strays_are_told(tmp_path):
    write_images(tmp_path, ["A/1.png", "B/1.png", "loose.png", ".hidden/1.png", "A/._1.png"])
    (tmp_path / "A" / "notes.txt").write_text("x")
    (tmp_path / "A" / "Thumbs.db").write_text("x")
    with pytest.warns(NormfaceWarning) as told:
        images = open_images(tmp_path)
    texts = [str(warning.message) for warning in told]
    outside = "1 images lie outside of the identities' folders and are left out (first: loose.png)"
    others = "1 files are no images by their names and are left out (first: A/notes.txt)"
    assert texts == [f"{tmp_path}: {outside}", f"{tmp_path}: {others}"]
    assert images.names == ["A/1.png", "B/1.png"]
    assert images.strays == ("loose.png", "A/notes.txt")


def test_link_to_itself_ends(tmp_path):
    write_images(tmp_path, ["A/1.png", "B/1.png"])
    (tmp_path / "A" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert open_images(tmp_path).names == ["A/1.png", "B/1.png"]


def test_one_image(tmp_path):
    (tmp_path / "me.png").write_bytes(encoded(random_image(3)))
    images = open_images(tmp_path / "me.png")
    assert (images.names, images.labels) == (["me.png"], None)
    np.testing.assert_array_equal(images.read(0), random_image(3))


def test_list_beside_its_images(tmp_path):
    pixels = write_images(tmp_path, ["p/one.png", "p/two words.png", "p/3.png"])
    text = "\ufeffp/one.png 7\r\n\r\np/two words.png 0\r\np/3.png\t7"
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    with pytest.warns(NormfaceWarning, match=r"2 labels between 0 and 7 were numbered anew, 0 to 1; original_labels"):
        images = open_images(tmp_path / "list.txt")
    assert images.names == ["p/one.png", "p/two words.png", "p/3.png"]
    assert images.labels.tolist() == [1, 0, 1]
    assert images.original_labels.tolist() == [0, 7]
    assert images.identities == ["0", "7"]
    for i, array in enumerate(pixels):
        np.testing.assert_array_equal(images.read(i), array)


def test_list_with_root(tmp_path):
    pixels = write_images(tmp_path / "data", ["a.png", "b.png"])
    (tmp_path / "list").write_text("/a.png 0\nb.png 1\n")  # Caffe puts root_folder in front of both
    images = open_images(tmp_path / "list", root=tmp_path / "data")
    np.testing.assert_array_equal(images.read(0), pixels[0])
    np.testing.assert_array_equal(images.read(1), pixels[1])
    assert images.labels.tolist() == [0, 1]


def test_list_from_the_working_directory(tmp_path, monkeypatch):
    pixels = write_images(tmp_path, ["data/a.png"])
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "list").write_text(f"data/a.png 0\n{tmp_path}/data/a.png 0")
    monkeypatch.chdir(tmp_path)
    images = open_images("lists/list")
    np.testing.assert_array_equal(images.read(0), pixels[0])
    np.testing.assert_array_equal(images.read(1), pixels[0])


def test_list_without_labels(tmp_path):
    write_images(tmp_path, ["photo 1.png", "b.png"])
    (tmp_path / "list").write_text("photo 1.png\nb.png\n")
    images = open_images(tmp_path / "list")
    assert (images.names, images.labels) == (["photo 1.png", "b.png"], None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"list: is empty; expected an image's path and its label on each line"),
        ("\n \r\n", r"list: is empty"),
        ("a.png 0\nb.png\n", r'list:2: expected "path label" as on the lines before, got "b.png"'),
        ("a.png 0\nb.png abc\n", r'list:2: expected "path label" .*got "b.png abc"'),
        ("a.png abc\nb.png 1\n", r'list:1: has the label "abc"; expected a whole number'),
        ("a.png 0.5\n", r'list:1: has the label "0.5"; expected a whole number'),
        ("a.png\nb.png 1\n", r'list:2: has a label \("1"\), but the lines before have none'),
        ("a.png 0\nb.png -1\n", r"b.png: has the label -1; labels are 0 or above"),
        ("a.png 0\nb.png 99999999999999999999\n", r"list:2: expected"),
        ("a\0b 1\n", r"list: is no text, and no format known here; expected a folder, a list file"),
        ("a.png 0\n" + "x" * 500 + "\n", r'list:2: expected "path label".*\.\.\."$'),
    ],
)
def test_bad_lists(tmp_path, text, message):
    write_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "list").write_text(text)
    with pytest.raises(DataError, match=message):
        open_images(tmp_path / "list")


def test_missing_images_are_named_when_read(tmp_path):
    write_images(tmp_path, ["a.png"])
    (tmp_path / "list").write_text("a.png 0\ngone.png 1\nbad.png 2\n" + "a.png/x.png 3\n")
    (tmp_path / "bad.png").write_bytes(b"not an image")
    images = open_images(tmp_path / "list")
    images.read(0)
    for i, message in ((1, r"gone.png: No such file"), (2, r"bad.png: is no JPEG"), (3, r"x.png: Not a directory")):
        with pytest.raises(DataError, match=message):
            images.read(i)


def write_zip(path: Path, names: list[str], method: int = zipfile.ZIP_DEFLATED) -> list[np.ndarray]:
    pixels = [random_image(seed) for seed in range(len(names))]
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, array in zip(names, pixels, strict=True):
            archive.writestr(name, encoded(array))
    return pixels


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip(tmp_path, method):
    path = tmp_path / "faces.zip"
    pixels = write_zip(path, ["lfw/B/1.png", "lfw/A/2.png", "lfw/A/10.png"], method)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/lfw/A/._2.png", b"x")
        archive.writestr("lfw/.DS_Store", b"x")
        archive.mkdir("lfw/C") if hasattr(archive, "mkdir") else None
    images = open_images(path)
    assert images.names == ["lfw/A/10.png", "lfw/A/2.png", "lfw/B/1.png"]
    assert images.identities == ["A", "B"]
    for i, seed in enumerate((2, 1, 0)):
        np.testing.assert_array_equal(images.read(i), pixels[seed])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["faces.zip"]  # nothing is unpacked


def test_zip_of_windows_and_without_folders(tmp_path):
    write_zip(tmp_path / "a.zip", ["A\\1.png", "B\\1.png"])
    assert open_images(tmp_path / "a.zip").identities == ["A", "B"]
    write_zip(tmp_path / "b.zip", ["1.png"])
    assert open_images(tmp_path / "b.zip").labels is None


def test_zip_bombs_and_damage(tmp_path):
    path = tmp_path / "x.zip"
    write_zip(path, ["A/1.png"], zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match=r"x.zip: A/1.png is packed by LZMA; pack the images again"):
        open_images(path)

    write_zip(path, ["A/1.png"])
    raw = path.read_bytes()
    directory = raw.index(b"PK\x01\x02")

    def changed(at: int, value: bytes) -> None:
        path.write_bytes(raw[:at] + value + raw[at + len(value) :])

    changed(directory + 24, struct.pack("<I", 3 << 30))
    with pytest.raises(DataError, match=r"A/1.png declares 3221225472 bytes; at most 268435456 are read"):
        open_images(path)
    changed(directory + 24, struct.pack("<I", 5))  # it declares 5 bytes and unpacks to more: only 6 are unpacked
    with pytest.raises(DataError, match=r"x.zip: A/1.png: is damaged \(its size or checksum"):
        open_images(path).read(0)
    changed(directory + 8, struct.pack("<H", 1))
    with pytest.raises(DataError, match=r"A/1.png is encrypted; pack the images again without a password"):
        open_images(path)
    changed(60, b"\xff" * 8)
    with pytest.raises(DataError, match=r"x.zip: A/1.png: is damaged"):
        open_images(path).read(0)
    changed(directory + 42, struct.pack("<I", 9))
    with pytest.raises(DataError, match=r"is not where the zip's directory says"):
        open_images(path).read(0)
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DataError, match=r"x.zip: is no zip file, or is damaged"):
        open_images(path)
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(DataError, match=r"x.zip: holds no images"):
        open_images(path)


def test_what_is_no_source(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: does not exist; expected a folder, a list file, an LMDB"):
        open_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no images"):
        open_images(tmp_path)
    (tmp_path / "CURRENT").write_text("MANIFEST-000001\n")
    with pytest.raises(DataError, match=r"is a damaged LevelDB, or cut short"):
        open_images(tmp_path)
    with pytest.raises(DataError, match=r"root is for the paths in a list file, and this is none"):
        open_images(tmp_path, root=tmp_path)
    (tmp_path / "list").write_text("a.png 0\n")
    with pytest.raises(DataError, match=r"elsewhere: is no folder; expected the root of the paths"):
        open_images(tmp_path / "list", root=tmp_path / "elsewhere")


def every_kind(folder: Path) -> list[Path]:
    """The same eight images of two people in every format."""
    names = [f"{person}/{i}.png" for person in "AB" for i in range(4)]
    raws = [encoded(array) for array in write_images(folder / "tree", names)]
    (folder / "list").write_text("".join(f"tree/{name} {i // 4}\n" for i, name in enumerate(names)))
    write_zip(folder / "z.zip", names)
    write_lmdb(folder / "db", [datum(raw, i // 4, encoded=True) for i, raw in enumerate(raws)])
    write_recordio(folder / "r.rec", [image_record(i // 4, i, raw) for i, raw in enumerate(raws)])
    return [folder / name for name in ("tree", "list", "z.zip", "db", "r.rec")]


def _checksums(images) -> list[int]:
    return [int(images.read(i).sum()) for i in range(len(images))]


@pytest.mark.slow
def test_every_kind_agrees_and_reads_in_threads_forks_and_pickles(tmp_path):
    expected = [int(random_image(seed).sum()) for seed in range(8)]
    for path in every_kind(tmp_path):
        images = open_images(path)
        assert images.labels.tolist() == [0] * 4 + [1] * 4, path
        assert _checksums(images) == expected, path
        with ThreadPoolExecutor(8) as pool:
            order = list(np.random.default_rng(0).integers(0, 8, 200))
            assert [int(array.sum()) for array in pool.map(images.read, order)] == [expected[i] for i in order], path
        assert _checksums(pickle.loads(pickle.dumps(images))) == expected, path
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # as a DataLoader's workers on macOS and Windows
        kinds = [open_images(path) for path in every_kind(tmp_path / "again")]
        assert pool.map(_checksums, kinds) == [expected] * 5


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"pipe: is a device or pipe"):
        open_images(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"/dev/zero: is a device or pipe"):
        open_images("/dev/zero")


@pytest.mark.slow
def test_random_damage_of_a_zip_is_met(tmp_path):
    """Whatever the bytes, opening and reading end in images or a DataError, not in one of zipfile's many errors."""
    path = tmp_path / "x.zip"
    write_zip(path, ["A/1.png", "A/2.png", "B/3.png"])
    whole = path.read_bytes()
    random = np.random.default_rng(3)
    refused = 0
    for _ in range(400):
        raw = np.frombuffer(whole, np.uint8).copy()
        at = len(raw) - 1 - random.integers(0, 300, 3)  # in the directory, which is at the end
        raw[at] = random.choice([0, 1, 128, 255], 3)
        path.write_bytes(raw.tobytes())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NormfaceWarning)
                images = open_images(path)
            for i in range(len(images)):
                images.read(i)
        except DataError:
            refused += 1
    assert refused > 200
