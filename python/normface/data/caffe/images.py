"""The layers that read images: ImageData from a list of files, Data from an LMDB or LevelDB."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from caffeport import Layer
from caffeport.lazy import require
from caffeport.operators.data import DataBackend

from ...errors import DataError
from ...reading import MAX_IMAGE, read_file
from ..decoding import decode
from ..readers.database import Database
from ..readers.leveldb_folder import LevelDatabase, is_leveldb
from ..readers.list_file import read_label_rows
from .source import DRAWS, ORDER, SKIP, Place, Source
from .transform import DRAWS as DRAWS_PER_IMAGE
from .transform import Transform


class ImageSource(Source):
    """Images and labels, one after another and round again: a batch may end one epoch and begin the next."""

    label_shape: tuple[int, ...] = ()
    """Of one image's labels: () of one number, (L,) of L numbers."""

    def __init__(self, layer: Layer, place: Place) -> None:
        super().__init__(layer, place)
        self.need_batch_size()
        self.transform = Transform(layer, place)

    def planes(self, row: int) -> tuple[np.ndarray, int | np.ndarray]:
        """((C, H, W), label or labels) of an item before the transform."""
        raise NotImplementedError

    def title(self, row: int) -> str:
        """The item as a message names it."""
        raise NotImplementedError

    def rows(self, items: Sequence[int]) -> list[int]:
        """Return which rows the ``items`` counted from the start of training are."""
        return [item % len(self) for item in items]

    def shapes(self) -> list[tuple[int, ...]]:
        row = self.rows([0])[0]
        first = self.transform.shape(self.planes(row)[0].shape, self.title(row))
        return [(self.batch_size, *first), (self.batch_size, *self.label_shape)][: len(self.layer.outputs)]

    def batch(self, number: int) -> list[np.ndarray]:
        start = number * self.batch_size
        draws = self.random(DRAWS, number).integers(2**32, size=(self.batch_size, DRAWS_PER_IMAGE), dtype=np.uint32)
        labels = np.empty((self.batch_size, *self.label_shape), np.float32)
        out: np.ndarray | None = None
        for i, row in enumerate(self.rows(range(start, start + self.batch_size))):
            planes, labels[i] = self.planes(row)
            if out is None:
                out = np.empty((self.batch_size, *self.transform.shape(planes.shape, self.title(row))), np.float32)
            self.transform.apply(planes, draws[i], out[i], self.title(row))
        assert out is not None
        return [out, labels][: len(self.layer.outputs)]


class ImageData(ImageSource):
    """Files of a list, resized to new_height x new_width where given (bilinear, as cv2.resize by default).

    A list with L labels on each line gives a label top of (batch, L), as forks have it, for a Slice or a EuclideanLoss
    above; BVLC Caffe takes the last of them for the label and the others for a part of the path.
    With shuffle every epoch has an order of its own. The orders are not Caffe's (those depend on its C++ library),
    but the same for the same seed.
    """

    def __init__(self, layer: Layer, place: Place) -> None:
        super().__init__(layer, place)
        if (self.p.new_height > 0) != (self.p.new_width > 0) or min(self.p.new_height, self.p.new_width) < 0:
            raise DataError(f"{layer.title}: new_height and new_width are given together, or neither")
        self.path = place.find(self.p.source, layer)
        self._names, self._labels = read_label_rows(self.path)
        if self._labels.ndim == 2:
            self.label_shape = self._labels.shape[1:]
        self._root = self._find_root()
        self._skip = 0
        if self.p.rand_skip:
            self._skip = int(self.random(SKIP).integers(self.p.rand_skip)) % len(self)

    def __len__(self) -> int:
        return len(self._names)

    def rows(self, items: Sequence[int]) -> list[int]:
        places = [divmod(self._skip + item, len(self)) for item in items]
        if not self.p.shuffle:
            return [row for _, row in places]
        return [int(self.order(len(self), ORDER, epoch)[row]) for epoch, row in places]

    def title(self, row: int) -> str:
        return self._root + self._names[row]

    def planes(self, row: int) -> tuple[np.ndarray, int | np.ndarray]:
        title = self.title(row)
        image = decode(read_file(title, MAX_IMAGE), title, self.p.is_color)
        if self.p.new_height:
            size = (self.p.new_width, self.p.new_height)
            image = require("cv2").resize(image, size).reshape(*reversed(size), image.shape[2])
        return image.transpose(2, 0, 1), self._labels[row]

    def _find_root(self) -> str:
        """Return what stands before every path: root_folder as Caffe puts it, or within the net's or list's folder."""
        assert self.path is not None
        given, first = self.p.root_folder, self._names[0]
        nearby = [self.place.folder, *([] if given else [self.path.parent])]
        for root in (given, *(f"{folder}/{given}" for folder in nearby)):
            if os.path.exists(root + first):
                return root
        return given  # reading the first image tells what is missing


class Data(ImageSource):
    """Datums of an LMDB or LevelDB, in the keys' order; the folder tells which. rand_skip has no effect, as in BVLC
    Caffe 1.0."""

    def __init__(self, layer: Layer, place: Place) -> None:
        super().__init__(layer, place)
        self.path = place.find(self.p.source, layer)
        level = is_leveldb(self.path)
        if self.p.backend is DataBackend.LEVELDB and not level and not os.path.exists(self.path / "data.mdb"):
            raise DataError(f"{layer.title}: {self.path} is no database; expected a LevelDB or LMDB")
        self._database = LevelDatabase(self.path) if level else Database(self.path)
        transform = self.transform.p
        self._color = True if transform.force_color else False if transform.force_gray else None

    def __len__(self) -> int:
        return len(self._database)

    def title(self, row: int) -> str:
        return self._database.title(row)

    def planes(self, row: int) -> tuple[np.ndarray, int | np.ndarray]:
        datum, title = self._database.datum(row), self.title(row)
        if datum.encoded:
            return decode(datum.data, title, self._color).transpose(2, 0, 1), datum.label
        return datum.array(title), datum.label
