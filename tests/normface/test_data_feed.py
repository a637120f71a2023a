"""Caffe's data layers without Caffe: sequence, transforms, positions, and what is refused.

Expected values are data_transformer.cpp's formula written out. test_data_feed_caffe.py compares with Caffe itself.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from pathlib import Path

import caffeport
import cv2
import h5py
import numpy as np
import pytest
from caffeport.formats.caffemodel import read_binaryproto
from normface.data.caffe import Feed, input_shapes
from normface.errors import DataError
from support.data_writers import datum, encoded, random_image, write_images, write_lmdb

SINK = 'layer { name: "sink" type: "Silence" bottom: "data" }'


def write_net(folder: Path, layer: str, rest: str = "") -> Path:
    path = folder / "net.prototxt"
    path.write_text(layer + rest)
    return path


def feed_of(path: Path, phase: str = "train", seed: int | None = 1, prefetch: int = 4) -> Feed:
    net = caffeport.load(path, phase=phase, input_shapes=input_shapes(path, phase))
    return Feed(net, seed=seed, prefetch=prefetch)


def image_data(source: object, batch: int = 2, more: str = "", transform: str = "") -> str:
    return (
        'layer { name: "d" type: "ImageData" top: "data" top: "label" '
        f'image_data_param {{ source: "{source}" batch_size: {batch} {more} }} transform_param {{ {transform} }} }}'
    )


def lmdb_data(source: object, batch: int = 2, transform: str = "") -> str:
    return (
        'layer { name: "d" type: "Data" top: "data" top: "label" '
        f'data_param {{ source: "{source}" batch_size: {batch} backend: LMDB }} transform_param {{ {transform} }} }}'
    )


def listed(folder: Path, count: int, **size: int) -> list[np.ndarray]:
    """``count`` images, numbered, and list.txt with labels 10, 11 …"""
    pixels = write_images(folder, [f"{i}.png" for i in range(count)], **size)
    (folder / "list.txt").write_text("".join(f"{i}.png {10 + i}\n" for i in range(count)))
    return pixels


def planes(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 0, 1).astype(np.float32)


def test_sequence_runs_across_the_end(tmp_path):
    pixels = listed(tmp_path, 5)
    feed = feed_of(write_net(tmp_path, image_data("list.txt")), "test")
    assert feed.shapes == {"data": (2, 3, 12, 10), "label": (2,)}
    for number in range(6):
        batch = feed.next()
        rows = [(2 * number + i) % 5 for i in range(2)]
        assert batch["data"].dtype == batch["label"].dtype == np.float32
        assert batch["label"].tolist() == [10 + row for row in rows]
        np.testing.assert_array_equal(batch["data"], [planes(pixels[row]) for row in rows])
    feed.close()


def test_batch_larger_than_the_epoch(tmp_path):
    listed(tmp_path, 3)
    feed = feed_of(write_net(tmp_path, image_data("list.txt", batch=7)), "test", prefetch=0)
    assert feed.next()["label"].tolist() == [10, 11, 12, 10, 11, 12, 10]
    assert feed.next()["label"].tolist() == [11, 12, 10, 11, 12, 10, 11]


def test_resize_and_grey(tmp_path):
    pixels = listed(tmp_path, 2)
    feed = feed_of(write_net(tmp_path, image_data("list.txt", more="new_height: 7 new_width: 9 is_color: false")))
    grey = [cv2.imread(str(tmp_path / f"{i}.png"), cv2.IMREAD_GRAYSCALE) for i in range(2)]
    expected = [cv2.resize(array, (9, 7))[None].astype(np.float32) for array in grey]
    np.testing.assert_array_equal(feed.next()["data"], expected)
    feed = feed_of(write_net(tmp_path, image_data("list.txt", more="new_height: 7 new_width: 9")))
    np.testing.assert_array_equal(feed.next()["data"], [planes(cv2.resize(array, (9, 7))) for array in pixels])


def write_mean(path: Path, mean: np.ndarray) -> None:
    """A BlobProto as compute_image_mean writes it: num, channels, height, width, then packed floats."""
    from support.data_writers import tagged

    raw = b"".join(tagged(number, side) for number, side in enumerate((1, *mean.shape), 1))
    data = mean.astype("<f4").tobytes()
    path.write_bytes(raw + bytes([5 << 3 | 2]) + tagged(0, len(data))[1:] + data)
    assert read_binaryproto(path).shape == (1, *mean.shape)


def test_centre_crop_mean_file_and_scale_in_the_test_phase(tmp_path):
    pixels = listed(tmp_path, 2)
    mean = np.random.default_rng(0).uniform(0, 255, (3, 12, 10)).astype(np.float32)
    write_mean(tmp_path / "mean.binaryproto", mean)
    text = image_data("list.txt", transform='crop_size: 7 mean_file: "mean.binaryproto" scale: 0.0078125')
    batch = feed_of(write_net(tmp_path, text), "test").next()["data"]
    # (12 - 7) / 2 = 2 and (10 - 7) / 2 = 1; the mean image is cropped with the image.
    expected = [(planes(array) - mean)[:, 2:9, 1:8] * np.float32(0.0078125) for array in pixels]
    np.testing.assert_array_equal(batch, expected)


@pytest.mark.parametrize("values", [(127.5,), (104.0, 117.0, 123.0)])
def test_mean_values(tmp_path, values):
    pixels = listed(tmp_path, 2)
    text = image_data("list.txt", transform=" ".join(f"mean_value: {v}" for v in values) + " scale: 0.0078125")
    batch = feed_of(write_net(tmp_path, text), "test").next()["data"]
    mean = np.array(values, np.float32).reshape(-1, 1, 1)
    np.testing.assert_array_equal(batch, [(planes(array) - mean) * np.float32(0.0078125) for array in pixels])


@pytest.mark.parametrize("phase", ["train", "test"])
def test_random_crop_and_mirror(tmp_path, phase):
    """Every image of a batch is one of the windows of its source, straight or mirrored, mean and all; over many
    draws all of them come, about equally often. In the test phase only the middle comes, though mirrored too."""
    pixels = listed(tmp_path, 1, height=6, width=7)
    mean = np.random.default_rng(0).uniform(0, 255, (3, 6, 7)).astype(np.float32)
    write_mean(tmp_path / "mean.binaryproto", mean)
    text = image_data("list.txt", 720, transform='crop_size: 5 mirror: true mean_file: "mean.binaryproto"')
    batch = feed_of(write_net(tmp_path, text), phase, prefetch=0).next()["data"]
    whole = planes(pixels[0]) - mean
    counts = {}
    for top in range(2):
        for left in range(3):
            window = whole[:, top : top + 5, left : left + 5]
            for mirror, candidate in enumerate((window, window[:, :, ::-1])):
                counts[top, left, mirror] = int((batch == candidate).all(axis=(1, 2, 3)).sum())
    assert sum(counts.values()) == 720
    if phase == "train":
        assert min(counts.values()) > 30 and max(counts.values()) < 100  # 60 expected, with a deviation of 7.4
    else:
        assert counts[0, 1, 0] + counts[0, 1, 1] == 720
        assert 300 < counts[0, 1, 0] < 420  # 360 expected, with a deviation of 13.4


def test_shuffle(tmp_path):
    """Each epoch has every image once, in an order of its own; another seed gives others."""
    listed(tmp_path, 8)
    path = write_net(tmp_path, image_data("list.txt", 4, more="shuffle: true"))
    orders = {}
    for seed in (1, 2):
        feed = feed_of(path, seed=seed)
        for epoch in range(3):
            orders[seed, epoch] = tuple(np.concatenate([feed.next()["label"] for _ in range(2)]).tolist())
        feed.close()
    assert all(sorted(order) == list(range(10, 18)) for order in orders.values())
    assert len(set(orders.values())) == 6


def test_rand_skip(tmp_path):
    listed(tmp_path, 8)
    path = write_net(tmp_path, image_data("list.txt", 1, more="rand_skip: 5"))
    firsts = {feed_of(path, seed=seed, prefetch=0).next()["label"][0] for seed in range(40)}
    assert firsts == {10, 11, 12, 13, 14}


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_state_and_restore(tmp_path, prefetch):
    """From any position on the same batches come, whatever was made ahead, through JSON, with another seed given."""
    listed(tmp_path, 7)
    more = "shuffle: true rand_skip: 3"
    path = write_net(tmp_path, image_data("list.txt", 3, more=more, transform="crop_size: 6 mirror: true"))
    feed = feed_of(path, seed=None, prefetch=prefetch)
    states, batches = [], []
    for _ in range(12):
        states.append(json.dumps(feed.state()))
        batches.append(feed.next())
    feed.close()
    assert not np.array_equal(batches[0]["data"], batches[7]["data"])
    other = feed_of(path, seed=99, prefetch=2)
    for start in (5, 0, 9):
        other.restore(json.loads(states[start]))
        assert json.dumps(other.state()) == states[start]
        for batch in batches[start:]:
            again = other.next()
            np.testing.assert_array_equal(again["data"], batch["data"])
            np.testing.assert_array_equal(again["label"], batch["label"])
    other.close()


def test_state_of_other_data_is_refused(tmp_path):
    listed(tmp_path, 7)
    path = write_net(tmp_path, image_data("list.txt", 3))
    state = feed_of(path).state()
    listed(tmp_path, 6)
    with pytest.raises(DataError, match=r'layer "d" had {.items.: 7, .batch_size.: 3} when .* and has {.items.: 6'):
        feed_of(path).restore(state)
    with pytest.raises(DataError, match=r"the stored position in the data is incomplete \(KeyError\('layers'\)\)"):
        feed_of(path).restore({"seed": 1, "batch": 2})


def test_unreadable_image_comes_with_its_batch(tmp_path):
    """Batches made ahead may fail long before they are asked for; the error waits for its turn, and stays."""
    listed(tmp_path, 7)
    (tmp_path / "4.png").write_bytes(encoded(random_image(4))[:100])
    feed = feed_of(write_net(tmp_path, image_data("list.txt", 2)), "test", prefetch=6)
    assert feed.next()["label"].tolist() == [10, 11]
    assert feed.next()["label"].tolist() == [12, 13]
    for _ in range(2):
        with pytest.raises(DataError, match=r"4.png: is cut short \(PNG of 100 bytes\)"):
            feed.next()
    assert feed.state()["batch"] == 2
    (tmp_path / "4.png").write_bytes(encoded(random_image(4)))
    feed.restore(feed.state())
    assert feed.next()["label"].tolist() == [14, 15]
    feed.close()


def test_threads_end(tmp_path):
    listed(tmp_path, 4)
    with feed_of(write_net(tmp_path, image_data("list.txt", 2))) as feed:
        feed.next()
        assert any("normface-feed" in thread.name for thread in threading.enumerate())
    for _ in range(100):
        if not any("normface-feed" in thread.name for thread in threading.enumerate()):
            break
        time.sleep(0.05)
    else:
        pytest.fail("threads live on")


def test_dropped_feed_ends_its_threads(tmp_path):
    listed(tmp_path, 4)
    before = {thread.ident for thread in threading.enumerate()}
    feed = feed_of(write_net(tmp_path, image_data("list.txt", 2)))
    feed.next()
    del feed  # no reference circle keeps it until the garbage collector comes
    assert {thread.ident for thread in threading.enumerate()} <= before


def test_images_of_several_sizes(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(random_image(0, 12, 10)))
    (tmp_path / "b.png").write_bytes(encoded(random_image(1, 9, 14)))
    (tmp_path / "list.txt").write_text("a.png 0\nb.png 1\n")
    feed = feed_of(write_net(tmp_path, image_data("list.txt", 2)), "test")
    with pytest.raises(DataError, match=r"b.png: gives 3x9x14, and the first image of its batch 3x12x10; layer \"d\""):
        feed.next()
    feed = feed_of(write_net(tmp_path, image_data("list.txt", 1)), "test")  # one a batch may differ, as in Caffe
    assert [feed.next()["data"].shape for _ in range(3)] == [(1, 3, 12, 10), (1, 3, 9, 14), (1, 3, 12, 10)]
    feed.close()


def test_data_of_every_kind_of_datum(tmp_path):
    """Encoded ones keep the channels they have unless force_color or force_gray says otherwise; floats are taken."""
    colour, grey = random_image(0), random_image(1)[:, :, :1]
    write_lmdb(tmp_path / "grey", [datum(encoded(grey), 3, encoded=True), datum(encoded(grey), -1, encoded=True)])
    batch = feed_of(write_net(tmp_path, lmdb_data("grey")), "test").next()
    np.testing.assert_array_equal(batch["data"], [planes(grey)] * 2)
    assert batch["label"].tolist() == [3, -1]
    batch = feed_of(write_net(tmp_path, lmdb_data("grey", transform="force_color: true")), "test").next()
    np.testing.assert_array_equal(batch["data"], [np.repeat(planes(grey), 3, axis=0)] * 2)
    write_lmdb(tmp_path / "colour", [datum(encoded(colour), 0, encoded=True)])
    batch = feed_of(write_net(tmp_path, lmdb_data("colour", 1, "force_gray: true")), "test").next()
    np.testing.assert_allclose(batch["data"][0, 0], colour @ [0.114, 0.587, 0.299], atol=1)  # OpenCV's fixed point
    numbers = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    write_lmdb(tmp_path / "floats", [datum(numbers, 1)])
    batch = feed_of(write_net(tmp_path, lmdb_data("floats", 1, "scale: 2")), "test").next()
    np.testing.assert_array_equal(batch["data"], numbers[None] * 2)


def test_old_text(tmp_path):
    """A V1 net whose data layer has scale, crop_size and mirror in data_param."""
    write_lmdb(tmp_path / "db", [datum(random_image(i).transpose(2, 0, 1), i) for i in range(3)])
    text = (
        'layers { name: "d" type: DATA top: "data" top: "label" '
        'data_param { source: "db" batch_size: 1 backend: LMDB scale: 0.5 crop_size: 4 } }'
    )
    batch = feed_of(write_net(tmp_path, text), "test").next()
    np.testing.assert_array_equal(batch["data"], planes(random_image(0))[None, :, 4:8, 3:7] * 0.5)


def test_hdf5(tmp_path):
    """Rows run on through the files and round again; tops are data sets of any rank."""
    random = np.random.default_rng(0)
    stored = []
    for i, rows in enumerate((3, 1, 4)):
        data, label = random.standard_normal((rows, 2, 2)), np.arange(rows) + 10 * i
        stored += list(zip(data.astype(np.float32), label, strict=True))
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["data"], file["label"], file["else"] = data, label, "text"
    (tmp_path / "files.txt").write_text("0.h5\n1.h5 2.h5\n")
    text = 'layer { name: "h" type: "HDF5Data" top: "data" top: "label" hdf5_data_param { source: "files.txt" '
    feed = feed_of(write_net(tmp_path, text + "batch_size: 5 } }"))
    for number in range(5):
        batch = feed.next()
        for i in range(5):
            data, label = stored[(5 * number + i) % 8]
            np.testing.assert_array_equal(batch["data"][i], data)
            assert batch["label"][i] == label
    feed.close()
    feed = feed_of(write_net(tmp_path, text + "batch_size: 8 shuffle: true } }"))
    epochs = [feed.next() for _ in range(4)]
    feed.close()
    assert all(sorted(epoch["label"].tolist()) == [0, 1, 2, 10, 20, 21, 22, 23] for epoch in epochs)
    assert len({tuple(epoch["label"].tolist()) for epoch in epochs}) == 4
    for epoch in epochs:  # a file's rows stay together, as in Caffe
        files = [int(label // 10) for label in epoch["label"]]
        assert sum(a != b for a, b in itertools.pairwise(files)) == 2
        by_label = {int(label): data for data, label in stored}
        np.testing.assert_array_equal(epoch["data"], [by_label[int(label)] for label in epoch["label"]])


def test_dummy_data(tmp_path):
    text = (
        'layer { name: "x" type: "DummyData" top: "data" top: "one" dummy_data_param { '
        'shape { dim: 4 dim: 3 } shape { dim: 2 } data_filler { type: "gaussian" std: 2 } data_filler { value: 7 } } }'
    )
    feed = feed_of(write_net(tmp_path, text))
    first, second = feed.next(), feed.next()
    assert (first["one"] == 7).all() and first["one"].shape == (2,)
    assert first["data"].shape == (4, 3) and not np.array_equal(first["data"], second["data"])
    again = feed_of(tmp_path / "net.prototxt").next()
    np.testing.assert_array_equal(again["data"], first["data"])
    feed.close()
    text = (
        'layer { name: "x" type: "DummyData" top: "data" dummy_data_param { num: 2 channels: 1 height: 1 width: 3 } }'
    )
    np.testing.assert_array_equal(feed_of(write_net(tmp_path, text), prefetch=0).next()["data"], np.zeros((2, 1, 1, 3)))


def test_paths_from_the_working_directory_come_first(tmp_path, monkeypatch):
    """As in Caffe; the net's folder is for texts that are run from elsewhere. root_folder is put in front as it is."""
    here, there = tmp_path / "here", tmp_path / "there"
    listed(here, 2)
    listed(there, 3)
    path = write_net(there, image_data("list.txt", 1, more='root_folder: "images_"'))
    for folder, count in ((here, 2), (there, 3)):
        for i in range(count):
            (folder / f"{i}.png").rename(folder / f"images_{i}.png")
    monkeypatch.chdir(tmp_path)
    assert feed_of(path).sources == {"d": there / "list.txt"}
    feed_of(path).next()
    monkeypatch.chdir(here)
    feed = feed_of(path)
    assert feed.sources == {"d": Path("list.txt")} and feed.state()["layers"]["d"]["items"] == 2


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (image_data("none.txt"), r'layer "d" \(ImageData\): its source none.txt does not exist \(neither from'),
        (image_data(""), r'layer "d" \(ImageData\): names no source'),
        (image_data("list.txt", 0), r"batch_size is 0; expected 1 or more"),
        (image_data("list.txt", more="new_height: 5"), r"new_height and new_width are given together, or neither"),
        (image_data("list.txt", transform="crop_size: 11"), r"0.png: is 10 x 12, smaller than crop_size 11 of layer"),
        (image_data("list.txt", transform='mean_file: "m"'), r"its mean_file m does not exist"),
        (image_data("list.txt", transform='mean_file: "m" mean_value: 1'), r"gives mean_file and mean_value"),
        (
            image_data("list.txt", transform="mean_value: 1 mean_value: 2"),
            r"has 3 channels, and .* gives 2 mean_values",
        ),
        (
            image_data("list.txt", transform='mean_file: "mean"'),
            r"0.png: is 3x12x10, and the mean image of .* is 3x9x9",
        ),
        (lmdb_data("db", transform="force_color: true force_gray: true"), r"sets force_color and force_gray"),
        (lmdb_data("list.txt"), r"list.txt: is no LMDB"),
        (lmdb_data("level"), r"level: is a damaged LevelDB, or cut short"),
        (lmdb_data("."), r"is no LMDB \(there is no data.mdb in it\)"),
        (lmdb_data("db"), r"record 00000000: declares 3 x 4 x 4 numbers .*and holds 47"),
        (
            'layer { name: "d" type: "HDF5Data" top: "data" hdf5_data_param { source: "h.txt" batch_size: 1 } }',
            r'layer "d" \(HDF5Data\): its file gone.h5 does not exist',
        ),
        (
            'layer { name: "d" type: "HDF5Data" top: "data" hdf5_data_param { source: "list.h" batch_size: 1 } }',
            r"list.txt: cannot be read as HDF5",
        ),
        (
            'layer { name: "d" type: "HDF5Data" top: "x" hdf5_data_param { source: "good.h" batch_size: 1 } }',
            r'good.h5: has no data set "x"; it has data, text',
        ),
        (
            'layer { name: "d" type: "HDF5Data" top: "text" hdf5_data_param { source: "good.h" batch_size: 1 } }',
            r'good.h5: "text" is object .*; expected rows of numbers',
        ),
        (
            'layer { name: "d" type: "HDF5Data" top: "data" hdf5_data_param { source: "good.h" batch_size: 1 } '
            "transform_param { scale: 2 } }",
            r'layer "d" \(HDF5Data\): has a transform_param, and HDF5Data does not transform',
        ),
    ],
)
def test_bad_layers(tmp_path, layer, message):
    listed(tmp_path, 2)
    write_mean(tmp_path / "mean", np.zeros((3, 9, 9)))
    (tmp_path / "level").mkdir()
    (tmp_path / "level" / "CURRENT").write_text("MANIFEST-000002\n")
    write_lmdb(tmp_path / "db", [datum(np.zeros((3, 4, 4), np.uint8), 0).replace(bytes([4 << 3 | 2, 48, 0]), b'"/')])
    (tmp_path / "h.txt").write_text("gone.h5")
    (tmp_path / "list.h").write_text("list.txt")
    (tmp_path / "good.h").write_text("good.h5")
    with h5py.File(tmp_path / "good.h5", "w") as file:
        file["data"], file["text"] = np.zeros((2, 3)), "hello"
    with pytest.raises(DataError, match=message):
        feed_of(write_net(tmp_path, layer))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            'layer { name: "i" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } }',
            r'layer "i" \(Input\): has no source of its own: hand its batches over in Python \(Solver.step\)',
        ),
        (
            'layer { name: "m" type: "MemoryData" top: "data" top: "label" '
            "memory_data_param { batch_size: 1 channels: 1 height: 2 width: 2 } }",
            r'layer "m" \(MemoryData\): takes what a program hands it',
        ),
        (
            'layer { name: "w" type: "WindowData" top: "data" top: "label" window_data_param { batch_size: 1 } '
            "transform_param { crop_size: 4 } }",
            r'layer "w" \(WindowData\): is not read here; cut the windows out once',
        ),
    ],
)
def test_layers_without_a_source(tmp_path, layer, message):
    net = caffeport.load(write_net(tmp_path, layer))
    with pytest.raises(DataError, match=message):
        Feed(net)


def test_net_of_another_size(tmp_path):
    """A net that was loaded for another size is fine as long as its blobs fit the data."""
    listed(tmp_path, 2)
    kernel = "convolution_param { num_output: 1 kernel_size: 3 }"
    fits = f'layer {{ name: "c" type: "Convolution" bottom: "data" top: "y" {kernel} }}'
    path = write_net(tmp_path, image_data("list.txt"), fits)
    assert Feed(caffeport.load(path, input_shapes={"data": (1, 3, 40, 40)}), prefetch=0).next()["data"].shape[2] == 12
    path = write_net(
        tmp_path,
        image_data("list.txt"),
        'layer { name: "c" type: "InnerProduct" bottom: "data" top: "y" inner_product_param { num_output: 1 } }',
    )
    with pytest.raises(
        DataError,
        match=r"the data layers give data 2x3x12x10, label 2, and the net was loaded for data 1x3x40x40, label 1 .*"
        r"input_shapes=normface.data.caffe.input_shapes\(prototxt, phase\)",
    ):
        Feed(caffeport.load(path, input_shapes={"data": (1, 3, 40, 40)}))


def test_train_and_test_layers_of_one_text(tmp_path):
    """include rules choose the layer; input_shapes follows them."""
    listed(tmp_path, 4)
    train, test = image_data("list.txt", 3, transform="crop_size: 5"), image_data("list.txt", 2)
    path = write_net(
        tmp_path, train[:-1] + " include { phase: TRAIN } }", test[:-1] + " include { phase: TEST } }" + SINK
    )
    assert input_shapes(path, "train") == {"data": (3, 3, 5, 5), "label": (3,)}
    assert input_shapes(path, "test") == {"data": (2, 3, 12, 10), "label": (2,)}
    assert feed_of(path, "train").next()["data"].shape == (3, 3, 5, 5)
    assert feed_of(path, "test").next()["data"].shape == (2, 3, 12, 10)
