"""Images as torch's data loaders take them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from .readers import Reader, open_reader

NO_LABEL = -1
"""The label of images whose source has none, as timm gives it; PyTorch's batches hold no None."""


class ImageDataset(Dataset[tuple[Any, int]]):
    """The images of a reader, for ``torch.utils.data.DataLoader`` with any number of workers.

    ``dataset[i]`` is ``(image, label)``: uint8 (H, W, 3) in BGR, as OpenCV and Caffe have it, or (H, W, 1) of a
    reader opened with ``color=False``; and an int from 0 to C-1, or -1 where the source has no labels. ``transform``
    is applied to the image, and makes images of several sizes one, which a batch needs.

    Workers may be forked or spawned: a pickled dataset holds no open file, and each process opens its own. What cannot
    be read raises DataError that names it, in a worker as well.

    names: what is printed and stored: a relative path, or a database key.
    labels: np.int64 (N,), 0 to C-1 without gaps; None where the source has none.
    identities: the name of each of the C labels; [] without labels.
    original_labels: np.int64 (C,), each label as the source has it (lists and databases), else None.
    strays: names that the source holds and that are not among the images.
    """

    def __init__(self, reader: Reader, transform: Callable[[np.ndarray], Any] | None = None) -> None:
        self.reader, self.transform = reader, transform
        self.path, self.names = reader.path, reader.names
        self.labels, self.identities = reader.labels, reader.identities
        self.original_labels, self.strays = reader.original_labels, reader.strays

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"{self.path}: image {number} of {len(self)}")
        number %= len(self)
        image = self.read(number)
        label = NO_LABEL if self.labels is None else int(self.labels[number])
        return image if self.transform is None else self.transform(image), label

    def title(self, index: int) -> str:
        """Return the i-th image as a message names it."""
        return self.reader.title(index)

    def raw(self, index: int) -> bytes:
        """Return the i-th image's encoded bytes. Raises DataError that names it."""
        return self.reader.raw(index)

    def read(self, index: int) -> np.ndarray:
        """Return the i-th image without its label, untransformed. Raises DataError that names it."""
        return self.reader.read(index)

    def __repr__(self) -> str:
        return f"ImageDataset({str(self.path)!r}: {len(self)} images, {len(self.identities)} identities)"


def open_images(
    path: str | Path,
    *,
    root: str | Path | None = None,
    color: bool = True,
    labelled: bool | None = None,
    transform: Callable[[np.ndarray], Any] | None = None,
) -> ImageDataset:
    """Open a data set of images, whatever form it has, as a ``torch.utils.data.Dataset``.

    path: a folder per identity; a folder of images; a list file with ``path [label]`` on each line; the folder
        of a Caffe LMDB; an InsightFace ``.rec`` (with its ``.idx``, if there is one) or the folder that holds it;
        a ``.zip`` of folders; a WebDataset ``.tar``, a ``.parquet`` of images, or shards of these as ``open_reader``
        takes them; or one image.
    root: the folder that a list's paths start from.
    color: False reads grey images, (H, W, 1).
    labelled: None takes labels where there are any; True refuses a source without; False takes all images below a
        folder or in a zip, wherever they lie, and no labels.
    transform: what is done to an image, uint8 (H, W, C) in BGR, when it is taken by its number.

    Raises DataError, which names the path, for a source that is missing, empty, damaged or of no known kind.
    """
    return ImageDataset(open_reader(path, root=root, color=color, labelled=labelled), transform)
