"""What an index knows of its faces beside what it searches by: names, people, and features in float16."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...features.feature_set import Features
from .arrays import blocks, read_array, write_array
from .engine import units
from .texts import Texts, join_texts, write_texts

NOBODY = -1
"""The label of a face in a piece that has people, where it has none itself."""


class Stored:
    """The files of a folder, mapped into memory: a search reads of them what it needs.

    names: of the faces. labels: (N,) int64 into identities, or None. features: (N, D) float16 of unit length, or None.
    Raises DataError, naming the file, where one is missing, damaged or does not fit the others.
    """

    def __init__(self, folder: Path, rows: int, dimension: int, *, labelled: bool, exact: bool) -> None:
        self.folder, self.rows = folder, rows
        self.names = Texts(folder, "names", rows)
        self.labels: np.ndarray | None = None
        self.identities: Texts | None = None
        if labelled:
            self.labels = read_array(folder / "labels.npy", np.int64, (rows,))
            self.identities = Texts(folder, "identities")
        self.features: np.ndarray | None = None
        if exact:
            self.features = read_array(folder / "features.npy", np.float16, (rows, dimension))

    def identity(self, row: int) -> str | None:
        """Return whose face it is, where that is known."""
        if self.labels is None or self.identities is None or (label := int(self.labels[row])) < 0:
            return None
        if label >= len(self.identities):
            raise DataError(f"{self.folder / 'labels.npy'}: is damaged at face {row}")
        return self.identities[label]


def write_stored(folder: Path, known: Features, *, exact: bool) -> bool:
    """Write what Stored reads; returns whether it has people."""
    write_texts(folder, "names", known.names)
    if exact:
        rows = (units(block).astype(np.float16) for block in blocks(known.features))
        write_array(folder / "features.npy", np.float16, known.features.shape, rows)
    if known.labels is None or known.identities is None:
        return False
    write_array(folder / "labels.npy", np.int64, known.labels.shape, [known.labels])
    write_texts(folder, "identities", known.identities)
    return True


def join_stored(folder: Path, parts: Sequence[Stored], dimension: int) -> bool:
    """Write the faces of all parts, one behind the other; returns whether any has people."""
    total = sum(part.rows for part in parts)
    join_texts(folder, "names", [part.names for part in parts])
    if all(part.features is not None for part in parts):
        features = itertools.chain.from_iterable(blocks(part.features) for part in parts if part.features is not None)
        write_array(folder / "features.npy", np.float16, (total, dimension), features)
    people = [part.identities for part in parts if part.identities is not None]
    if not people:
        return False
    firsts = itertools.accumulate((0 if part.identities is None else len(part.identities) for part in parts), initial=0)
    labels = (
        np.full(part.rows, NOBODY) if part.labels is None else np.where(part.labels < 0, NOBODY, part.labels + first)
        for part, first in zip(parts, firsts, strict=False)
    )
    write_array(folder / "labels.npy", np.int64, (total,), labels)
    join_texts(folder, "identities", people)
    return True
