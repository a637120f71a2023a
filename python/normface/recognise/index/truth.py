"""What an exact search finds, kept up while features pass by; and how often an index finds the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .arrays import blocks, read_array, write_array
from .engine import units
from .manifest import Recall

COUNT = 10
"""The nearest of each query that are kept."""
_AT_ONCE = 1 << 24
"""Scores, 64 MB."""

Search = Callable[[np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]
"""(unit probes (N, D), count, effort) -> cosines and rows (N, count)."""


class Truth:
    """The nearest faces of unit queries (Q, D). own: (Q,) the rows that are the queries themselves, -1 for none.

    A query that is a face of the gallery is held out of its own search: the answer is the nearest other face.
    """

    def __init__(self, queries: np.ndarray, own: np.ndarray) -> None:
        self.queries, self.own = queries, own
        self.scores = np.full((len(queries), COUNT), -np.inf, np.float32)
        self.rows = np.full((len(queries), COUNT), -1, np.int64)

    def add(self, features: np.ndarray, first: int) -> None:
        """Take the next features (n, D), of which ``first`` is the number of the first."""
        for block in blocks(features, max(1, _AT_ONCE // max(1, len(self.queries)))):
            scores = self.queries @ units(block).T
            mine = np.flatnonzero((self.own >= first) & (self.own < first + len(block)))
            scores[mine, self.own[mine] - first] = -np.inf
            places = np.argpartition(-scores, min(COUNT, len(block)) - 1, axis=1)[:, :COUNT]
            self._take(np.take_along_axis(scores, places, 1), places + first)
            first += len(block)

    def merge(self, folder: Path) -> None:
        """Take what ``write`` has written of other features."""
        shape = self.rows.shape
        self._take(
            read_array(folder / "cosines.npy", np.float32, shape), read_array(folder / "nearest.npy", np.int64, shape)
        )

    def write(self, folder: Path) -> None:
        write_array(folder / "cosines.npy", np.float32, self.scores.shape, [self.scores])
        write_array(folder / "nearest.npy", np.int64, self.rows.shape, [self.rows])

    def _take(self, scores: np.ndarray, rows: np.ndarray) -> None:
        scores = np.concatenate([self.scores, scores], axis=1)
        rows = np.concatenate([self.rows, rows], axis=1)
        best = np.lexsort((rows, -scores))[:, :COUNT]
        self.scores, self.rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)

    def shares(self, rows: np.ndarray) -> tuple[float, float]:
        """Return the share of queries whose nearest is found first, and of their ten nearest that of those found.

        rows: (Q, COUNT + 1) as a search finds them, the query itself among them.
        """
        others = [row[row != own][:COUNT] for row, own in zip(rows, self.own, strict=True)]
        first = [len(row) > 0 and row[0] == nearest[0] for row, nearest in zip(others, self.rows, strict=True)]
        there = self.rows >= 0
        found = sum(
            int(np.isin(nearest[nearest >= 0], row).sum()) for row, nearest in zip(others, self.rows, strict=True)
        )
        return float(np.mean(first)), found / max(1, int(there.sum()))


def tuned(
    truth: Truth, search: Search, target: float, *, least: int, most: int, faces: int, held_out: str, date: str
) -> tuple[int, Recall]:
    """Return the least effort of 1, 2, 4 ... ``most`` by which the nearest face is found for ``target`` of the queries.

    Where none does, it is ``most``. least: where to start.
    """
    effort = min(least, most)
    while True:
        start = time.perf_counter()
        rows = search(truth.queries, COUNT + 1, effort)[1]
        milliseconds = 1000 * (time.perf_counter() - start) / len(rows)
        at_1, at_10 = truth.shares(rows)
        if at_1 >= target or effort >= most:
            return effort, Recall(at_1, at_10, len(rows), faces, date, held_out, milliseconds)
        effort = min(2 * effort, most)
