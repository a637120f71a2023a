"""InsightFace's RecordIO: with and without an index, records in parts, and files that lie."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from normface.data import open_images
from normface.errors import DataError, NormfaceWarning
from support.data_writers import encoded, image_record, random_image, record, write_recordio

MAGIC = struct.pack("<I", 0xCED7230A)


def insightface(path, index=True):
    """Record 0 says (6, 8): images are records 1 to 5, and 6 and 7 describe the identities."""
    images = [image_record(float(i // 3), i + 1, encoded(random_image(i))) for i in range(5)]
    identities = [image_record([1.0, 4.0], 6, b""), image_record([4.0, 6.0], 7, b"")]
    return write_recordio(path, [image_record([6.0, 8.0], 0, b""), *images, *identities], index)


@pytest.mark.parametrize("index", [True, False])
def test_insightface_set(tmp_path, index):
    images = open_images(insightface(tmp_path / "train.rec", index))
    assert images.names == ["1", "2", "3", "4", "5"]
    assert images.labels.tolist() == [0, 0, 0, 1, 1]
    assert images.identities == ["0", "1"]
    for i in range(5):
        np.testing.assert_array_equal(images.read(i), random_image(i))


@pytest.mark.parametrize("index", [True, False])
def test_plain_set(tmp_path, index):
    """im2rec's files have no record about the others; labels may come as an array, of which the first counts."""
    payloads = [
        image_record(2.0, 0, encoded(random_image(0))),
        image_record([5.0, 0.3, 0.9], 1, encoded(random_image(1))),
    ]
    with pytest.warns(NormfaceWarning, match=r"2 labels between 2 and 5 were numbered anew"):
        images = open_images(write_recordio(tmp_path / "a.rec", payloads, index))
    assert images.names == ["0", "1"]
    assert images.original_labels.tolist() == [2, 5]
    np.testing.assert_array_equal(images.read(1), random_image(1))


def test_by_folder_and_by_index(tmp_path):
    insightface(tmp_path / "train.rec")
    (tmp_path / "property").write_text("2,12,10")
    assert len(open_images(tmp_path)) == len(open_images(tmp_path / "train.idx")) == 5
    insightface(tmp_path / "val.rec")
    with pytest.raises(DataError, match=r"holds 2 RecordIO files; name one of them \(train.rec, …\)"):
        open_images(tmp_path)


@pytest.mark.parametrize("index", [True, False])
def test_records_in_parts(tmp_path, index):
    """An image that holds the magic word, aligned, is stored in parts without it."""
    pixels = random_image(4, 20, 20)
    raw = bytearray(encoded(pixels, ".bmp"))
    for at in (54, 122, 126, 1000):  # bytes of pixels; 24 bytes of IRHeader come first, and (24 + 54 + 2) is aligned
        raw[at + 2 : at + 6] = MAGIC
    payload = image_record(0.0, 0, bytes(raw))
    stored = record(payload)
    assert stored.count(MAGIC) == 5 and stored != record(image_record(0.0, 0, encoded(pixels, ".bmp")))
    path = write_recordio(tmp_path / "a.rec", [payload, image_record(1.0, 1, encoded(random_image(5)))], index)
    images = open_images(path)
    assert images.raw(0) == bytes(raw)
    assert images.read(0).shape == (20, 20, 3)
    np.testing.assert_array_equal(images.read(1), random_image(5))


@pytest.mark.slow
@pytest.mark.parametrize("index", [True, False])
def test_magic_word_within_the_header(tmp_path, index):
    """The id may be the magic word as well; the label is still found."""
    raw = encoded(random_image(1))
    payloads = [image_record(1.0, 0xCED7230A, raw), image_record(0.0, 1, raw)]
    images = open_images(write_recordio(tmp_path / "a.rec", payloads, index))
    assert images.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(images.read(0), random_image(1))


def test_more_records_than_float32_counts(tmp_path):
    """Record 0 stores its numbers as float32, which from 2^24 on are rounded: descriptions tell themselves."""
    payloads = [image_record(0.0, 1, encoded(random_image(0))), image_record([1.0, 2.0], 2, b"")]
    path = write_recordio(tmp_path / "a.rec", [image_record([2.0**25, 2.0**25 + 4], 0, b""), *payloads])
    assert open_images(path).names == ["1"]


def test_index_in_any_order(tmp_path):
    path = insightface(tmp_path / "a.rec")
    index = path.with_suffix(".idx")
    index.write_text("".join(sorted(index.read_text().splitlines(keepends=True), reverse=True)))
    assert open_images(path).names == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a.idx: is empty; without it a.rec would be read from start to end"),
        ("0\tx\n", r"a.idx: is no RecordIO index; expected a key and an offset on each line"),
        ("0\t0\n1\n", r"a.idx: is no RecordIO index"),
        ("0\t99999999999999999999\n", r"a.idx: is no RecordIO index"),
        ("0\t0\n1\t4294967296\n", r"a.idx: puts record 1 to byte 4294967296, and a.rec has \d+ bytes; do the two"),
        ("0\t-8\n", r"a.idx: puts record 0 to byte -8"),
        ("0\t0\n0\t40\n", r"a.idx: has the key 0 twice"),
        ("1\t4\n", r"a.rec: record 1 does not start with RecordIO's magic word; does the .idx belong to it"),
    ],
)
def test_bad_indices(tmp_path, text, message):
    path = insightface(tmp_path / "a.rec")
    path.with_suffix(".idx").write_text(text)
    with pytest.raises(DataError, match=message):
        open_images(path)


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("lost", [1, 5, 60, 200])
def test_truncated(tmp_path, index, lost):
    path = insightface(tmp_path / "a.rec", index)
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(DataError, match=r"a\.(rec|idx): .*(cut short|ends within|has \d+ bytes)"):
        open_images(path)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"a.rec: is empty; expected RecordIO"),
        (b"x" * 64, r"a.rec: at byte 0: expected RecordIO's magic word 0xced7230a, got 0x78787878"),
        (record(image_record(0.0, 0, b"p")) + b"zzzzzzzz", r"a.rec: at byte \d+: expected RecordIO's magic word"),
        (MAGIC + struct.pack("<I", 3 << 29 | 4) + b"abcd", r"the parts of record 0 are out of order, at byte 0"),
        (MAGIC + struct.pack("<I", 1 << 29 | 4) + b"abcd", r"a.rec: is cut short in record 0"),
        (MAGIC + struct.pack("<I", (1 << 29) - 1) + b"abcd", r"a.rec: is cut short in record 0; fetch it again"),
        (record(b"abc"), r"a.rec: record 0 is too short for an image and its labels"),
        (record(struct.pack("<IfQQ", 2**31, 0, 0, 0)), r"a.rec: record 0 is too short for an image and its labels"),
        (record(image_record(0.5, 0, b"p")), r"a.rec: record 0: has the label 0.5; expected a whole number"),
        (record(image_record(float("nan"), 0, b"p")), r"record 0: has the label nan; expected a whole number"),
        (record(image_record(-1.0, 0, b"p")), r"record 0: has the label -1; labels are 0 or above"),
        (
            record(image_record([1.0, 1.0], 0, b"")),
            r"record 0 says that images are records 1 to 0, and there are none",
        ),
    ],
)
def test_hostile_files(tmp_path, raw, message):
    path = tmp_path / "a.rec"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=message):
        open_images(path)


def test_unreadable_image_is_named(tmp_path):
    payloads = [
        image_record(0.0, 0, encoded(random_image(0))),
        image_record(0.0, 1, b"no image"),
        image_record(0.0, 2, b""),
    ]
    images = open_images(write_recordio(tmp_path / "a.rec", payloads))
    images.read(0)
    for i, problem in ((1, "is no JPEG"), (2, "is empty")):
        with pytest.raises(DataError, match=rf"a.rec: record {i}: {problem}"):
            images.read(i)


def test_random_damage_is_met(tmp_path):
    """Whatever the bytes, opening and reading end in images or a DataError."""
    whole = insightface(tmp_path / "whole.rec").read_bytes()
    random = np.random.default_rng(1)
    path = tmp_path / "a.rec"
    path.with_suffix(".idx").write_bytes((tmp_path / "whole.idx").read_bytes())
    refused = 0
    for trial in range(150):
        raw = np.frombuffer(whole, np.uint8).copy()
        # Half the time within the first record's words, where lengths and labels stand.
        raw[random.integers(0, 120 if trial % 2 else len(raw), 4)] = random.integers(0, 256, 4)
        path.write_bytes(raw.tobytes())
        if trial == 75:
            path.with_suffix(".idx").unlink()
        try:
            images = open_images(path)
            for i in range(len(images)):
                images.read(i)
        except (DataError, NormfaceWarning):
            refused += 1
    assert refused > 75
