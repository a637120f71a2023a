"""Verification in folds: everything that is fitted or chosen for a fold comes from the other folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ProtocolError
from . import roc
from .pca import Projection, fit_mean, fit_pca
from .protocols import FoldProtocol
from .similarity import pair_scores
from .thresholds import DistanceGrid, ThresholdRule

INSIGHTFACE_FAR = 1e-3


@dataclass(frozen=True)
class TarInFolds:
    """InsightFace's TAR: the threshold from the other folds' FAR; ``far`` is what it then gives on the fold itself."""

    tar: float
    std: float
    far: float


@dataclass(frozen=True, repr=False)
class FoldResult:
    """The outcome of a protocol; pairs are in the order of the protocol's file."""

    protocol: str
    accuracies: np.ndarray
    """(F,), one a fold."""
    thresholds: np.ndarray
    """(F,), as scores."""
    std: float
    """The accuracies' sample standard deviation, or that of the population where the protocol says so."""
    std_kind: str
    scores: np.ndarray
    """(P,), each as its own fold is scored: the test folds put together."""
    same: np.ndarray
    right: np.ndarray
    """(P,) bool."""
    pooled: roc.Verification
    """Figures of those scores put together."""
    pooled_thresholds: dict[float, float]
    """FAR -> score, by tar_at_far on the same scores."""
    tar_in_folds: TarInFolds | None = None
    names: tuple[list[str], list[str]] | None = None
    """The names of each pair's two images, where they have names."""
    folds: np.ndarray | None = None
    """(P,), the place of each pair's own fold in ``accuracies`` and ``thresholds``."""

    def __repr__(self) -> str:
        folds = f"{len(self.accuracies)} folds of {len(self.same)} pairs"
        return f"FoldResult({self.protocol}: {100 * self.accuracy:.2f} % +- {100 * self.std:.2f} % in {folds})"

    @property
    def accuracy(self) -> float:
        """Return the mean over the folds."""
        return float(self.accuracies.mean())

    @property
    def standard_error(self) -> float:
        """Return LFW's own measure of spread: the sample standard deviation over the root of the number of folds."""
        return float(self.accuracies.std(ddof=1) / np.sqrt(len(self.accuracies)))


def verify_in_folds(
    left: np.ndarray,
    right: np.ndarray,
    same: np.ndarray,
    fold: np.ndarray,
    protocol: FoldProtocol,
    fars: Sequence[float] = roc.FARS,
) -> FoldResult:
    """Verify pairs in folds, each by what was fitted and chosen on the others.

    left, right: features (P, D) of each pair's two faces.
    same, fold: (P,) bool, and (P,) numbers, any.

    Raises ProtocolError where there are fewer than two folds or the pairs do not make them.
    """
    same, fold = np.asarray(same, bool), np.asarray(fold)
    if not len(left) == len(right) == len(same) == len(fold):
        raise ProtocolError(f"{len(left)} and {len(right)} features for {len(same)} pairs in {len(fold)} fold numbers")
    folds = np.unique(fold)
    if len(folds) < 2:
        raise ProtocolError(f"a threshold needs other folds to be chosen on; there are {len(folds)} folds")
    fit = _fitting(protocol)
    if fit is None:
        unfitted = pair_scores(left, right, protocol.metric)
        return verify_scores(lambda held_out: unfitted, same, fold, protocol, fars)

    def scored(held_out: int) -> np.ndarray:
        train = fold != held_out
        project = fit(np.concatenate([left[train], right[train]]))
        return pair_scores(project(left), project(right), protocol.metric)

    return verify_scores(scored, same, fold, protocol, fars)


def verify_scores(
    scored: Callable[[int], np.ndarray],
    same: np.ndarray,
    fold: np.ndarray,
    protocol: FoldProtocol,
    fars: Sequence[float] = roc.FARS,
) -> FoldResult:
    """Do as verify_in_folds does, from ``scored(fold)``: all pairs' scores (P,) with that fold held out."""
    folds = np.unique(fold)
    rule = protocol.rule
    held_out, right = np.empty(len(same)), np.zeros(len(same), bool)
    accuracies, thresholds, tars = [], [], []
    for number in folds:
        test = fold == number
        scores = scored(number)
        roc.scored_pairs(scores[~test], same[~test])
        thresholds.append(rule.choose(scores[~test], same[~test]))
        right[test] = rule.right(scores[test], same[test], thresholds[-1])
        accuracies.append(right[test].mean())
        held_out[test] = scores[test]
        tars.append(_tar_far(rule, scores, same, test))
    ddof = 0 if protocol.population_std else 1
    return FoldResult(
        protocol=protocol.name,
        accuracies=np.array(accuracies),
        thresholds=np.array(thresholds),
        std=float(np.std(accuracies, ddof=ddof)),
        std_kind="population" if protocol.population_std else "sample",
        scores=held_out,
        same=same,
        right=right,
        pooled=roc.verification(held_out, same, fars),
        pooled_thresholds={far: roc.tar_at_far(held_out[same], held_out[~same], far)[1] for far in fars},
        tar_in_folds=_tar_in_folds(tars),
        folds=np.searchsorted(folds, fold),
    )


def contiguous_folds(pairs: int, folds: int = 10) -> np.ndarray:
    """(pairs,) fold numbers from 1: equal runs in order, the first ones a pair longer where it does not come out."""
    if pairs < folds:
        raise ProtocolError(f"{pairs} pairs cannot be put into {folds} folds")
    return np.concatenate([np.full(len(run), i + 1) for i, run in enumerate(np.array_split(np.arange(pairs), folds))])


def _fitting(protocol: FoldProtocol) -> Callable[[np.ndarray], Projection] | None:
    if protocol.pca is not None:
        keep = protocol.pca
        return lambda rows: fit_pca(rows, keep)
    return fit_mean if protocol.centre else None


def _tar_far(rule: ThresholdRule, scores: np.ndarray, same: np.ndarray, test: np.ndarray) -> tuple[float, float] | None:
    if not isinstance(rule, DistanceGrid) or len(np.unique(same[test])) < 2:
        return None
    threshold = rule.at_far(scores[~test & ~same], INSIGHTFACE_FAR)
    return float(np.mean(scores[test & same] > threshold)), float(np.mean(scores[test & ~same] > threshold))


def _tar_in_folds(tars: list[tuple[float, float] | None]) -> TarInFolds | None:
    known = np.array([tar for tar in tars if tar is not None])
    if len(known) < len(tars):
        return None
    return TarInFolds(float(known[:, 0].mean()), float(known[:, 0].std()), float(known[:, 1].mean()))
