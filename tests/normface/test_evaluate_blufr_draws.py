"""BLUFR's and folds' draws, against sets in which whoever is drawn twice really is there twice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from normface.evaluate.bin_sets import evaluate_bin
from normface.evaluate.blufr import evaluate_blufr
from normface.evaluate.blufr_config import read_config
from normface.evaluate.blufr_draws import drawn_rates
from normface.evaluate.resampled_people import drawn_folds, interval, weighted_tar

from .test_evaluate_blufr import random_set

pytestmark = pytest.mark.slow


def drawn_people(count, draws, seed):
    chosen = np.random.default_rng(seed).integers(0, count, (draws, count))
    return [np.bincount(row, minlength=count) for row in chosen]


def accepted(genuine, impostor, far):
    """Which of the genuine scores pass the threshold that lets in that share of the impostors."""
    return genuine >= np.sort(impostor)[::-1][int(far * len(impostor) + 0.5) - 1]


def copied(features, labels, trial, times, far, identification_far):
    """(VR, DIR) of one trial, every image and its person as often as drawn; copies of one person never meet."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    _, test, gallery, probes = trial
    images = [(row, labels[row], copy) for row in test for copy in range(times[labels[row] - 1])]
    genuine, impostor = [], []
    for (one, person, copy), (other, stranger, another) in itertools.combinations(images, 2):
        if person != stranger:
            impostor.append(unit[one] @ unit[other])
        elif copy == another:
            genuine.append(unit[one] @ unit[other])
    vr = accepted(np.array(genuine), np.array(impostor), far).mean()
    known, strangers = [], []
    for row in probes:
        scores = unit[gallery] @ unit[row]
        mates = labels[gallery] == labels[row]
        for _ in range(times[labels[row] - 1]):
            if mates.any():
                known.append((scores[mates].max(), scores[mates].max() >= scores.max()))
            else:
                strangers.append(scores.max())
    best, first = np.array(known).T
    return vr, np.mean(accepted(best, np.array(strangers), identification_far) & (first == 1))


def test_blufrs_draws_are_those_of_people_copied(tmp_path):
    features, images, labels, trials, path = random_set(tmp_path / "blufr.mat")
    draws = 6
    vr, dir_ = drawn_rates(features, images, read_config(path), 0.05, 0.2, draws=draws, seed=4)
    for draw, times in enumerate(drawn_people(60, draws, 4)):
        rates = np.array([copied(features, labels, trial, times, 0.05, 0.2) for trial in trials])
        wanted = rates.mean(0) - rates.std(0, ddof=1)
        assert (vr[draw], dir_[draw]) == pytest.approx(tuple(wanted), abs=1e-12)


def test_blufrs_figure_lies_within_its_draws(tmp_path):
    features, images, _, _, path = random_set(tmp_path / "blufr.mat")
    config = read_config(path)
    result = evaluate_blufr(features, images, config, fars=[0.05], identification_fars=[0.2])
    draws = drawn_rates(features, images, config, 0.05, 0.2)
    for rates, rate_draws in zip((result.vr[0.05], result.dir[0.2]), draws, strict=True):
        low, high = interval(rate_draws)
        assert low < rates.reported / 100 < high and high - low > 0.02


@pytest.mark.parametrize(("genuine", "impostor"), [((0, 0), (1, 1)), ((1, 2), (0, 0))])
def test_a_draw_without_pairs_of_a_kind_is_no_number(genuine, impostor):
    scores, weights = np.array([0.9, 0.5]), np.array(genuine)
    assert np.isnan(weighted_tar(scores, weights, weights, np.array([0.6, 0.1]), np.array(impostor), 2, 0.5))


def pairs_in_folds(count):
    random = np.random.default_rng(3)
    same = np.arange(count) % 2 == 0
    left = random.normal(size=(count, 5))
    right = np.where(same[:, None], left, 0) + random.normal(size=(count, 5))
    return evaluate_bin(np.stack([left, right], 1).reshape(-1, 5), same, "insightface", fars=(0.1,))


def test_draws_of_folds_are_those_of_folds_copied():
    result = pairs_in_folds(200)
    tars, accuracies = drawn_folds(result, 0.1, seed=8, draws=20)
    for draw, chosen in enumerate(np.random.default_rng(8).integers(0, 10, (20, 10))):
        rows = np.concatenate([np.flatnonzero(result.folds == fold) for fold in chosen])
        scores, same = result.scores[rows], result.same[rows]
        assert tars[draw] == accepted(scores[same], scores[~same], 0.1).mean()
        assert accuracies[draw] == pytest.approx(result.right[rows].mean(), abs=1e-12)  # equal folds


def test_draws_of_folds_spread_as_the_standard_error_says():
    """The mean of F drawn folds deviates by sqrt((F - 1) / F) of LFW's standard error."""
    result = pairs_in_folds(2000)
    _, accuracies = drawn_folds(result, 0.1, draws=4000)
    assert accuracies.std() == pytest.approx(np.sqrt(0.9) * result.standard_error, rel=0.05)
