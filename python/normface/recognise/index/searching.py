"""Searching an index: the pieces' answers, of which the best count."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError, NormfaceError
from ...features import load_features
from ..gallery import Gallery, Match, checked_probes, warn_of_other_settings
from .ivf_pq import Quantiser
from .manifest import NAME, Manifest, Recall
from .piece import Piece

PROBES = 256
"""Probes at once: bounds the features that their candidates are scored by."""


class IndexedGallery:
    """Features of known faces in an index that ``normface index`` has built; nearly what an exact search finds.

    The index lies on the disk, mapped into memory; only a graph (HNSW) is read whole. ``recall`` says how often the
    answer was the exact one when that was measured.

    Raises DataError, naming the file, where one is missing, damaged or hostile, MissingDependencyError without faiss.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = Manifest.read(self.path)
        quantisers: dict[str, Quantiser] = {}
        self.pieces = [Piece(self.path, entry, self.manifest.dimension, quantisers) for entry in self.manifest.pieces]
        self._firsts = np.cumsum([0, *(piece.rows for piece in self.pieces)])

    def __len__(self) -> int:
        return self.manifest.rows

    def __repr__(self) -> str:
        return f"IndexedGallery({str(self.path)!r}: {len(self)} faces of {self.manifest.dimension} numbers)"

    @property
    def engine(self) -> str:
        return "faiss, " + " and ".join(sorted({piece.entry.kind for piece in self.pieces}))

    @property
    def recall(self) -> list[Recall]:
        """The measurements, one of each index that was built and merged."""
        return self.manifest.recall

    @property
    def words(self) -> str:
        """Return what was measured when it was built."""
        told = "; ".join(one.words for one in self.recall) or "its recall was not measured"
        return f"{self.path}: {len(self):,} faces by {self.engine}: {told}"

    def expects(self, settings: dict[str, Any], title: str, weights: Callable[[], Sequence[str]] = tuple) -> None:
        """Warn where the features are known to have been made in another way than by these settings; as Gallery."""
        warn_of_other_settings(self.manifest.settings, settings, title, weights)

    def nearest(self, probes: np.ndarray, count: int = 5) -> list[list[Match]]:
        """Return for each probe (N, D) the ``count`` nearest that the search finds, the best first.

        Raises DataError where the probes have another dimension than the gallery.
        """
        scores, rows = self.search(checked_probes(probes, count, self.manifest.dimension), count)
        return [
            [self._match(int(row), float(score)) for score, row in zip(*one, strict=True) if row >= 0]
            for one in zip(scores, rows, strict=True)
        ]

    def search(
        self, probes: np.ndarray, count: int, efforts: Mapping[str, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(cosines, rows), (N, count) each, of unit probes (N, D) float32; row -1 where there are no more faces.

        efforts: by the kind of a piece, what replaces the effort that was chosen when it was built.
        """
        count = min(count, len(self))
        answers = [
            self._search(probes[start : start + PROBES], count, efforts) for start in range(0, len(probes), PROBES)
        ]
        if not answers:
            return np.empty((0, count), np.float32), np.empty((0, count), np.int64)
        scores, rows = zip(*answers, strict=True)
        return np.concatenate(scores), np.concatenate(rows)

    def _search(
        self, probes: np.ndarray, count: int, efforts: Mapping[str, int] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        answers = []
        for piece, first in zip(self.pieces, self._firsts, strict=False):
            scores, rows = piece.search(probes, count, None if efforts is None else efforts.get(piece.entry.kind))
            answers.append((scores, np.where(rows < 0, -1, rows + first)))
        scores, rows = (np.concatenate(part, axis=1) for part in zip(*answers, strict=True))
        best = np.lexsort((rows, -scores))[:, :count]
        return np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)

    def _match(self, row: int, score: float) -> Match:
        number = int(np.searchsorted(self._firsts, row, side="right")) - 1
        piece, own = self.pieces[number], row - int(self._firsts[number])
        return Match(piece.names[own], min(1.0, max(-1.0, score)), piece.identity(own))


def is_index(path: str | Path) -> bool:
    """Return whether a path is the folder of an index."""
    return os.path.isfile(Path(path) / NAME)


def open_gallery(path: str | Path, *, use_faiss: bool | None = None) -> Gallery | IndexedGallery:
    """Open a features file, which is searched exactly, or the folder of an index.

    use_faiss: as Gallery takes it; an index needs faiss.
    """
    if is_index(path):
        if use_faiss is False:
            raise NormfaceError(
                f"{path}: is an index, which faiss searches; leave --no-faiss out, or name a features file"
            )
        return IndexedGallery(path)
    if os.path.isdir(path):
        raise DataError(f"{path}: is a folder without {NAME}; expected a features file, or a folder of normface index")
    return Gallery(load_features(path), use_faiss=use_faiss)
