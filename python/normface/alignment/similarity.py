"""The similarity transform between two sets of points: rotation, one scale, translation; never a reflection."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import DataError

_SPREAD = 1e-6
"""Points whose spread is below this part of their size count as one point."""


def similarity_transform(source: npt.ArrayLike, target: npt.ArrayLike) -> np.ndarray:
    """Return the matrix (2, 3), float64, that takes ``source`` closest to ``target``: minimises sum |A x + b - y|^2.

    In the plane A is [[a, -c], [c, a]] and the least squares have a closed form (Umeyama 1991 without a
    reflection): with both sets about their means, as complex numbers p and q, a + i c = sum conj(p) q / sum |p|^2.

    source, target: (n, 2), n >= 2, (x, y).

    Raises DataError for points that do not fix a transform: too few, not finite, or all in one place.

    >>> similarity_transform([(0, 0), (1, 0)], [(5, 5), (5, 7)]).round(9).tolist()  # a quarter turn, twice as large
    [[0.0, -2.0, 5.0], [2.0, 0.0, 5.0]]
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.ndim != 2 or source.shape[1] != 2 or len(source) < 2 or source.shape != target.shape:
        raise DataError(
            f"a similarity needs two equal lists of 2 or more points (n, 2), got {source.shape}, {target.shape}"
        )
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise DataError("landmarks hold a number that is not finite")
    means = source.mean(axis=0), target.mean(axis=0)
    for points, mean, name in ((source, means[0], "landmarks"), (target, means[1], "template")):
        if np.abs(points - mean).max() <= _SPREAD * max(1, np.abs(points).max()):
            raise DataError(f"the {name} lie all in one place, at ({mean[0]:.6g}, {mean[1]:.6g}); no transform fits")
    p, q = ((points - mean) @ np.array([1, 1j]) for points, mean in zip((source, target), means, strict=True))
    turn = (np.conj(p) @ q) / (np.conj(p) @ p).real
    if abs(turn) <= _SPREAD * np.abs(q).max() / np.abs(p).max():
        raise DataError("the landmarks cannot be turned onto the template: the best fit shrinks them to a point")
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.concatenate([linear, (means[1] - linear @ means[0])[:, None]], axis=1)
