"""``toy``: what softmax does to lengths, by the formula and on a small net."""

from __future__ import annotations

import numpy as np
import pytest
from support.toy_digits import TINY, shared_options, small_digits

from experiments import toy
from experiments.toy_nets import Recipe
from experiments.toy_training import Trained

pytestmark = pytest.mark.slow


def trained(features, labels, weights, offsets) -> Trained:
    arrays = [np.asarray(array, np.float32) for array in (features, labels, weights, offsets, [], [])]
    arrays[1] = arrays[1].astype(np.int64)
    return Trained(Recipe("softmax", digits=(0, 1, 2)), *arrays)


def test_longer_always_helps_without_a_bias_only():
    """NormFace, proposition 1. With a bias the short feature of class 0 turns wrong as it gets longer."""
    random = np.random.default_rng(0)
    weights = random.standard_normal((3, 2))
    features = random.standard_normal((400, 2))
    labels = (features @ weights.T).argmax(1)
    assert toy.longer_lowers_loss(trained(features, labels, weights, np.zeros(3))) == 1
    short = trained([[0.1, 0.0], [1.0, 0.0]], [0, 1], [[0, 0], [1, 0], [-1, 0]], [0.5, 0, 0])
    assert toy.longer_lowers_loss(short) == 0.5


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return toy.measure(shared_options(tmp_path_factory), TINY, small_digits())


@pytest.mark.slow
def test_softmax_spreads_features_along_rays(result):
    """Measured over three seeds: 2.0 to 2.6 times as far along the ray as across it, however the weights are."""
    for name in toy.FREE:
        assert result.measured["2-D"][name]["radial / sideways"] > 1.6, name
        for size in ("2-D", "3-D"):
            assert result.measured[size][name]["longer lowers the loss"] == 1, (size, name)


def test_all_variants_learn(result):
    """By chance: 0.1 right, an equal error rate of 0.5."""
    for size in ("2-D", "3-D"):
        for name in toy.VARIANTS:
            assert result.measured[size][name]["accuracy"] > 0.6, (size, name)
            assert result.measured[size][name]["cosine EER"] < 0.25, (size, name)


def test_figures(result):
    assert [figure.file for figure in result.figures] == [
        "features_2d.png", "directions_2d.png", "features_3d.png", "sphere.html",
    ]  # fmt: skip
    page = result.figures[-1].content
    assert all(name in page for name in toy.VARIANTS) and "http" not in page.replace("http://www.w3.org", "")
