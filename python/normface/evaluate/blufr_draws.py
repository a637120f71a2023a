"""How far BLUFR's figures depend on who was there: people drawn again and again, with replacement (the bootstrap).

The ten trials share most of their people, so that their own deviation tells too little. Here one draw of all people is
taken to every trial: a pair counts as often as ``resampled_people`` has it, and the threshold of verification is chosen
anew in each draw. In identification the gallery stays as it is, and the probes are those of the people drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import roc
from .blufr import ROWS, identification, rows_of, verification_scores
from .blufr_config import BlufrConfig
from .resampled_people import LEAST_DRAWS, weighted_tar
from .similarity import both_sides

REACH = 4
"""Times the impostor pairs let in: so many of the highest hold the threshold of nearly any draw."""


def drawn_rates(
    features: np.ndarray, names: Sequence[str], config: BlufrConfig, far: float, identification_far: float, *,
    rank: int = 1, metric: str = "cosine", draws: int = LEAST_DRAWS, seed: int | list[int] = 0,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(VR at ``far``, DIR at ``identification_far``) of each draw of people, (draws,), mean less deviation, in shares.

    features (N, D) of images with these names. NaN where a draw leaves a trial without pairs of a kind.
    """
    features = np.asarray(features)[rows_of(config, names)]
    people = np.unique(config.labels, return_inverse=True)[1].reshape(-1)
    count = int(people.max()) + 1
    chosen = np.random.default_rng(seed).integers(0, count, (draws, count))
    times = np.stack([np.bincount(row, minlength=count) for row in chosen])
    vr, dir_ = [], []
    for trial in config.trials:
        vr.append(_verified(features[trial.test], people[trial.test], far, metric, times))
        answers = identification(features, config.labels, trial, metric)
        probes = people[trial.probes]
        known = np.isin(probes, people[trial.gallery])
        order = np.argsort(-answers.impostor_best, kind="stable")
        impostor, stranger = answers.impostor_best[order], probes[~known][order]
        ranked = answers.genuine_rank <= rank
        dir_.append(
            np.array([
                weighted_tar(
                    answers.genuine_best, weights[probes[known]], weights[probes[known]] * ranked,
                    impostor, weights[stranger], int(weights[stranger].sum()), identification_far,
                )
                for weights in times
            ])
        )  # fmt: skip
    return _reported(vr), _reported(dir_)


def _reported(trials: list[np.ndarray]) -> np.ndarray:
    rates = np.stack(trials)
    deviation = rates.std(0, ddof=1) if len(rates) > 1 else 0.0
    return np.asarray(rates.mean(0) - deviation)


def _verified(features: np.ndarray, people: np.ndarray, far: float, metric: str, times: np.ndarray) -> np.ndarray:
    """(draws,) of one trial's test set."""
    images = np.bincount(people)
    total = (len(people) ** 2 - int(images @ images)) // 2
    reach = min(total, REACH * roc.impostors_accepted(far, total) + 1000)
    lowest = verification_scores(features, people, (reach / total,), metric)[1][-1]
    genuine, person, impostor, one, other = _pairs(features, people, metric, lowest)
    counts = np.bincount(people, minlength=times.shape[1])
    rates = np.empty(len(times))
    for draw, weights in enumerate(times):
        shown = weights * counts
        pairs = (int(shown.sum()) ** 2 - int(shown @ shown)) // 2
        rates[draw] = weighted_tar(
            genuine, weights[person], weights[person], impostor, weights[one] * weights[other], pairs, far
        )
    return rates


def _pairs(
    features: np.ndarray, people: np.ndarray, metric: str, lowest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(genuine scores, whose they are; impostor scores of ``lowest`` or more, falling, and their two people)."""
    left, right = both_sides(features, metric)
    genuine, person, impostor, one, other = [], [], [], [], []
    for start in range(0, len(people), ROWS):
        rows = slice(start, start + ROWS)
        scores = left[rows] @ right[start:].T
        upper = np.triu(np.ones(scores.shape, bool), 1)
        same = people[rows, None] == people[None, start:]
        i, j = np.nonzero(upper & same)
        genuine.append(scores[i, j])
        person.append(people[start + i])
        i, j = np.nonzero(upper & ~same & (scores >= lowest))
        impostor.append(scores[i, j])
        one.append(people[start + i])
        other.append(people[start + j])
    order = np.argsort(-np.concatenate(impostor), kind="stable")
    falling, first, second = (np.concatenate(parts)[order] for parts in (impostor, one, other))
    return np.concatenate(genuine), np.concatenate(person), falling, first, second
