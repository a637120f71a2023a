"""Intervals of false accept rates, against sums of binomial probabilities and against draws whose rate is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from normface.evaluate.intervals import of_all_pairs, of_listed_pairs, shows


def at_least(successes: int, trials: int, rate: float) -> float:
    """P(so many or more of the trials succeed)."""
    return sum(math.comb(trials, j) * rate**j * (1 - rate) ** (trials - j) for j in range(successes, trials + 1))


@pytest.mark.parametrize(("accepted", "impostors"), [(1, 6), (3, 300), (6, 6), (30, 300)])
def test_listed_pairs_by_the_binomial(accepted, impostors):
    """The k-th largest of n draws lies below the score of true rate x when k or more of them are above that."""
    for bound, share in zip(of_listed_pairs(accepted, impostors), (0.025, 0.975), strict=True):
        assert at_least(accepted, impostors, bound) == pytest.approx(share, abs=1e-9)


def test_listed_pairs_cover_the_true_rate():
    """The threshold at the third largest of 100 uniform draws has the true rate 1 - threshold."""
    thresholds = np.sort(np.random.default_rng(0).random((4000, 100)))[:, -3]
    low, high = of_listed_pairs(3, 100)
    covered = np.mean((low <= 1 - thresholds) & (1 - thresholds <= high))
    assert covered == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors of 4000 draws


def accepts(people: int, images: int, chance, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, N) and labels (N,): pairs of different people are accepted by ``chance(p, q)``."""
    labels = np.repeat(np.arange(people), images)
    drawn = np.random.default_rng(seed).random((len(labels), len(labels)))
    drawn = np.triu(drawn, 1) + np.triu(drawn, 1).T
    return drawn < chance(labels[:, None], labels[None, :]), labels


def test_all_pairs_cover_the_rate_that_they_were_drawn_with():
    inside = 0
    for seed in range(60):
        low, high = of_all_pairs(*accepts(30, 3, lambda p, q: 0.02 + 0 * p * q, seed))
        inside += low <= 0.02 <= high
    assert inside >= 55


def test_people_who_are_taken_for_everybody_widen_it():
    """As many accepts, but all with one of forty people: another draw of people may have none of that one, or two."""
    spread = of_all_pairs(*accepts(40, 4, lambda p, q: 0.02 + 0 * p * q, 0))
    accepted, labels = accepts(40, 4, lambda p, q: 0.4 * ((p == 0) | (q == 0)), 0)
    one = of_all_pairs(accepted, labels)
    assert one[0] == 0 and one[1] > 1.4 * spread[1]


def test_one_persons_own_pairs_do_not_count():
    accepted, labels = accepts(12, 3, lambda p, q: 1.0 * (p == q), 0)
    low, high = of_all_pairs(accepted, labels)
    assert low == 0
    assert (1 - high) ** 66 == pytest.approx(0.025, abs=1e-9)  # none of the 66 pairs of people


def test_two_people_say_next_to_nothing():
    labels = np.array([0, 0, 1, 1])
    accepted = np.zeros((4, 4), bool)
    accepted[0, 2] = accepted[2, 0] = True
    low, high = of_all_pairs(accepted, labels)
    assert low < 0.05 and high > 0.95


def test_a_rate_that_the_scores_do_not_show():
    scores = np.linspace(-0.5, 0.5, 1001)
    assert shows(0.01, scores[-10], 1001, scores)
    assert not shows(0.0009, scores[-1], 1001, scores)  # less than one pair
    tied = np.where(scores > 0.3, 0.3, scores)
    assert not shows(0.01, 0.3, 1001, tied)  # lets in a fifth
    assert not shows(0.01, 0.3, 1001, tied + np.random.default_rng(0).random(1001) * 1e-8)  # the last digit decides
    for cosine in (1.0, float(np.nextafter(1, 2))):  # a net to which all faces are one
        assert not shows(0.01, cosine, 1001) and not shows(0.01, cosine, 1001, np.ones(1001))
