"""Scores of feature pairs; a higher score means more alike.

cosine: <a, b> / (|a| |b|).  euclid: -|a - b|^2.  normalized-euclid: -|a/|a| - b/|b||^2 = 2 cosine - 2.
"""

from __future__ import annotations

import warnings

import numpy as np

from ..errors import NormfaceWarning, ProtocolError, did_you_mean

METRICS = ("cosine", "euclid", "normalized-euclid")


def pair_scores(left: np.ndarray, right: np.ndarray, metric: str = "cosine") -> np.ndarray:
    """Row by row: (P, D) and (P, D) to (P,), in float64."""
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    if checked_metric(metric) != "euclid":
        left, right = unit(left), unit(right)
    if metric == "cosine":
        return np.einsum("pd,pd->p", left, right)
    return -np.square(left - right).sum(axis=1)


def both_sides(features: np.ndarray, metric: str = "cosine") -> tuple[np.ndarray, np.ndarray]:
    """(A, B) with A @ B.T the scores of every row with every row, in the features' own precision.

    normalized-euclid ranks pairs as cosine does, and is 2 A @ B.T - 2; euclid is [2a, -|a|^2, -1] . [b, 1, |b|^2]
    around the common mean, in float64, since its two squares nearly cancel.
    """
    if checked_metric(metric) == "cosine":
        rows = unit(features)
        return rows, rows
    rows = np.asarray(features, np.float64)
    rows = unit(rows) if metric == "normalized-euclid" else rows - rows.mean(axis=0)
    squares = np.square(rows).sum(axis=1, keepdims=True)
    ones = np.ones_like(squares)
    return np.hstack([2 * rows, -squares, -ones]), np.hstack([rows, ones, squares])


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1. A zero row has no direction: it stays zero, scores 0 with every other, and is warned of."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    zeros = int(np.count_nonzero(norms == 0))
    if zeros:
        warnings.warn(NormfaceWarning(f"{zeros} of {len(rows)} features are zero; their cosine is 0"), stacklevel=3)
    return rows / np.where(norms == 0, 1, norms).astype(rows.dtype)


def checked_metric(metric: str) -> str:
    if metric not in METRICS:
        raise ProtocolError(f'metric "{metric}" is unknown{did_you_mean(metric, METRICS)}; known: {", ".join(METRICS)}')
    return metric
