"""Whether pairs show a false accept rate at all, and how far it may lie from the true one: intervals of 95 %."""

from __future__ import annotations

import numpy as np

from .roc import impostors_accepted

CONFIDENCE = 0.95
RESAMPLES = 1000

ROUNDING = 1e-6
"""By how much two computations of a cosine in float32 may differ."""

Interval = tuple[float, float]


def shows(far: float, cosine: float, impostors: int, impostor_scores: np.ndarray | None = None) -> bool:
    """Whether the threshold ``cosine`` lets in ``far`` of so many impostor pairs, in which one pair counts at least.

    It does not where it lies among equal scores, as of a net to which all faces are one: all of them are let in, or
    none, as the last digit falls. Without the scores that is seen only of the cosine 1.
    """
    if far * impostors < 1 or not -1 <= cosine <= 1 - ROUNDING:
        return False
    if impostor_scores is None:
        return True
    return int((impostor_scores >= cosine - ROUNDING).sum()) <= 1.1 * impostors_accepted(far, impostors) + 0.5


def of_listed_pairs(accepted: int, impostors: int) -> Interval:
    """The false accept rate of the threshold at the ``accepted``-th largest of so many impostor scores.

    That rate has a Beta(k, n - k + 1) distribution whatever the scores' own (an order statistic of n draws); the pairs
    are taken as independent, as in a list where most faces come once.
    """
    from scipy.stats import beta

    rest = (1 - CONFIDENCE) / 2
    low, high = beta.ppf((rest, 1 - rest), accepted, impostors - accepted + 1)
    return float(low), float(high)


def of_all_pairs(accepted: np.ndarray, labels: np.ndarray, seed: int = 0) -> Interval:
    """The false accept rate over all pairs of some people's images, when other people of their kind were drawn.

    accepted (N, N) bool, labels (N,) 0 to C-1. Pairs that share a person are not independent, so people are resampled
    with replacement, RESAMPLES times, by a seed; a pair of people counts as often as both were drawn. The interval is
    never narrower than Clopper and Pearson's of one trial for each pair of people, since few people resample badly.
    """
    from scipy.stats import beta

    people = int(labels.max()) + 1
    one_hot = np.eye(people, dtype=np.float64)[labels]
    passed = one_hot.T @ accepted.astype(np.float64) @ one_hot
    counts = np.bincount(labels, minlength=people).astype(np.float64)
    compared = np.outer(counts, counts)
    for table in (passed, compared):
        np.fill_diagonal(table, 0)  # one person's own pairs
    drawn = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), RESAMPLES).astype(np.float64)
    rate, trials = passed.sum() / compared.sum(), people * (people - 1) / 2
    totals = np.einsum("rp,pq,rq->r", drawn, compared, drawn, optimize=True)
    rates = np.einsum("rp,pq,rq->r", drawn, passed, drawn, optimize=True)[totals > 0] / totals[totals > 0]
    rest = (1 - CONFIDENCE) / 2
    low, high = np.quantile(rates, (rest, 1 - rest))
    successes = rate * trials
    least = beta.ppf(rest, successes, trials - successes + 1) if successes else 0.0
    most = beta.ppf(1 - rest, successes + 1, trials - successes) if successes < trials else 1.0
    return float(min(low, least)), float(max(high, most))
