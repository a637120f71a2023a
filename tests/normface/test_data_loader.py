"""normface.data as torch knows it: every form of data set as a Dataset, in DataLoader's workers, forked and spawned."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from normface.data import ImageDataset, open_images, open_reader
from normface.errors import DataError
from support.data_writers import datum, encoded, image_record, random_image, write_images, write_lmdb, write_recordio
from torch.utils.data import DataLoader, Dataset, Subset

NAMES = [f"{person}/{i}.png" for person in ("Ann", "Bob", "Zoe") for i in range(3)]
LABELS = [0, 0, 0, 1, 1, 1, 2, 2, 2]
IMAGES = [random_image(seed) for seed in range(9)]


def folder(path: Path) -> Path:
    write_images(path / "tree", NAMES)
    return path / "tree"


def list_file(path: Path) -> Path:
    folder(path)
    (path / "list").write_text("".join(f"tree/{name} {y}\n" for name, y in zip(NAMES, LABELS, strict=True)))
    return path / "list"


def zip_file(path: Path) -> Path:
    with zipfile.ZipFile(path / "z.zip", "w") as archive:
        for name, image in zip(NAMES, IMAGES, strict=True):
            archive.writestr(name, encoded(image))
    return path / "z.zip"


def database(path: Path) -> Path:
    return write_lmdb(path / "db", [datum(encoded(x), y, encoded=True) for x, y in zip(IMAGES, LABELS, strict=True)])


def bare_database(path: Path) -> Path:
    return write_lmdb(path / "bare", [datum(x.transpose(2, 0, 1), y) for x, y in zip(IMAGES, LABELS, strict=True)])


def packed(path: Path) -> Path:
    return write_recordio(path / "r.rec", [image_record(y, i, encoded(IMAGES[i])) for i, y in enumerate(LABELS)])


def packed_without_index(path: Path) -> Path:
    payloads = [image_record(y, i, encoded(IMAGES[i])) for i, y in enumerate(LABELS)]
    return write_recordio(path / "r.rec", payloads, index=False)


KINDS = [folder, list_file, zip_file, database, bare_database, packed, packed_without_index]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@pytest.mark.slow
@kinds
@pytest.mark.parametrize("method", [None, "fork", "spawn"])
def test_loader(tmp_path, kind, method):
    """The same images and labels, in order, as a caller would check them: nothing but torch and the folder's name."""
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("needs fork")
    dataset = open_images(kind(tmp_path))
    assert isinstance(dataset, Dataset)
    assert isinstance(dataset, ImageDataset)
    assert len(dataset) == 9
    workers = 0 if method is None else 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of an array that it may not write to
        loader = DataLoader(dataset, batch_size=2, num_workers=workers, multiprocessing_context=method)
        batches = list(loader)
    images = torch.cat([image for image, _ in batches])
    labels = torch.cat([label for _, label in batches])
    assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
    assert labels.tolist() == LABELS
    np.testing.assert_array_equal(images.numpy(), np.stack(IMAGES))


@pytest.mark.slow
def test_default_start_of_workers(tmp_path):
    assert sum(len(label) for _, label in DataLoader(open_images(folder(tmp_path)), num_workers=2)) == 9


@kinds
def test_one_item(tmp_path, kind):
    dataset = open_images(kind(tmp_path))
    image, label = dataset[4]
    np.testing.assert_array_equal(image, IMAGES[4])
    assert (type(label), label) == (int, 1)
    image[...] = 0  # the caller's own
    np.testing.assert_array_equal(dataset[4][0], IMAGES[4])
    np.testing.assert_array_equal(dataset[-1][0], IMAGES[8])
    np.testing.assert_array_equal(dataset[torch.tensor(2)][0], IMAGES[2])
    np.testing.assert_array_equal(dataset[np.int64(2)][0], IMAGES[2])
    assert [label for _, label in dataset] == LABELS  # ends: past the last is an IndexError
    for index in (9, -10):
        with pytest.raises(IndexError, match=rf"image {index} of 9"):
            dataset[index]
    assert [label for _, label in Subset(dataset, [8, 0])] == [2, 0]
    assert len(dataset.identities) == 3
    assert len(dataset.names) == 9
    assert "9 images, 3 identities" in repr(dataset)


@kinds
def test_pickle_holds_no_file(tmp_path, kind):
    """A spawned worker gets names and places, no pixels and no handle, also of a data set that was read from."""
    dataset = open_images(kind(tmp_path))
    dataset[0]
    raw = pickle.dumps(dataset)
    assert len(raw) < 6000
    np.testing.assert_array_equal(pickle.loads(raw)[8][0], IMAGES[8])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [zip_file, database, bare_database, packed, packed_without_index])
def test_file_is_opened_once_a_process(tmp_path, kind):
    """Not for every record: after the first image none is opened, in this process, a thread or a forked worker."""
    code = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from normface.data import open_reader
opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event in ("open", "mmap.__new__") else None)
reader = open_reader(sys.argv[1])
reader.read(0)
del opened[:]
for i in [*range(len(reader))] * 3:
    reader.read(i)
with ThreadPoolExecutor(2) as pool:
    list(pool.map(reader.read, range(9)))
child = os.fork()
if not child:
    reader.read(3)
    os._exit(len(opened))
print(len(opened), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-W", "ignore", "-c", code, str(kind(tmp_path))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0"]


@pytest.mark.parametrize(("kind", "file"), [(zip_file, "z.zip"), (database, "db/data.mdb"), (packed, "r.rec")])
def test_file_truncated_while_it_is_open(tmp_path, kind, file):
    """Reading on would end the process with a bus error."""
    reader = open_reader(kind(tmp_path))
    reader.read(8)
    os.truncate(tmp_path / file, 100)
    with pytest.raises(DataError, match=rf"{Path(file).name}|db: record 00000008.*is cut short"):
        reader.read(8)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_error_of_a_worker_names_the_image(tmp_path, method):
    path = folder(tmp_path)
    (path / NAMES[5]).write_bytes(b"not an image")
    loader = DataLoader(open_images(path), batch_size=3, num_workers=1, multiprocessing_context=method)
    with pytest.raises(DataError, match=r"Bob/2\.png: is no JPEG"):
        list(loader)


def test_images_without_labels(tmp_path):
    write_images(tmp_path, ["0.png", "1.png"])
    dataset = open_images(tmp_path)
    assert (dataset.labels, dataset.identities) == (None, [])
    ((images, labels),) = DataLoader(dataset, batch_size=2)
    assert labels.tolist() == [-1, -1]
    assert images.shape == (2, 12, 10, 3)


def halved(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(cv2.resize(image, (5, 6))).permute(2, 0, 1).float() / 255


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_transform(tmp_path, method):
    write_images(tmp_path / "A", ["0.png"])
    write_images(tmp_path / "B", ["0.png"], height=20, width=30)  # of another size, which a batch needs alike
    dataset = open_images(tmp_path, transform=halved)
    ((images, labels),) = DataLoader(dataset, batch_size=2, num_workers=1, multiprocessing_context=method)
    assert (images.shape, images.dtype, labels.tolist()) == ((2, 3, 6, 5), torch.float32, [0, 1])
    np.testing.assert_array_equal(dataset.read(0), IMAGES[0])  # as it is stored


def test_grey(tmp_path):
    image, _ = open_images(database(tmp_path), color=False)[0]
    assert image.shape == (12, 10, 1)


@pytest.mark.slow
def test_readers_need_no_torch(tmp_path):
    """Commands that only read images start in a second; torch takes several."""
    code = "import sys; from normface.data import open_reader as o; print(len(o(sys.argv[1])), 'torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", code, str(folder(tmp_path))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["9", "False"]


def test_names_of_earlier_versions(tmp_path):
    import normface.data

    assert normface.data.open_pictures is open_images
    assert normface.data.Pictures is normface.data.Reader
    with pytest.raises(AttributeError, match="no attribute 'open_film'"):
        normface.data.open_film  # noqa: B018
