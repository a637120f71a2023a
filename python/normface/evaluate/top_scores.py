"""The largest of far more scores than need be kept."""

from __future__ import annotations

import numpy as np

PIECE = 1 << 20
"""Scores that are looked at in one go; a few MB stay in the processor's cache."""


class TopScores:
    """Keeps the ``k`` largest of all scores added, exactly, ties included; memory for about twice as many.

    A score below the k-th largest so far can be none of them, and after the first few pieces nearly all are.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._kept: list[np.ndarray] = []
        self._waiting = 0
        self._bound: float | np.floating = -np.inf
        self.count = 0
        """The number of scores that were added."""

    def add(self, scores: np.ndarray) -> None:
        """Scores of any shape."""
        self.count += scores.size
        if not self._k:
            return
        scores = scores.reshape(-1) if scores.flags.c_contiguous else scores
        for start in range(0, len(scores), self._step(scores)):
            piece = scores[start : start + self._step(scores)]
            chosen = piece[piece >= self._bound]
            self._kept.append(chosen)
            self._waiting += chosen.size
            if self._waiting >= 2 * self._k + PIECE:
                self._prune()

    def largest(self) -> np.ndarray:
        """Those kept, falling; min(k, count) of them."""
        self._prune()
        return np.sort(self._kept[0])[::-1] if self._kept else np.empty(0)

    def _step(self, scores: np.ndarray) -> int:
        return max(1, PIECE * len(scores) // max(1, scores.size))

    def _prune(self) -> None:
        if not self._kept:
            return
        scores = np.concatenate(self._kept)
        if scores.size > self._k:
            scores = np.partition(scores, scores.size - self._k)[scores.size - self._k :]
            self._bound = scores[0]
        self._kept, self._waiting = [scores], 0
