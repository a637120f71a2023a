"""The faces of a gallery that are nearest to a feature, by cosine; exact."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError, MissingDependencyError, NormfaceError, NormfaceWarning
from ..features.feature_set import Features
from ..features.identity import ModelIdentity
from ..reading import parsing

BLOCK_SCORES = 1 << 24
"""Scores at once, 64 MB: bounds what many probes take."""

COMPARED = ("output", "mirror", "mean", "scale", "rgb", "fit", "size")
"""Settings that gallery and probe have to share; the model's path may differ."""


@dataclass(frozen=True)
class Match:
    name: str
    score: float  # cosine
    identity: str | None


class Gallery:
    """Features of known faces. faiss does the search where it is installed, NumPy elsewhere: the same answers.

    use_faiss: None where it is installed; True demands it. A zero feature scores 0 with everything.
    """

    def __init__(self, features: Features, *, use_faiss: bool | None = None) -> None:
        if not len(features):
            raise DataError("the gallery holds no features")
        self._known = features
        norms = np.sqrt(np.einsum("nd,nd->n", features.features, features.features, dtype=np.float64))
        self._inverse_norms = _inverse(norms).astype(np.float32)
        faiss = _faiss(use_faiss)
        self._index = None if faiss is None else faiss.IndexFlatIP(features.features.shape[1])
        if self._index is not None:
            self._index.add(np.ascontiguousarray(features.features * self._inverse_norms[:, None], np.float32))

    @property
    def engine(self) -> str:
        return "numpy" if self._index is None else "faiss"

    def expects(self, settings: dict[str, Any], title: str, weights: Callable[[], Sequence[str]] = tuple) -> None:
        """Warn where the gallery's features are known to have been made in another way than by these settings.

        weights: the digests of the probe's model (normface.features.identity), asked for where the gallery has its own.
        """
        warn_of_other_settings(self._known.settings, settings, title, weights)

    def nearest(self, probes: np.ndarray, count: int = 5) -> list[list[Match]]:
        """Return for each probe (N, D) its ``count`` nearest, the best first; of equal scores the one stored first.

        Raises DataError where the probes have another dimension than the gallery.
        """
        probes = checked_probes(probes, count, self._known.features.shape[1])
        count = min(count, len(self._known))
        scores, rows = self._by_numpy(probes, count) if self._index is None else self._index.search(probes, count)
        order = np.lexsort((rows, -scores))  # faiss leaves the order of equal scores open
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
        return [
            [self._match(int(row), float(score)) for score, row in zip(*one, strict=True)]
            for one in zip(scores, rows, strict=True)
        ]

    def _match(self, row: int, score: float) -> Match:
        return Match(self._known.names[row], min(1.0, max(-1.0, score)), self._known.identity(row))

    def _by_numpy(self, probes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(scores, rows), (N, count) each, block by block: only what can still be among the nearest is kept."""
        best = np.empty((len(probes), 0), np.float32)
        rows = np.empty((len(probes), 0), np.int64)
        block = max(BLOCK_SCORES // len(probes), 1)
        for start in range(0, len(self._known), block):
            end = min(start + block, len(self._known))
            scores = probes @ self._known.features[start:end].T
            scores *= self._inverse_norms[start:end]
            places = _largest(scores, count)
            best = np.concatenate([best, np.take_along_axis(scores, places, 1)], axis=1)
            rows = np.concatenate([rows, places + start], axis=1)
            order = _largest(best, count)
            best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
        return best, rows


def other_settings(
    made: Mapping[str, Any], settings: Mapping[str, Any], title: str, weights: Callable[[], Sequence[str]] = tuple
) -> str:
    """Return in words how features that were ``made`` differ from those of ``settings``, as far as both tell it."""
    words = [
        f"{name} {made[name]} there, {settings[name]} here"
        for name in COMPARED
        if name in made and name in settings and made[name] != settings[name]
    ]
    if "identity" in made:
        with parsing(title, "its settings name no model"):
            known = ModelIdentity.from_dict(made["identity"]).weights
        here = weights()
        if here and not set(known) & set(here):
            words.append("by other weights")
    return ", ".join(words)


def warn_of_other_settings(
    made: Mapping[str, Any], settings: Mapping[str, Any], title: str, weights: Callable[[], Sequence[str]] = tuple
) -> None:
    """Warn where ``other_settings`` finds a difference."""
    differences = other_settings(made, settings, title, weights)
    if differences:
        message = f"{title}: its features were made differently: {differences}; scores may mean little"
        warnings.warn(message, NormfaceWarning, stacklevel=3)


def checked_probes(probes: np.ndarray, count: int, dimension: int) -> np.ndarray:
    """Return the probes (N, D) at unit length, float32. Raises DataError where the gallery has another dimension."""
    if count < 1:
        raise NormfaceError(f"count {count}: expected 1 or more")
    probes = np.atleast_2d(np.asarray(probes, np.float32))
    if probes.shape[1] != dimension:
        raise DataError(
            f"the probe's feature has {probes.shape[1]} numbers and the gallery's have {dimension}: "
            "they come from different models or settings (mirror)"
        )
    return np.ascontiguousarray(probes * _inverse(np.linalg.norm(probes, axis=1, keepdims=True)), np.float32)


def _largest(scores: np.ndarray, count: int) -> np.ndarray:
    """Columns (N, count) of the largest of (N, M), or of all; of equal ones at the edge those that come first."""
    if scores.shape[1] <= count:
        return np.tile(np.arange(scores.shape[1]), (len(scores), 1))
    edge = np.partition(scores, -count, axis=1)[:, -count]
    places = np.empty((len(scores), count), np.int64)
    for row, (line, least) in enumerate(zip(scores, edge, strict=True)):
        above, at = np.flatnonzero(line > least), np.flatnonzero(line == least)
        places[row] = np.sort(np.concatenate([above, at[: count - len(above)]]))
    return places


def _inverse(norms: np.ndarray) -> np.ndarray:
    """1 / norm, 0 for a zero vector."""
    return np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)


def _faiss(wanted: bool | None) -> Any:
    if wanted is False:
        return None
    try:
        import faiss
    except ImportError as error:
        if wanted:
            raise MissingDependencyError(
                "faiss is not installed: pip install faiss-cpu, or leave it to NumPy (--no-faiss)"
            ) from error
        return None
    return faiss
