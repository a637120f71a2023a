"""A piece of an index: its faces, and the engine that searches them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import DataError
from .choice import IVF_PQ
from .engine import Engine
from .hnsw import Graph
from .ivf_pq import InvertedLists, Lists, Quantiser
from .manifest import PieceEntry
from .stored import Stored

RESCORED = 128
"""Candidates whose cosines are computed from their features, at least; codes alone only estimate them."""


class Piece(Stored):
    """Raises DataError, naming the file, where one is missing, damaged or does not fit the others."""

    def __init__(self, index: Path, entry: PieceEntry, dimension: int, quantisers: dict[str, Quantiser]) -> None:
        super().__init__(index / entry.folder, entry.rows, dimension, labelled=entry.labelled, exact=entry.exact)
        self.entry = entry
        self._engine: Engine
        if entry.kind == IVF_PQ:
            if entry.trained not in quantisers:
                quantisers[entry.trained] = Quantiser.read(index / entry.trained)
            self.quantiser = quantisers[entry.trained]
            if not dimension <= self.quantiser.width < dimension + 32:
                raise DataError(f"{index / entry.trained}: is for another dimension than {dimension}")
            self._engine = Lists(self.folder, self.quantiser, entry.rows)
        else:
            assert self.features is not None
            self._engine = Graph(self.folder, self.features, entry.entry)

    @property
    def most_effort(self) -> int:
        return self._engine.most_effort

    @property
    def stored_lists(self) -> InvertedLists:
        """The lists of an IVF-PQ piece, for joining them."""
        return InvertedLists(self.folder, self.quantiser.lists, self.quantiser.parts, self.entry.rows)

    def search(self, probes: np.ndarray, count: int, effort: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(cosines, rows), (N, count) each, of unit probes (N, D) float32; -inf and -1 where there are fewer faces.

        Cosines are of the features in float16 (to about 1e-4), or what the codes say where there are none.
        """
        wanted = count if self.features is None or self.entry.kind != IVF_PQ else max(RESCORED, 4 * count)
        wanted = min(wanted, self.entry.rows)
        scores, rows = self._engine.search(probes, wanted, min(effort or self.entry.effort, self.most_effort))
        if rows.size and not (rows.min() >= -1 and rows.max() < self.entry.rows):
            raise DataError(f"{self.folder}: is damaged: it has faces that are not there; build it again")
        if self.features is not None:
            order = np.sort(rows, axis=1)  # as they lie on the disk
            candidates = np.asarray(self.features[order], np.float32)  # (N, wanted, D)
            scores = np.where(order < 0, -np.inf, np.einsum("nwd,nd->nw", candidates, probes))
            rows = order
        if np.isnan(scores).any():
            raise DataError(f"{self.folder}: is damaged: its features are no numbers; build it again")
        best = np.lexsort((rows, -scores))[:, :count]
        return np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
