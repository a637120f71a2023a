"""YouTube Faces: the mean cosine and the histogram SVM against plain loops and scikit-learn's own kernel."""

from __future__ import annotations

import numpy as np
import pytest
from normface.errors import ProtocolError
from normface.evaluate.ytf import cosine_histogram, evaluate_ytf, intersection_kernel, read_splits, video_of


def videos(people=30, each=3, dims=8, seed=0):
    draw = np.random.default_rng(seed)
    features, names = [], []
    for person in range(people):
        centre = draw.normal(size=dims)
        for video in range(each):
            shifted = centre + 0.8 * draw.normal(size=dims)
            for frame in range(draw.integers(2, 6)):
                features.append(shifted + 0.5 * draw.normal(size=dims) + 0.5)
                names.append(f"aligned/P_{person}/{video}/{video}.{frame}.jpg")
    return np.array(features), names


def splits_text(header=False, people=30, folds=5, each=16):
    draw = np.random.default_rng(7)
    lines = ["split number, pair number, first name, second name, is same?"] * header
    for fold in range(folds):
        members = np.arange(fold * people // folds, (fold + 1) * people // folds)
        for number in range(each):
            same = number < each // 2
            p, q = draw.choice(members, 2, replace=False)
            i, j = draw.choice(3, 2, replace=False)
            lines.append(f"{fold + 1}, {number + 1}, P_{p}/{i}, P_{p if same else q}/{j}, {int(same)}")
    return "\n".join(lines) + "\n"


@pytest.fixture(params=[False, True], ids=["no header", "header"])
def splits_path(request, tmp_path):
    path = tmp_path / "splits.txt"
    path.write_text(splits_text(request.param))
    return path


def frame_cosines(features, names, pair):
    a, b = (np.array([f for f, n in zip(features, names, strict=True) if n.startswith(f"aligned/{v}/")]) for v in pair)
    return np.array([x @ y / np.sqrt((x @ x) * (y @ y)) for x in a for y in b])


def test_mean_is_over_every_pair_of_frames(splits_path):
    features, names = videos()
    found = evaluate_ytf(features, names, splits_path)
    lines = [line.split(", ") for line in splits_path.read_text().splitlines()[-80:]]
    expected = [frame_cosines(features, names, (line[2], line[3])).mean() for line in lines]
    np.testing.assert_allclose(found.scores, expected, rtol=0, atol=1e-12)
    assert found.same.tolist() == [line[4] == "1" for line in lines]
    assert 0.6 < found.accuracy < 1
    assert len(found.accuracies) == 5


def test_centre_is_of_the_other_folds_videos(splits_path):
    features, names = videos()
    found = evaluate_ytf(features, names, splits_path, centre=True)
    lines = [line.split(", ") for line in splits_path.read_text().splitlines()[-80:]]

    def video_mean(video):
        return np.mean([f for f, n in zip(features, names, strict=True) if n.startswith(f"aligned/{video}/")], axis=0)

    for fold in (1, 4):
        others = [line for line in lines if int(line[0]) != fold]
        mean = np.mean([video_mean(line[side]) for line in others for side in (2, 3)], axis=0)
        for index, line in enumerate(lines):
            if int(line[0]) == fold:
                expected = frame_cosines(features - mean, names, (line[2], line[3])).mean()
                assert found.scores[index] == pytest.approx(expected, abs=1e-12)


def test_histogram_svm_is_scikit_learns_with_the_kernel_as_a_function(splits_path):
    svm = pytest.importorskip("sklearn.svm")
    features, names = videos()
    found = evaluate_ytf(features, names, splits_path, "histogram")
    lines = [line.split(", ") for line in splits_path.read_text().splitlines()[-80:]]
    histograms = []
    for line in lines:
        cosines = frame_cosines(features, names, (line[2], line[3]))
        counts, _ = np.histogram(cosines, bins=100, range=(-1, 1))
        histograms.append(counts / counts.sum())
    histograms = np.array(histograms)
    same, fold = np.array([line[4] == "1" for line in lines]), np.array([int(line[0]) for line in lines])

    def intersection(a, b):
        return np.array([[np.minimum(x, y).sum() for y in b] for x in a])

    for number in range(1, 6):
        train = fold != number
        machine = svm.SVC(C=1.0, kernel=intersection).fit(histograms[train], same[train])
        decided = machine.decision_function(histograms[~train])
        np.testing.assert_allclose(found.scores[~train], decided, rtol=0, atol=1e-9)
        assert found.accuracies[number - 1] == np.mean(machine.predict(histograms[~train]) == same[~train])
    assert found.protocol == "histogram"
    assert found.accuracy > 0.6


def test_histogram_of_one_and_of_many_frames():
    draw = np.random.default_rng(0)
    left, right = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in draw.normal(size=(2, 1300, 4)))
    expected, _ = np.histogram((left @ right.T).reshape(-1), bins=100, range=(-1, 1))
    # A cosine on the edge of a bin may fall to either side by rounding.
    assert np.abs(cosine_histogram(left, right) * left.shape[0] * right.shape[0] - expected).max() <= 2
    same = cosine_histogram(left[:1], left[:1])
    assert same[99] == 1.0  # a cosine of 1, or just above it by rounding, is in the last bin


def test_kernel_of_empty_bins():
    histograms = np.array([[0.5, 0.5, 0, 0], [0.25, 0, 0.75, 0], [0, 0, 1.0, 0]])
    assert intersection_kernel(histograms).tolist() == [[1, 0.25, 0], [0.25, 1, 0.75], [0, 0.75, 1]]


def test_frames_names():
    assert video_of("aligned_images_DB/Aaron_Eckhart/0/aligned_detect_0.555.jpg") == "Aaron_Eckhart/0"
    assert video_of("Aaron_Eckhart\\0\\1.jpg") == "Aaron_Eckhart/0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no pairs"),
        ("1, 1, A/0, B/0\n", "txt:1: expected"),
        ("1, 1, A/0, B/0, 1\n1, 2, A/0, B/0, yes\n", "txt:2: expected"),
        ("1, 1, A/0, A/1, 1\n1, 2, A/0, B/0, 0\n", "no frames of A/0, A/1, B/0; the features have names such as"),
    ],
)
def test_splits_that_make_no_protocol(tmp_path, text, message):
    (tmp_path / "splits.txt").write_text(text)
    with pytest.raises(ProtocolError, match=message):
        evaluate_ytf(np.eye(2), ["x/y/1.jpg", "x/y/2.jpg"], tmp_path / "splits.txt")


def test_unknown_method(splits_path):
    with pytest.raises(ProtocolError, match='method "max" is unknown; known: mean, histogram'):
        evaluate_ytf(*videos(), splits_path, "max")
    with pytest.raises(ProtocolError, match="cost is to be above 0, got 0"):
        evaluate_ytf(*videos(), splits_path, "histogram", cost=0)
    assert len(read_splits(splits_path).same) == 80
