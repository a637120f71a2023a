"""Mean and principal components, fitted on training faces only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ProtocolError


@dataclass(frozen=True)
class Projection:
    """x -> (x - mean) @ components; components (D, K), or None to subtract the mean alone."""

    mean: np.ndarray
    components: np.ndarray | None = None

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        centred = np.asarray(rows, np.float64) - self.mean
        return centred if self.components is None else centred @ self.components


def fit_mean(rows: np.ndarray) -> Projection:
    """Subtracts the mean of these rows."""
    return Projection(np.asarray(rows, np.float64).mean(axis=0))


def fit_pca(rows: np.ndarray, keep: float | int) -> Projection:
    """The leading principal components of rows (N, D), not whitened.

    keep: an int is the number of components, a float between 0 and 1 the share of the variance: the fewest
    components whose shares add up to more than it (NormFace keeps 0.995), all of them for 1.0.
    Raises ProtocolError where that many cannot be had.
    """
    rows = np.asarray(rows, np.float64)
    n, d = rows.shape
    checked_keep(keep)
    if isinstance(keep, int) and keep > min(n - 1, d):
        raise ProtocolError(f"PCA: {keep} components of {n} features of {d} numbers; at most {min(n - 1, d)} exist")
    mean = rows.mean(axis=0)
    centred = rows - mean
    # The smaller of the two products has all non-zero eigenvalues.
    variances, vectors = np.linalg.eigh(centred.T @ centred if d <= n else centred @ centred.T)
    variances, vectors = np.maximum(variances[::-1], 0), vectors[:, ::-1]
    total = variances.sum()
    if not total > 0:
        raise ProtocolError(f"PCA: the {n} features to fit it on are all the same")
    rank = int(np.count_nonzero(variances > variances[0] * max(n, d) * np.finfo(np.float64).eps))
    if isinstance(keep, int):
        count = keep
    else:
        more = np.flatnonzero(np.cumsum(variances) / total > keep)
        count = min(int(more[0]) + 1 if more.size else rank, rank)
    components = vectors[:, :count]
    if d > n:
        if count > rank:
            raise ProtocolError(f"PCA: {count} components, but the {n} features span only {rank}")
        components = centred.T @ components / np.sqrt(variances[:count])
    return Projection(mean, components)


def checked_keep(keep: float | int) -> float | int:
    fits = keep >= 1 if isinstance(keep, int) else 0 < keep <= 1
    if isinstance(keep, bool) or not fits:
        raise ProtocolError(f"PCA keeps a share of the variance (0.995) or a number of components (128), got {keep}")
    return keep
