"""The base of every source of images: names, labels, and reading one image by its number."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError, NormfaceWarning
from ..decoding import decode


class Reader:
    """Images of one source, in its order. ``len(images)`` of them; ``read(i)`` gives the i-th.

    names: what is printed and stored: a relative path, or a database key.
    labels: np.int64 (N,), 0 to C-1 without gaps; None where the source has none.
    identities: the name of each of the C labels; [] without labels.
    original_labels: np.int64 (C,), each label as the source has it (lists and databases), else None.
    strays: names that the source holds and that are not among the images.
    units: np.int64 (U,), how many images lie together, one behind the other; None where they lie one by one.

    Reading is safe from several threads, and a pickled or forked copy reads for itself.
    """

    def __init__(self, path: Path, names: Sequence[str], color: bool | None = True) -> None:
        self.path, self.color = path, color
        self.names = list(names)
        self.labels: np.ndarray | None = None
        self.identities: list[str] = []
        self.original_labels: np.ndarray | None = None
        self.strays: tuple[str, ...] = ()
        self.units: np.ndarray | None = None
        if not self.names:
            raise DataError(f"{path}: holds no images")

    def __len__(self) -> int:
        return len(self.names)

    def title(self, index: int) -> str:
        """Return the i-th image as a message names it."""
        return f"{self.path}: {self.names[index]}"

    def raw(self, index: int) -> bytes:
        """Return the i-th image's encoded bytes. Raises DataError that names it."""
        raise NotImplementedError

    def read(self, index: int) -> np.ndarray:
        """Return the i-th image: uint8 (H, W, 3) in BGR, or (H, W, 1) if opened with ``color=False``.

        Raises DataError that names it; see :func:`normface.data.decode` for what decoding does.
        """
        return decode(self.raw(index), self.title(index), self.color)

    def take_folders(self, folders: Sequence[str]) -> None:
        """Take labels from the identity's name of each image; they are numbered in the order in which they come."""
        numbers: dict[str, int] = {}
        self.labels = np.array([numbers.setdefault(folder, len(numbers)) for folder in folders], np.int64)
        self.identities = list(numbers)

    def take_labels(self, stored: np.ndarray) -> None:
        """Take labels from the numbers (N,) that the source stores, made contiguous; told where that changes any."""
        self.original_labels, labels = np.unique(np.asarray(stored, np.int64), return_inverse=True)
        self.labels = labels.reshape(-1).astype(np.int64)
        self.identities = [str(label) for label in self.original_labels]
        least, most = int(self.original_labels[0]), int(self.original_labels[-1])
        if least < 0:
            where = self.title(int(np.argmin(stored)))
            raise DataError(f"{where}: has the label {least}; labels are 0 or above")
        if most >= len(self.identities):
            warnings.warn(
                f"{self.path}: {len(self.identities)} labels between {least} and {most} were numbered anew, 0 to "
                f"{len(self.identities) - 1}; original_labels has the old ones",
                NormfaceWarning,
                stacklevel=5,
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}: {len(self)} images, {len(self.identities)} identities)"
