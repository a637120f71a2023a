"""Verification figures of scored pairs: ROC, TAR at a FAR, AUC, EER. A higher score means more alike, everywhere.

Scores (P,), one a pair; ``same`` (P,), true where both faces are one person's. A pair is accepted when its score is
>= the threshold. FAR is the share of impostor (different) pairs accepted, TAR the share of genuine (same) ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ProtocolError

FARS = (1e-1, 1e-2, 1e-3)


@dataclass(frozen=True)
class Verification:
    """The figures of one set of scored pairs."""

    accuracy: float
    """The accuracy at the best threshold for these very pairs: an upper bound; protocols choose it elsewhere."""
    threshold: float
    """That threshold."""
    auc: float
    """Area under the ROC: how often a genuine pair outscores an impostor pair, ties counting half."""
    eer: float
    """The rate at which FAR = 1 - TAR, on the ROC with straight lines between its points."""
    tar: dict[float, float]
    """FAR -> TAR, by tar_at_far."""


def tar_at_far(genuine: np.ndarray, impostor: np.ndarray, far: float) -> tuple[float, float]:
    """Return (TAR, threshold) at a false accept rate, by BLUFR's rule, which MegaFace and IJB share.

    The threshold is the k-th largest impostor score, k = round(far * impostors), half up; scores >= it are accepted.
    Where k is 0 it is the next number above the largest impostor score. Impostors tied at the threshold are all
    accepted, so that the true FAR may lie above the one asked for, never genuine pairs cut off by chance.

    >>> tar_at_far(np.array([0.9, 0.7, 0.2]), np.array([0.5, 0.3, 0.1, 0.0]), far=0.25)
    (0.6666666666666666, 0.5)
    """
    genuine, impostor = _scores(genuine, "genuine"), _scores(impostor, "impostor")
    k = impostors_accepted(far, len(impostor))
    threshold = above(impostor.max()) if k == 0 else np.partition(impostor, len(impostor) - k)[len(impostor) - k]
    return float(np.mean(genuine >= threshold)), float(threshold)


def impostors_accepted(far: float, impostors: int) -> int:
    """k = round(far * impostors), half rounded up as in MATLAB. Raises ProtocolError unless 0 <= far <= 1."""
    if not 0 <= far <= 1:
        raise ProtocolError(f"a false accept rate lies between 0 and 1, got {far}")
    return int(np.floor(far * impostors + 0.5))


def above(score: float | np.floating) -> np.floating:
    """The next number above a score, in the score's own precision."""
    value = np.asarray(score)
    return np.nextafter(value, value.dtype.type(np.inf))


def verification(scores: np.ndarray, same: np.ndarray, fars: Sequence[float] = FARS) -> Verification:
    """Return every figure of the pairs.

    scores, same: (P,) each; whether both faces are one person's. fars: the false accept rates of ``tar``.

    Raises ProtocolError where either kind of pair is missing or a score is no number.

    >>> figures = verification(np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, True, False, False]), fars=[0.5])
    >>> figures.accuracy, figures.auc, figures.eer, figures.tar
    (1.0, 1.0, 0.0, {0.5: 1.0})
    """
    scores, same = scored_pairs(scores, same)
    genuine, impostor = scores[same], scores[~same]
    far, tar, _ = roc_curve(scores, same)
    threshold = best_threshold(scores, same)
    return Verification(
        accuracy=accuracy(scores, same, threshold),
        threshold=threshold,
        auc=float(np.sum(np.diff(far) * (tar[1:] + tar[:-1]) / 2)),
        eer=_equal_error_rate(far, tar),
        tar={f: tar_at_far(genuine, impostor, f)[0] for f in fars},
    )


def roc_curve(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (far, tar, thresholds), one point for each distinct score, from (0, 0) at infinity down to (1, 1).

    >>> far, tar, thresholds = roc_curve(np.array([0.9, 0.5, 0.1]), np.array([True, False, True]))
    >>> tar.tolist(), thresholds.tolist()
    ([0.0, 0.5, 0.5, 1.0], [inf, 0.9, 0.5, 0.1])
    """
    scores, same = scored_pairs(scores, same)
    order = np.argsort(-scores, kind="stable")
    scores, same = scores[order], same[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of each group of equal scores
    genuine = np.cumsum(same)[last]
    impostor = last + 1 - genuine
    tar = np.append(0.0, genuine / genuine[-1])
    far = np.append(0.0, impostor / impostor[-1])
    return far, tar, np.append(np.inf, scores[last].astype(np.float64))


def best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The threshold of the highest accuracy over all thresholds.

    It lies halfway between two neighbouring scores. Among equally good gaps the highest is taken: where these pairs
    cannot tell, fewer strangers are let in. One kind of pair only is allowed.
    """
    scores = np.asarray(scores, np.float64)
    order = np.argsort(scores)
    scores, same = scores[order], np.asarray(same, bool)[order]
    # Threshold at gap i: the i lowest scores are rejected.
    right = np.append(0, np.cumsum(~same)) + np.append(np.cumsum(same[::-1])[::-1], 0)
    edges = np.concatenate([scores[:1] - 1, scores, scores[-1:] + 1])
    usable = edges[1:] > edges[:-1]  # no threshold parts equal scores
    gap = int(np.flatnonzero(usable & (right == right[usable].max()))[-1])
    threshold = edges[gap] / 2 + edges[gap + 1] / 2
    return float(threshold if threshold > edges[gap] else edges[gap + 1])  # neighbouring floats have no middle


def accuracy(scores: np.ndarray, same: np.ndarray, threshold: float) -> float:
    """Share of the pairs on the right side: score >= threshold exactly where ``same``."""
    return float(np.mean((np.asarray(scores, np.float64) >= threshold) == np.asarray(same, bool)))


def scored_pairs(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of one length, checked: finite scores, and pairs of both kinds."""
    scores, same = np.asarray(scores), np.asarray(same)
    if scores.ndim != 1 or scores.shape != same.shape:
        raise ProtocolError(f"scores and same must be two lists of one length, got {scores.shape} and {same.shape}")
    same = same.astype(bool)
    _scores(scores[same], "genuine")
    _scores(scores[~same], "impostor")
    return scores, same


def _scores(scores: np.ndarray, kind: str) -> np.ndarray:
    scores = np.asarray(scores).reshape(-1)
    if not scores.size:
        raise ProtocolError(f"there is no {kind} pair; pairs of both kinds are needed")
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)
    if not np.isfinite(scores).all():
        raise ProtocolError(f"a score of a {kind} pair is no finite number; look for zero or broken features")
    return scores


def _equal_error_rate(far: np.ndarray, tar: np.ndarray) -> float:
    excess = far - (1 - tar)  # rises from -1 to 1
    i = int(np.flatnonzero(excess >= 0)[0])
    if excess[i] == 0:
        return float(far[i])
    share = -excess[i - 1] / (excess[i] - excess[i - 1])
    return float(far[i - 1] + share * (far[i] - far[i - 1]))
