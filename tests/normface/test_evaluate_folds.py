"""LFW's ten folds: nothing of a fold reaches its own threshold, mean or PCA; the papers' variants in bare formulas."""

from __future__ import annotations

import numpy as np
import pytest
from normface.errors import NormfaceWarning, ProtocolError
from normface.evaluate import PROTOCOLS, evaluate_lfw, read_pairs, verify_in_folds
from normface.evaluate.folds import contiguous_folds
from normface.evaluate.pca import fit_pca
from normface.evaluate.protocols import protocol_named
from normface.evaluate.similarity import pair_scores


def faces(people: int = 40, each: int = 4, dims: int = 12, seed: int = 0, spread: float = 0.9):
    """Noisy features around a direction a person, far from the origin, and their LFW names."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(people, 1, dims))
    features = centres + spread * draw.normal(size=(people, each, dims)) + 0.7
    names = [f"Person_{p:02d}/Person_{p:02d}_{i:04d}.jpg" for p in range(people) for i in range(1, each + 1)]
    return features.reshape(people * each, dims).astype(np.float32), names


def pairs_text(people: int = 40, folds: int = 10, each: int = 12) -> str:
    draw = np.random.default_rng(5)
    lines = [f"{folds}\t{each}"]
    for fold in range(folds):
        members = range(fold * people // folds, (fold + 1) * people // folds)
        for _ in range(each):
            i, j = draw.choice(4, 2, replace=False) + 1
            lines.append(f"Person_{draw.choice(members):02d}\t{i}\t{j}")
        for _ in range(each):
            p, q = draw.choice(members, 2, replace=False)
            lines.append(f"Person_{p:02d}\t{draw.integers(1, 5)}\tPerson_{q:02d}\t{draw.integers(1, 5)}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def pairs_path(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text(pairs_text())
    return path


def sides(features, names, pairs_path):
    """Both sides' features, same and fold, read by a reader of this test's own."""
    row = {name.split("/")[1].removesuffix(".jpg"): i for i, name in enumerate(names)}
    lines = pairs_path.read_text().splitlines()[1:]
    left, right, same = [], [], []
    for line in lines:
        fields = line.split("\t")
        person, i, other, j = fields if len(fields) == 4 else (fields[0], fields[1], fields[0], fields[2])
        left.append(row[f"{person}_{int(i):04d}"])
        right.append(row[f"{other}_{int(j):04d}"])
        same.append(len(fields) == 3)
    features = features.astype(np.float64)
    return features[left], features[right], np.array(same), np.repeat(np.arange(10), 24)


def unit(rows):
    return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))


def test_plain_is_the_best_threshold_of_nine_folds(pairs_path):
    features, names = faces()
    left, right, same, fold = sides(features, names, pairs_path)
    scores = (unit(left) * unit(right)).sum(axis=1)
    expected = []
    for k in range(10):
        train, test = fold != k, fold == k
        sorted_scores = np.sort(scores[train])
        tried = (sorted_scores[1:] + sorted_scores[:-1]) / 2
        right_counts = np.array([((scores[train] >= t) == same[train]).sum() for t in tried])
        best = tried[np.flatnonzero(right_counts == right_counts.max())]
        expected.append({np.mean((scores[test] >= t) == same[test]) for t in best})
    found = evaluate_lfw(features, names, pairs_path)
    assert all(accuracy in among for accuracy, among in zip(found.accuracies, expected, strict=True))
    assert found.accuracy == pytest.approx(np.mean(found.accuracies), abs=1e-15)
    assert found.std == pytest.approx(np.std(found.accuracies, ddof=1), abs=1e-15)
    assert found.standard_error == pytest.approx(found.std / np.sqrt(10), abs=1e-15)
    np.testing.assert_allclose(found.scores, scores, rtol=0, atol=1e-12)
    person, number, _ = pairs_path.read_text().splitlines()[1].split()
    assert found.names[0][0] == f"{person}/{person}_{int(number):04d}.jpg"


def test_normface_is_pca_of_nine_folds_then_cosine(pairs_path):
    decomposition = pytest.importorskip("sklearn.decomposition")
    features, names = faces()
    left, right, same, fold = sides(features, names, pairs_path)
    found = evaluate_lfw(features, names, pairs_path, "normface", pca=0.9)
    for k in range(10):
        train, test = fold != k, fold == k
        pca = decomposition.PCA(n_components=0.9, svd_solver="full").fit(np.concatenate([left[train], right[train]]))
        assert pca.n_components_ < 12  # or this would not tell PCA from a rotation
        scores = (unit(pca.transform(left)) * unit(pca.transform(right))).sum(axis=1)
        np.testing.assert_allclose(found.scores[test], scores[test], rtol=0, atol=1e-9)
        assert found.accuracies[k] == np.mean((scores[test] >= found.thresholds[k]) == same[test])
    assert found.protocol == "normface with pca 0.9"
    assert PROTOCOLS["normface"].pca == 0.995


def test_sphereface_is_the_published_script(pairs_path):
    features, names = faces(spread=0.3)
    left, right, same, fold = sides(features, names, pairs_path)
    grid = np.arange(-10000, 10001) / 10000

    def right_of(scores, same, threshold):
        return (np.sum(scores[same] > threshold) + np.sum(scores[~same] < threshold)) / len(scores)

    expected = []
    for k in range(10):
        train, test = fold != k, fold == k
        mean = np.concatenate([left[train], right[train]]).mean(axis=0)
        scores = (unit(left - mean) * unit(right - mean)).sum(axis=1)
        above, below = scores[train & same, None] > grid, scores[train & ~same, None] < grid
        accuracies = (above.sum(axis=0) + below.sum(axis=0)) / train.sum()
        expected.append(right_of(scores[test], same[test], grid[accuracies == accuracies.max()].mean()))
    found = evaluate_lfw(features, names, pairs_path, "sphereface")
    np.testing.assert_allclose(found.accuracies, expected, rtol=0, atol=1e-15)
    assert len(set(expected)) > 1


@pytest.mark.slow
def test_insightface_is_the_published_script(pairs_path):
    features, names = faces(spread=0.6)
    left, right, same, fold = sides(features, names, pairs_path)
    distances = ((unit(left) - unit(right)) ** 2).sum(axis=1)
    coarse, fine = np.arange(0, 4, 0.01), np.arange(0, 4, 0.001)
    accuracies, tars, fars = [], [], []
    for k in range(10):
        train, test = fold != k, fold == k
        trained = [np.mean((distances[train] < t) == same[train]) for t in coarse]
        accuracies.append(np.mean((distances[test] < coarse[np.argmax(trained)]) == same[test]))
        far = np.array([np.mean(distances[train & ~same] < t) for t in fine])
        after = int(np.argmax(far > 1e-3))  # interpolated between the last point at or below 1e-3 and the next above
        slope = (fine[after] - fine[after - 1]) / (far[after] - far[after - 1])
        threshold = fine[after - 1] + slope * (1e-3 - far[after - 1])
        tars.append(np.mean(distances[test & same] < threshold))
        fars.append(np.mean(distances[test & ~same] < threshold))
    found = evaluate_lfw(features, names, pairs_path, "insightface")
    np.testing.assert_allclose(found.accuracies, accuracies, rtol=0, atol=1e-15)
    assert found.std == pytest.approx(np.std(accuracies), abs=1e-15)  # NumPy's: population
    assert found.std_kind == "population"
    assert found.tar_in_folds.tar == pytest.approx(np.mean(tars), abs=1e-15)
    assert found.tar_in_folds.std == pytest.approx(np.std(tars), abs=1e-15)
    assert found.tar_in_folds.far == pytest.approx(np.mean(fars), abs=1e-15)
    assert 0 < np.mean(tars) < 1


def test_a_threshold_that_looked_at_its_own_fold_would_do_better():
    # In fold 1 impostors score 1 and genuine pairs 2; in all others 3 and 4. Fold 1's own best threshold, 1.5, gets
    # everything right there; the others' best, 3.5, rejects every genuine pair of it.
    score = np.array([1.0, 2.0] * 5 + [3.0, 4.0] * 15)
    same = np.tile([False, True], 20)
    fold = np.repeat([1, 2, 3, 4], 10)
    left = np.zeros((40, 1))
    protocol = protocol_named("plain").with_options(metric="euclid")
    found = verify_in_folds(left, np.sqrt(5 - score)[:, None], same, fold, protocol)  # -|a - b|^2 = score - 5
    assert found.accuracies.tolist() == [0.5, 1.0, 1.0, 1.0]
    np.testing.assert_allclose(found.thresholds, [-1.5, -1.5, -1.5, -1.5], atol=1e-12)


@pytest.mark.parametrize("protocol", ["sphereface", "normface"])
def test_mean_and_components_come_from_the_other_folds(protocol):
    """Whatever the test fold's features are, the projection of its pairs does not change: its scores are those of a
    projection fitted elsewhere. Another fold's features do change it."""
    draw = np.random.default_rng(2)
    left, right = draw.normal(size=(2, 40, 6)) + 1
    same, fold = np.tile([True, False], 20), np.repeat(np.arange(4), 10)
    chosen = protocol_named(protocol).with_options(pca=3 if protocol == "normface" else None)
    before = verify_in_folds(left, right, same, fold, chosen)
    kept = np.array([True] + [False] * 9)  # the first pair of fold 0 stays, the others of fold 0 move far away
    moved_left = left.copy()
    moved_left[:10][~kept] += 50
    after = verify_in_folds(moved_left, right, same, fold, chosen)
    assert after.scores[0] == before.scores[0]
    assert after.thresholds[0] == before.thresholds[0]
    assert np.abs(after.scores[10:] - before.scores[10:]).max() > 0.01  # fold 0 trains the others


def test_pooled_figures_are_of_the_held_out_scores(pairs_path):
    metrics = pytest.importorskip("sklearn.metrics")
    features, names = faces()
    found = evaluate_lfw(features, names, pairs_path, "normface")
    assert found.pooled.auc == pytest.approx(metrics.roc_auc_score(found.same, found.scores), abs=1e-12)
    assert list(found.pooled.tar) == [0.1, 0.01, 0.001]


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.995, 3, 8])
@pytest.mark.parametrize("shape", [(60, 8), (9, 40)])
def test_pca_spans_what_scikit_learns_does(shape, keep):
    decomposition = pytest.importorskip("sklearn.decomposition")
    rows = np.random.default_rng(1).normal(size=shape) * np.linspace(0.3, 3, shape[1]) + 5
    reference = decomposition.PCA(n_components=keep, svd_solver="full").fit(rows)
    found = fit_pca(rows, keep)
    assert found.components.shape == reference.components_.T.shape
    # Components are known up to sign; the projector is not.
    np.testing.assert_allclose(
        found.components @ found.components.T, reference.components_.T @ reference.components_, atol=1e-9
    )
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), atol=1e-12)


def test_pca_keeps_all_of_the_variance_there_is():
    rows = np.random.default_rng(1).normal(size=(50, 3)) @ np.random.default_rng(2).normal(size=(3, 7))
    assert fit_pca(rows, 1.0).components.shape == (7, 3)


@pytest.mark.parametrize(
    ("rows", "keep", "message"),
    [
        (np.ones((5, 3)), 0.9, "all the same"),
        (np.eye(5), 5, "5 components of 5 features of 5 numbers; at most 4"),
        (np.eye(5), 0, "got 0"),
        (np.eye(5), 1.5, "got 1.5"),
        (np.eye(5), -0.1, "got -0.1"),
        (np.eye(5), True, "got True"),
    ],
)
def test_pca_that_cannot_be(rows, keep, message):
    with pytest.raises(ProtocolError, match=message):
        fit_pca(rows, keep)


@pytest.mark.parametrize(
    "form",
    [
        "{person}/{person}_{i:04d}.jpg",
        "{person}_{i:04d}.png",
        "lfw/{person}/{person}_{i:04d}",
        "{person}\\{person}_{i:04d}.JPEG",
        "{person}/{i}.bmp",
        "{person}/{i:06d}.jpg",
        "{person}/face_{i}.webp",
    ],
)
def test_names_in_other_forms(pairs_path, form):
    features, names = faces()
    expected = evaluate_lfw(features, names, pairs_path)
    persons = [name.split("/")[0] for name in names]
    others = [form.format(person=person, i=row % 4 + 1) for row, person in enumerate(persons)]
    shuffled = np.random.default_rng(0).permutation(len(others))
    found = evaluate_lfw(features[shuffled], [others[row] for row in shuffled], pairs_path)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_missing_images_are_named(pairs_path):
    features, names = faces()
    wanted = pairs_path.read_text().splitlines()[1].split()
    lost = names.index(f"{wanted[0]}/{wanted[0]}_{int(wanted[1]):04d}.jpg")
    names = [*names[:lost], "notes.txt", *names[lost + 1 :]]
    missing = rf"pairs\.txt: no features of {wanted[0]}_000{wanted[1]}; the features have"
    with pytest.raises(ProtocolError, match=missing):
        evaluate_lfw(features, names, pairs_path)
    with pytest.raises(ProtocolError, match=r"and 1\d\d more"):
        evaluate_lfw(features[:1], ["a.jpg"], pairs_path)


def test_an_image_that_is_there_twice(pairs_path):
    features, names = faces()
    person, number, _ = pairs_path.read_text().splitlines()[1].split()
    twice = f"again/{person}_{int(number):04d}.png"
    with pytest.raises(
        ProtocolError,
        match=f'pairs.txt: {person}_{int(number):04d} is there twice, as "{person}/.*" and "{twice}"; keep one',
    ):
        evaluate_lfw(np.concatenate([features, features[:1]]), [*names, twice], pairs_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'txt:1: expected "folds pairs"'),
        ("1100\n", 'txt:1: expected "folds pairs"'),
        ("10 0\n", 'txt:1: expected "folds pairs"'),
        ("2 1\nA 1 2\nA 1 B\n", 'txt:3: expected "name i j"'),
        ("2 1\nA 1 2\nA x B 1\n", 'txt:3: expected "name i j"'),
        ("2 1\nA 1 2\nB 1 2\n", "txt:3: expected a pair of two people"),
        ("2 1\nA 1 B 2\n", "txt:2: expected a pair of one person"),
        ("2 1\nA 1 2\nA 1 B 2\n", "has 2 pairs; its first line says 2 x 2 x 1"),
        ("1 1\nA 1 2\nA 1 B 2\n", "there are 1 folds"),
    ],
)
def test_pairs_that_make_no_protocol(tmp_path, text, message):
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(ProtocolError, match=message):
        evaluate_lfw(np.eye(3), ["A_1", "A_2", "B_2"], path)


def test_pairs_that_are_no_text(tmp_path):
    (tmp_path / "pairs.txt").write_bytes(b"10 300\n\xff\xfe\n")
    with pytest.raises(ProtocolError, match=r"pairs.txt: is no text file: byte 7"):
        read_pairs(tmp_path / "pairs.txt")
    with pytest.raises(ProtocolError, match="No such file"):
        read_pairs(tmp_path / "none.txt")


def test_a_zero_feature_scores_zero_and_is_told():
    with pytest.warns(NormfaceWarning, match="1 of 2 features are zero"):
        assert pair_scores(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [6.0, 8.0]])).tolist() == [0, 1]


@pytest.mark.parametrize(("metric", "expected"), [("cosine", 0.6), ("euclid", -20.0), ("normalized-euclid", -0.8)])
def test_metrics(metric, expected):
    assert pair_scores(np.array([[5.0, 0.0]]), np.array([[3.0, 4.0]]), metric) == pytest.approx([expected], abs=1e-12)


def test_unknown_words_are_answered_with_the_known():
    with pytest.raises(ProtocolError, match=r'protocol "shpereface" is unknown \(did you mean "sphereface"\?\)'):
        protocol_named("shpereface")
    with pytest.raises(ProtocolError, match=r'metric "cosin" is unknown .*known: cosine, euclid'):
        pair_scores(np.eye(2), np.eye(2), "cosin")


def test_folds_in_a_row():
    assert contiguous_folds(23).tolist() == sorted([1, 2, 3] * 3 + [4, 5, 6, 7, 8, 9, 10] * 2)
    with pytest.raises(ProtocolError, match="9 pairs cannot be put into 10 folds"):
        contiguous_folds(9)
