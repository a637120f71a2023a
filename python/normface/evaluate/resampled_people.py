"""How far true accepts depend on who was there: people drawn again and again, with replacement (the bootstrap).

Pairs of one person's images, or of one person's with everybody's, stand and fall together, so pairs drawn one by one
would give intervals far too narrow. Here people are drawn. One who is drawn w times brings each genuine pair w times,
and an impostor pair comes as often as the product of its two people's counts; copies of one person are no impostors of
each other. The threshold is chosen anew among the impostor pairs of each draw, by the rule of ``roc.tar_at_far``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ProtocolError
from .folds import FoldResult
from .roc import impostors_accepted

MOST_DRAWS, LEAST_DRAWS = 1000, 200
WORK = 10**8
"""Pairs that all draws together look at, about a second; more than this makes fewer draws, to LEAST_DRAWS."""
LEVEL = 0.95
LEAST_FOLDS = 5
"""Of fewer the draws of folds are too few for an interval."""


def drawn_tars(
    scores: np.ndarray, people: np.ndarray, far: float, *, seed: int | list[int] = 0, draws: int | None = None
) -> np.ndarray:
    """The TAR at ``far`` of each draw of people, (draws,), NaN where a draw has no pair of a kind.

    scores (P,): of all pairs i < j of N images, in the order of ``np.triu_indices(N, 1)``. people (N,): whose image
    it is, as whole numbers from 0. seed: draws of the same people by the same seed are the same, so that two models'
    TARs differ draw by draw by what the models differ in. draws: by default as many as WORK allows.
    """
    images = len(people)
    first, second = np.triu_indices(images, 1)
    if np.shape(scores) != first.shape:
        raise ProtocolError(f"expected {len(first)} scores, of all pairs of {images} images, got {np.shape(scores)}")
    one, other = people[first], people[second]
    same = one == other
    order = np.argsort(-scores[same], kind="stable")
    falling, of_genuine = -scores[same][order], one[same][order]
    order = np.argsort(-scores[~same], kind="stable")
    impostor, one, other = scores[~same][order], one[~same][order], other[~same][order]
    counts = np.bincount(people)
    present = np.flatnonzero(counts)
    near = min(len(impostor), 4 * impostors_accepted(far, len(impostor)) + 1000)  # hold nearly every threshold
    if draws is None:
        draws = int(np.clip(WORK // max(1, near + len(falling)), LEAST_DRAWS, MOST_DRAWS))
    generator = np.random.default_rng(seed)
    tars = np.full(draws, np.nan)
    for draw in range(draws):
        times = np.bincount(generator.choice(present, len(present)), minlength=len(counts))
        genuine_pairs = int(times @ (counts * (counts - 1) // 2))
        drawn = times * counts
        impostor_pairs = (int(drawn.sum()) ** 2 - int(drawn @ drawn)) // 2
        if not genuine_pairs or not impostor_pairs:
            continue
        wanted = impostors_accepted(far, impostor_pairs)
        for size in (near, len(impostor)):
            accepted = np.cumsum(times[one[:size]] * times[other[:size]])
            if accepted.size and accepted[-1] >= max(wanted, 1):
                break
        place = int(np.searchsorted(accepted, max(wanted, 1)))
        # From the largest down, so that the accepted genuine pairs come first; at no impostor, those above it.
        length = int(np.searchsorted(falling, -impostor[place], side="right" if wanted else "left"))
        tars[draw] = times[of_genuine[:length]].sum() / genuine_pairs
    return tars


def weighted_tar(
    genuine: np.ndarray, weights: np.ndarray, right: np.ndarray, impostor: np.ndarray, of_impostor: np.ndarray,
    impostors: int, far: float,
) -> float:  # fmt: skip
    """The share of the genuine, each counted ``weights`` times, that is accepted at ``far`` and ``right`` so often.

    impostor: the highest scores, falling, ``of_impostor`` times each, of ``impostors`` in all. NaN where a kind lacks.
    """
    accepted = np.cumsum(of_impostor)
    wanted = impostors_accepted(far, impostors)
    if not weights.any() or not accepted.size or accepted[-1] < max(1, wanted):
        return float("nan")
    threshold = impostor[np.searchsorted(accepted, max(1, wanted))]
    passed = genuine >= threshold if wanted else genuine > threshold
    return float(right[passed].sum() / weights.sum())


def interval(values: np.ndarray) -> tuple[float, float] | None:
    """The middle 95 % of the draws that are numbers; None where fewer than half of them are."""
    numbers = values[np.isfinite(values)]
    if 2 * len(numbers) < max(1, len(values)):
        return None
    low, high = np.quantile(numbers, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def drawn_folds(
    result: FoldResult, far: float, *, seed: int | list[int] = 0, draws: int = MOST_DRAWS
) -> tuple[np.ndarray, np.ndarray]:
    """(the TAR at ``far`` of each draw of folds, the accuracy of each), (draws,) each: where nobody knows the people.

    As many folds are drawn as there are, with replacement, each with all its pairs, so that people who are in no two
    folds stand and fall together. NaN of fewer than LEAST_FOLDS.
    """
    folds = len(result.accuracies)
    if folds < LEAST_FOLDS or result.folds is None:
        return np.full(draws, np.nan), np.full(draws, np.nan)
    chosen = np.random.default_rng(seed).integers(0, folds, (draws, folds))
    same = result.same
    order = np.argsort(-result.scores[~same], kind="stable")
    impostor, of_impostor = result.scores[~same][order], result.folds[~same][order]
    genuine, of_genuine = result.scores[same], result.folds[same]
    tars = np.empty(draws)
    for draw, row in enumerate(chosen):
        times = np.bincount(row, minlength=folds)
        weights, others = times[of_genuine], times[of_impostor]
        tars[draw] = weighted_tar(genuine, weights, weights, impostor, others, int(others.sum()), far)
    return tars, result.accuracies[chosen].mean(1)


def drawn_figures(
    scores: np.ndarray, right: np.ndarray, people: tuple[np.ndarray, np.ndarray], fars: Sequence[float], *,
    seed: int | list[int] = 0, draws: int | None = None,
) -> tuple[dict[float, np.ndarray], np.ndarray]:  # fmt: skip
    """({FAR: the TAR of each draw of people}, the accuracy of each), (draws,) each, of listed pairs.

    scores (P,); right (P,) bool: what came out right, at thresholds that stay. people: (P,) whole numbers from 0, of
    each pair's first and second image; a pair of one person is a genuine one. NaN as in ``drawn_tars``.
    """
    one, other = people
    same = one == other
    order = np.argsort(-scores[same], kind="stable")
    falling, of_genuine = -scores[same][order], one[same][order]
    order = np.argsort(-scores[~same], kind="stable")
    impostor, first, second = scores[~same][order], one[~same][order], other[~same][order]
    present = np.unique(np.concatenate(people))
    if draws is None:
        draws = int(np.clip(WORK // max(1, len(scores)), LEAST_DRAWS, MOST_DRAWS))
    generator = np.random.default_rng(seed)
    tars = {far: np.full(draws, np.nan) for far in fars}
    accuracies = np.full(draws, np.nan)
    for draw in range(draws):
        times = np.bincount(generator.choice(present, len(present)), minlength=int(present[-1]) + 1)
        genuine_passed = np.cumsum(times[of_genuine])
        impostor_passed = np.cumsum(times[first] * times[second])
        genuine_pairs, impostor_pairs = int(genuine_passed[-1]), int(impostor_passed[-1])
        if not genuine_pairs or not impostor_pairs:
            continue
        weights = np.where(same, times[one], times[one] * times[other])
        accuracies[draw] = weights[right].sum() / weights.sum()
        for far in fars:
            wanted = impostors_accepted(far, impostor_pairs)
            place = int(np.searchsorted(impostor_passed, max(wanted, 1)))
            length = int(np.searchsorted(falling, -impostor[place], side="right" if wanted else "left"))
            tars[far][draw] = (genuine_passed[length - 1] if length else 0) / genuine_pairs
    return tars, accuracies
