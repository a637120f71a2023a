"""BLUFR: hand-made trials with known rates, and all pairs by brute force; written as MATLAB writes its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from normface.errors import ProtocolError
from normface.evaluate import evaluate_blufr
from normface.evaluate.blufr import verification_scores
from normface.evaluate.blufr_config import read_config
from normface.evaluate.top_scores import TopScores
from support.blufr_files import write_config

scipy_io = pytest.importorskip("scipy.io")
CONFIG = Path(__file__).parents[3] / "shared" / "lfw" / "blufr_lfw_config.mat"


def random_set(path, people=60, trials=3, dims=6, seed=0, decimals=None):
    """People with 1 to 6 images each; every trial tests other people. Rounded features give many ties."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(1, people + 1), draw.integers(1, 7, people))
    draw.shuffle(labels)
    centres = draw.normal(size=(people + 1, dims))
    features = centres[labels] + 0.5 * draw.normal(size=(len(labels), dims))
    if decimals is not None:
        features = features.round(decimals)
        features[~features.any(axis=1)] = 1
    seen: dict[int, int] = {}
    images = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        images.append(f"P{label}_{seen[label]:04d}.jpg")
    made = []
    for _ in range(trials):
        tested = draw.choice(np.arange(1, people + 1), 2 * people // 3, replace=False)
        test = draw.permutation(np.flatnonzero(np.isin(labels, tested)))
        train = np.flatnonzero(~np.isin(labels, tested))
        gallery = [np.flatnonzero(labels == person)[0] for person in tested[:20]]
        gallery += [np.flatnonzero(labels == person)[-1] for person in tested[:5] if (labels == person).sum() > 2]
        made.append((train, test, gallery, np.setdiff1d(test, gallery)))
    return features, images, labels, made, write_config(path, images, labels, made)


def brute_force(features, labels, trials, far, identification_far, rank):
    """(VR, DIR) a trial, pair by pair and probe by probe; MATLAB's order among equal scores: the earlier first."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    rates = []
    for _, test, gallery, probes in trials:
        rows = unit[test] @ unit[test].T
        first, second = np.tril_indices(len(test), -1)
        scores, same = rows[first, second], labels[test][first] == labels[test][second]
        impostor = np.sort(scores[~same])[::-1]
        vr = np.mean(scores[same] >= impostor[int(far * len(impostor) + 0.5) - 1])
        found = unit[gallery] @ unit[probes].T
        known = np.isin(labels[probes], labels[gallery])
        best = np.sort(found[:, ~known].max(axis=0))[::-1]
        threshold = best[int(identification_far * len(best) + 0.5) - 1]
        counted = []
        for column, label in zip(found.T[known], labels[probes][known], strict=True):
            order = np.argsort(-column, kind="stable")
            mates = [place for place in order if labels[gallery][place] == label]
            counted.append(column[mates[0]] >= threshold and list(order).index(mates[0]) < rank)
        rates.append((vr, np.mean(counted)))
    return np.array(rates).T


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_pair_and_every_probe(tmp_path, seed, rank):
    features, images, labels, trials, path = random_set(tmp_path / "b.mat", seed=seed)
    vr, dir_ = brute_force(features, labels, trials, 0.01, 0.1, rank)
    found = evaluate_blufr(features, images, path, fars=[0.01], identification_fars=[0.1], rank=rank)
    np.testing.assert_allclose(found.vr[0.01].trials, vr, rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.dir[0.1].trials, dir_, rtol=0, atol=1e-15)
    assert 0.2 < vr.min() < vr.max() < 1
    assert len(set(dir_)) > 1
    assert found.vr[0.01].reported == pytest.approx(100 * (np.mean(vr) - np.std(vr, ddof=1)), abs=1e-12)


def test_features_may_come_in_any_order_and_float32(tmp_path):
    features, images, labels, trials, path = random_set(tmp_path / "b.mat")
    vr, dir_ = brute_force(features.astype(np.float32), labels, trials, 0.01, 0.1, 1)
    shuffled = np.random.default_rng(3).permutation(len(images))
    names = [f"{images[row].split('_')[0]}/{images[row]}" for row in shuffled]
    found = evaluate_blufr(features[shuffled].astype(np.float32), names, path, fars=[0.01], identification_fars=[0.1])
    # No two scores of this set are nearer to each other than float32 tells apart at the thresholds.
    np.testing.assert_allclose(found.vr[0.01].trials, vr, rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.dir[0.1].trials, dir_, rtol=0, atol=1e-15)


def test_pca_is_fitted_on_the_training_set(tmp_path):
    decomposition = pytest.importorskip("sklearn.decomposition")
    features, images, labels, trials, path = random_set(tmp_path / "b.mat", dims=9)
    expected = []
    for trial in trials:
        projected = decomposition.PCA(4, svd_solver="full").fit(features[trial[0]]).transform(features)
        expected.append(brute_force(projected, labels, [trial], 0.05, 0.2, 1)[:, 0])
    found = evaluate_blufr(features, images, path, fars=[0.05], identification_fars=[0.2], pca=4)
    np.testing.assert_allclose([found.vr[0.05].trials, found.dir[0.2].trials], np.array(expected).T, atol=1e-15)


def test_known_rates_with_ties_at_the_threshold(tmp_path):
    """Features are axes and diagonals of the plane, so that every cosine is exactly 1, 0, -1 or sqrt(1/2)."""
    axes = {"east": (1, 0), "north": (0, 1), "west": (-1, 0), "diagonal": (1, 1)}
    ways = ("east", "east", "north", "diagonal", "west", "west", "east")
    people = list(zip("AABBCCD", ways, strict=True))
    features = np.array([axes[way] for _, way in people], np.float64)
    labels = [ord(person) - 64 for person, _ in people]
    images = [f"{person}_{i:04d}.jpg" for i, (person, _) in enumerate(people)]
    # Gallery A (east), B (north), C (west); probes A east, B diagonal, C west, and D, whom nobody knows: his best
    # score is 1, with A.
    trial = ([0], range(7), [0, 2, 4], [1, 3, 5, 6])
    path = write_config(tmp_path / "b.mat", images, labels, [trial])
    found = evaluate_blufr(features, images, path, fars=[1 / 18, 3 / 18], identification_fars=[1.0])
    # Genuine: A-A 1, B-B sqrt(1/2), C-C 1. Impostors, 18: D with both A 1; diagonal with A, A, D sqrt(1/2); the rest
    # 0 or less. At k = 1 the threshold is 1: A-A and C-C pass. At k = 3 it is sqrt(1/2): all three do.
    assert (found.genuine_pairs.tolist(), found.impostor_pairs.tolist()) == ([3], [18])
    assert found.vr[1 / 18].trials.tolist() == [2 / 3]
    assert found.vr[3 / 18].trials.tolist() == [1.0]
    # The threshold is D's 1: of the probes A and C reach it at rank 1. B's best mate scores sqrt(1/2) and shares
    # the first place with A's image, which comes first in the gallery.
    assert found.dir[1.0].trials.tolist() == [2 / 3]
    assert found.vr[1 / 18].std == 0.0


def test_equal_scores_rank_in_the_gallerys_order(tmp_path):
    features = np.array([[1, 0], [0, 1], [1, 1], [0, 0.01], [-1, -1.0]])
    images = ["A_1.jpg", "B_1.jpg", "A_2.jpg", "B_2.jpg", "C_1.jpg"]
    labels = [1, 2, 1, 2, 3]
    rates = []
    for gallery in ([0, 1], [1, 0]):
        path = write_config(tmp_path / "b.mat", images, labels, [([0], range(5), gallery, [2, 3, 4])])
        rates.append(evaluate_blufr(features, images, path).dir[0.1].trials.tolist())
    assert rates == [[1.0], [0.5]]  # A_2 lies halfway between the two gallery images


def test_blocks_do_not_show(tmp_path, monkeypatch):
    from normface.evaluate import blufr, top_scores

    features, images, _, _, path = random_set(tmp_path / "b.mat", decimals=1)
    whole = evaluate_blufr(features, images, path, fars=[0.5, 0.02, 1e-4])
    monkeypatch.setattr(blufr, "ROWS", 7)
    monkeypatch.setattr(top_scores, "PIECE", 50)
    parts = evaluate_blufr(features, images, path, fars=[0.5, 0.02, 1e-4])
    for far in (0.5, 0.02, 1e-4):
        np.testing.assert_allclose(parts.vr[far].thresholds, whole.vr[far].thresholds, atol=1e-14)
    for far in whole.dir:
        np.testing.assert_array_equal(parts.dir[far].trials, whole.dir[far].trials)


@pytest.mark.parametrize("metric", ["euclid", "normalized-euclid"])
def test_other_metrics_by_brute_force(metric):
    draw = np.random.default_rng(0)
    features, labels = draw.normal(size=(80, 5)).astype(np.float32) + 3, draw.integers(0, 12, 80)
    genuine, impostor, total = verification_scores(features, labels, [1.0], metric)
    rows = features.astype(np.float64)
    if metric == "normalized-euclid":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    first, second = np.triu_indices(80, 1)
    scores = -((rows[first] - rows[second]) ** 2).sum(axis=1)
    same = labels[first] == labels[second]
    assert total == (~same).sum()
    np.testing.assert_allclose(np.sort(genuine), np.sort(scores[same]), atol=1e-12)
    np.testing.assert_allclose(impostor, np.sort(scores[~same])[::-1], atol=1e-12)


@pytest.mark.parametrize("k", [0, 1, 10, 100, 1000, 9000])
def test_top_scores_are_the_sorted_ones(monkeypatch, k):
    from normface.evaluate import top_scores

    monkeypatch.setattr(top_scores, "PIECE", 300)
    draw = np.random.default_rng(k)
    blocks = [draw.integers(0, 4000, size=(draw.integers(0, 9), 100)).astype(np.float32) for _ in range(12)]
    top = TopScores(k)
    for block in blocks:
        top.add(block)
        top.add(block[:, ::3])
    everything = np.concatenate([part.reshape(-1) for block in blocks for part in (block, block[:, ::3])])
    assert top.count == everything.size
    np.testing.assert_array_equal(top.largest(), np.sort(everything)[::-1][:k])


@pytest.mark.slow
@pytest.mark.skipif(not CONFIG.is_file(), reason="LFW's BLUFR protocol (../shared/lfw) is not here")
def test_the_benchmarks_own_file():
    config = read_config(CONFIG)
    assert (len(config.images), len(config.trials), config.images[0]) == (13233, 10, "Aaron_Eckhart_0001.jpg")
    people = [image.rsplit("_", 1)[0] for image in config.images]
    for trial in config.trials:
        assert len(trial.gallery) == 1000
        assert set(trial.gallery) | set(trial.probes) == set(trial.test)
        assert not {people[row] for row in trial.train} & {people[row] for row in trial.test}
    test = config.trials[3].test
    counts = np.unique([people[row] for row in test], return_counts=True)[1]
    genuine = sum(int(n) * (int(n) - 1) // 2 for n in counts)
    features = np.random.default_rng(0).normal(size=(len(test), 3)).astype(np.float32)
    found, impostor, total = verification_scores(features, config.labels[test], [1e-3])
    assert (len(found), total) == (genuine, len(test) * (len(test) - 1) // 2 - genuine)
    assert len(impostor) == int(total * 1e-3 + 0.5)
    # Random directions in space: the cosine is uniform on [-1, 1], so that a share q of the pairs scores above 1 - 2q.
    # Half a per cent of that is many standard deviations of 47,000 dependent pairs' quantile.
    assert 1 - impostor[-1] == pytest.approx(2e-3, rel=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "has no labels; it has"),
        ({"labels": np.ones((3, 1))}, "labels has 3 numbers for"),
        ({"labels": np.full((5, 1), 0.5)}, "labels is float64; expected whole numbers"),
        ({"testIndex": np.arange(5)}, "testIndex is an array of int64; expected a cell a trial"),
        ({"testIndex": [[1, 2, 99]]}, r"testIndex\{1\} runs from 1 to 99; expected 1 to 5"),
        ({"testIndex": [[0, 1, 2]]}, r"testIndex\{1\} runs from 0 to 2"),
        ({"testIndex": [[1, 2, 2]]}, r"testIndex\{1\} names an image twice"),
        ({"testIndex": [[1, 2], [1, 2]]}, "the trials differ in number"),
        ({"testIndex": [[1, 2]]}, "trial 1: its test set has 0 genuine and 1 impostor pairs"),
        ({"probIndex": [[3, 4]]}, "trial 1: its 2 probes have 2 with a gallery image"),
    ],
)
def test_files_that_make_no_protocol(tmp_path, change, message):
    images = ["A_1.jpg", "B_1.jpg", "A_2.jpg", "B_2.jpg", "C_1.jpg"]
    path = write_config(tmp_path / "b.mat", images, [1, 2, 1, 2, 3], [([0], range(5), [0, 1], [2, 3, 4])])
    content = {name: value for name, value in scipy_io.loadmat(path).items() if not name.startswith("__")}
    for name, value in change.items():
        if isinstance(value, list):
            cells = np.empty((len(value), 1), object)
            for i, cell in enumerate(value):
                cells[i, 0] = np.array(cell).reshape(-1, 1)
            value = cells
        content[name] = value
    scipy_io.savemat(path, {name: value for name, value in content.items() if value is not None})
    with pytest.raises(ProtocolError, match=message):
        evaluate_blufr(np.eye(5), images, path)


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file" + bytes(200), b"\x93NUMPY" + bytes(300), b"x" * 5000])
def test_files_that_are_no_matlab(tmp_path, content):
    (tmp_path / "b.mat").write_bytes(content)
    with pytest.raises(ProtocolError, match=r"b.mat: is no MATLAB file"):
        read_config(tmp_path / "b.mat")


def test_matlab_7_3_gets_advice(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "b.mat", "w", userblock_size=512) as file:
        file["labels"] = [1, 2]
    with open(tmp_path / "b.mat", "r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    with pytest.raises(ProtocolError, match="save -v7"):
        read_config(tmp_path / "b.mat")


def test_images_of_any_names_and_no_training_set(tmp_path):
    features, images, labels, trials, path = random_set(tmp_path / "b.mat")
    expected = evaluate_blufr(features, images, path)
    renamed = [f"face{chr(97 + row % 26)}{row}.jpg" for row in range(len(images))]  # no person, no number after a _
    write_config(path, renamed, labels, trials)
    content = {name: value for name, value in scipy_io.loadmat(path).items() if name != "trainIndex" and name[0] != "_"}
    content["imageList"] = np.array(renamed)  # MATLAB's other way: rows of characters, filled up with blanks
    scipy_io.savemat(path, content)
    found = evaluate_blufr(features, [f"some/folder/{name[:-4]}.png" for name in renamed], path)
    for far in expected.vr:
        np.testing.assert_array_equal(found.vr[far].trials, expected.vr[far].trials)
    with pytest.raises(ProtocolError, match="trial 1: it has no training set to fit the PCA on"):
        evaluate_blufr(features, renamed, path, pca=3)


def test_missing_features_and_broken_ones(tmp_path):
    features, images, _, _, path = random_set(tmp_path / "b.mat")
    with pytest.raises(ProtocolError, match=r"b.mat: no features of P\d+_\d+"):
        evaluate_blufr(features[1:], images[1:], path)
    features[:] = np.nan
    with pytest.raises(ProtocolError, match="trial 1: some features of its test set are no finite numbers"):
        evaluate_blufr(features, images, path)
    with pytest.raises(ProtocolError, match="rank 0"):
        evaluate_blufr(features, images, path, rank=0)
    with pytest.raises(ProtocolError, match="no such file"):
        read_config(tmp_path / "none.mat")
