"""BLUFR (Liao et al. 2014) on LFW: verification of all pairs, and open-set identification, over ten trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import ProtocolError
from . import roc
from .blufr_config import BlufrConfig, Trial, read_config
from .names import ImageRows
from .pca import fit_pca
from .similarity import both_sides
from .top_scores import TopScores

VERIFICATION_FARS = (1e-2, 1e-3, 1e-4)
IDENTIFICATION_FARS = (1e-1, 1e-2, 1e-3)
DRAWN_FARS = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
DRAWN_DIR_FARS = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1, 2e-1, 5e-1)
ROWS = 256
"""Rows of the score matrix that are in memory at once."""


@dataclass(frozen=True)
class Rates:
    """One rate over the trials, between 0 and 1."""

    trials: np.ndarray
    thresholds: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.trials.mean())

    @property
    def std(self) -> float:
        """Sample standard deviation, MATLAB's std; 0 for a single trial."""
        return float(self.trials.std(ddof=1)) if len(self.trials) > 1 else 0.0

    @property
    def reported(self) -> float:
        """BLUFR's figure: 100 * (mean - standard deviation)."""
        return 100 * (self.mean - self.std)


@dataclass(frozen=True, repr=False)
class BlufrResult:
    """The outcome of the trials, without the pairs themselves.

    vr: {FAR: verification rate}.
    dir: {FAR: detection and identification rate at ``rank``}.
    genuine_pairs, impostor_pairs: how many each trial has.
    """

    vr: dict[float, Rates]
    dir: dict[float, Rates]
    rank: int
    genuine_pairs: np.ndarray
    impostor_pairs: np.ndarray

    def __repr__(self) -> str:
        rates = [f"VR {rates.reported:.2f} % at FAR {100 * far:g} %" for far, rates in self.vr.items()]
        name = f"rank {self.rank} DIR"
        rates += [f"{name} {rates.reported:.2f} % at FAR {100 * far:g} %" for far, rates in self.dir.items()]
        return f"BlufrResult({len(self.genuine_pairs)} trials: {', '.join(rates)})"

    def at(self, fars: Sequence[float], identification_fars: Sequence[float]) -> BlufrResult:
        """Return the same with these of its FARs only, in this order."""
        vr = {far: self.vr[far] for far in fars}
        return replace(self, vr=vr, dir={far: self.dir[far] for far in identification_fars})


def evaluate_blufr(
    features: np.ndarray,
    names: Sequence[str],
    config: str | Path | BlufrConfig,
    *,
    fars: Sequence[float] = VERIFICATION_FARS,
    identification_fars: Sequence[float] = IDENTIFICATION_FARS,
    rank: int = 1,
    pca: float | int | None = None,
    metric: str = "cosine",
    told: Callable[[], None] = lambda: None,
) -> BlufrResult:
    """Return BLUFR's rates of features (N, D) of images with these names; every impostor pair of a trial counts.

    Scores have the features' own precision (float32 as extracted). pca is fitted on each trial's training set, as the
    protocol demands. ``told`` is called after each trial. Raises ProtocolError where images of the protocol have no
    features, or a trial lacks genuine or impostor pairs or probes.
    """
    checked_rank(rank)
    listed = config if isinstance(config, BlufrConfig) else read_config(config)
    features = np.asarray(features)[rows_of(listed, names)]
    vr, dir_, pairs = [], [], []
    for number, trial in enumerate(listed.trials, 1):
        try:
            known = features if pca is None else _projected(features, trial, pca)
            genuine, impostor, total = verification_scores(known[trial.test], listed.labels[trial.test], fars, metric)
            vr.append([_rate(genuine, impostor, total, far) for far in fars])
            answers = identification(known, listed.labels, trial, metric)
            dir_.append([answers.rate(far, rank) for far in identification_fars])
        except ProtocolError as error:
            raise ProtocolError(f"{listed.source}: trial {number}: {error}") from error
        pairs.append((len(genuine), total))
        told()
    return BlufrResult(
        vr=_over_trials(fars, vr),
        dir=_over_trials(identification_fars, dir_),
        rank=rank,
        genuine_pairs=np.array([genuine for genuine, _ in pairs]),
        impostor_pairs=np.array([impostor for _, impostor in pairs]),
    )


def checked_rank(rank: int) -> int:
    if rank < 1:
        raise ProtocolError(f"rank {rank}: expected 1 or more")
    return rank


def rows_of(config: BlufrConfig, names: Sequence[str]) -> np.ndarray:
    """(N,): the protocol's images' places in ``names``; ProtocolError that lists missing ones."""
    return ImageRows(names).find_files(config.images, config.source)


def verification_scores(
    features: np.ndarray, labels: np.ndarray, fars: Sequence[float], metric: str = "cosine"
) -> tuple[np.ndarray, np.ndarray, int]:
    """(genuine scores, the largest impostor scores falling, number of impostor pairs) of all pairs, each taken once.

    As many impostor scores are kept as the largest of the FARs needs, at least one.
    """
    order = np.argsort(labels, kind="stable")  # each person's rows together: pairs of one person lie near the diagonal
    labels = labels[order]
    if not np.isfinite(features).all():
        raise ProtocolError("some features of its test set are no finite numbers")
    left, right = both_sides(features[order], metric)
    n = len(labels)
    _, runs = np.unique(labels, return_counts=True)
    genuine_pairs = int(np.sum(runs * (runs - 1) // 2))
    total = n * (n - 1) // 2 - genuine_pairs
    if not genuine_pairs or not total:
        raise ProtocolError(f"its test set has {genuine_pairs} genuine and {total} impostor pairs; both are needed")
    top = TopScores(max([1, *(roc.impostors_accepted(far, total) for far in fars)]))
    ends = np.repeat(np.cumsum(runs), runs)  # row -> the end of its person's rows
    genuine: list[np.ndarray] = []
    for start in range(0, n, ROWS):
        stop = min(start + ROWS, n)
        scores = left[start:stop] @ right[start:].T
        near = ends[stop - 1] - start
        upper = np.triu(np.ones((stop - start, near), bool), 1)
        same = labels[start:stop, None] == labels[start : start + near]
        genuine.append(scores[:, :near][upper & same])
        top.add(scores[:, :near][upper & ~same])
        top.add(scores[:, near:])
    return np.concatenate(genuine), top.largest(), total


@dataclass(frozen=True)
class Identification:
    """The answers of the gallery to the probes of one trial."""

    impostor_best: np.ndarray
    """(I,) each probe of nobody in the gallery: its best score."""
    genuine_best: np.ndarray
    """(G,) each other probe: the best score among its own person's gallery images."""
    genuine_rank: np.ndarray
    """(G,) where that image stands, from 1; of equal scores the earlier in the gallery comes first, as in MATLAB."""

    def rate(self, far: float, rank: int) -> tuple[float, float]:
        """(DIR, threshold): probes with score >= threshold and rank at most ``rank``; the threshold as in tar_at_far,
        over the impostor probes."""
        _, threshold = roc.tar_at_far(self.genuine_best, self.impostor_best, far)
        return float(np.mean((self.genuine_best >= threshold) & (self.genuine_rank <= rank))), threshold


def identification(features: np.ndarray, labels: np.ndarray, trial: Trial, metric: str = "cosine") -> Identification:
    """Every probe against the gallery."""
    gallery, probes = trial.gallery, trial.probes
    left, right = both_sides(np.concatenate([features[probes], features[gallery]]), metric)
    left, right = left[: len(probes)], right[len(probes) :]
    known = np.isin(labels[probes], labels[gallery])
    if not known.any() or known.all():
        raise ProtocolError(
            f"its {len(probes)} probes have {int(known.sum())} with a gallery image; some with and some without are "
            "needed"
        )
    impostor_best, genuine_best, genuine_rank = [], [], []
    for start in range(0, len(probes), ROWS):
        block = slice(start, start + ROWS)
        scores = left[block] @ right.T
        inside = known[block]
        impostor_best.append(scores[~inside].max(axis=1))
        scores = scores[inside]
        mates = labels[probes[block]][inside, None] == labels[gallery]
        best = np.argmax(np.where(mates, scores, -np.inf), axis=1)[:, None]
        score = np.take_along_axis(scores, best, axis=1)
        before = (scores > score) | ((scores == score) & (np.arange(len(gallery)) < best))
        genuine_best.append(score[:, 0])
        genuine_rank.append(1 + np.count_nonzero(before, axis=1))
    return Identification(*(np.concatenate(parts) for parts in (impostor_best, genuine_best, genuine_rank)))


def _projected(features: np.ndarray, trial: Trial, pca: float | int) -> np.ndarray:
    if not len(trial.train):
        raise ProtocolError("it has no training set to fit the PCA on")
    return fit_pca(features[trial.train], pca)(features).astype(features.dtype)


def _rate(genuine: np.ndarray, impostor: np.ndarray, total: int, far: float) -> tuple[float, float]:
    """(rate, threshold), as tar_at_far, where only the largest of the ``total`` impostor scores are there, falling."""
    k = roc.impostors_accepted(far, total)
    threshold = impostor[k - 1] if k else roc.above(impostor[0])
    return float(np.mean(genuine >= threshold)), float(threshold)


def _over_trials(fars: Sequence[float], trials: list[list[tuple[float, float]]]) -> dict[float, Rates]:
    figures = np.array(trials).reshape(len(trials), len(fars), 2)
    return {far: Rates(figures[:, i, 0], figures[:, i, 1]) for i, far in enumerate(fars)}
