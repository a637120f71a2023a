"""Galleries, thresholds and verdicts, with features made by hand."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest
from normface.errors import DataError, MissingDependencyError, NormfaceError, NormfaceWarning
from normface.features import Extractor, Features
from normface.recognise import FaceReader, Gallery, PhotoFace, Threshold, gallery, threshold_for
from normface.recognise.verdict import compare, draw
from support.linear_faces import linear_faces

ENGINES = [False, pytest.param(True, id="faiss")]


def features(rows, labels=None, identities=None, settings=None) -> Features:
    rows = np.asarray(rows, np.float32)
    return Features(rows, [f"n{i}" for i in range(len(rows))], labels, identities, settings or {})


def searching(rows, engine: bool) -> Gallery:
    if engine:
        pytest.importorskip("faiss", reason="faiss is not installed")
    made = Gallery(features(rows), use_faiss=engine)
    assert made.engine == ("faiss" if engine else "numpy")
    return made


@pytest.mark.parametrize("engine", ENGINES)
class TestGallery:
    def test_by_hand(self, engine):
        """The angle counts and not the length: (3, 0), (0.5, 0.5), (0, 9), (-1, 0)."""
        (found,) = searching([[3, 0], [0.5, 0.5], [0, 9], [-1, 0]], engine).nearest(np.array([[0.1, 0.0]]), 4)
        assert [match.name for match in found] == ["n0", "n1", "n2", "n3"]
        assert [match.score for match in found] == pytest.approx([1, math.sqrt(0.5), 0, -1], abs=1e-6)

    def test_many_against_sorting(self, engine, monkeypatch):
        """All blocks, of which the last is not full, against a full sort in float64."""
        monkeypatch.setattr(gallery, "BLOCK_SCORES", 7 * 100)
        draw_from = np.random.default_rng(0)
        rows, probes = draw_from.standard_normal((503, 8)), draw_from.standard_normal((7, 8))
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        cosines = probes / np.linalg.norm(probes, axis=1, keepdims=True) @ unit.T
        made = searching(rows, engine)
        for count in (1, 5, 503, 9999):
            found = made.nearest(probes, count)
            for matches, scores in zip(found, cosines, strict=True):
                order = np.argsort(-scores)[:count]
                assert [match.name for match in matches] == [f"n{i}" for i in order]
                np.testing.assert_allclose([match.score for match in matches], scores[order], atol=1e-6)

    def test_of_equal_scores_the_first_stored_comes_first(self, engine):
        rows = np.tile([[1.0, 0.0], [0.0, 1.0]], (50, 1))
        (found,) = searching(rows, engine).nearest(np.array([0.0, 2.0]), 100)
        assert [match.name for match in found] == [f"n{i}" for i in [*range(1, 100, 2), *range(0, 100, 2)]]

    def test_zero_features_score_zero(self, engine):
        made = searching([[0, 0], [1, 1], [-1, 0]], engine)
        assert [match.name for match in made.nearest(np.array([1.0, 0.0]), 3)[0]] == ["n1", "n0", "n2"]
        assert [match.score for match in made.nearest(np.zeros(2), 3)[0]] == [0, 0, 0]


def test_equal_scores_at_the_edge_between_blocks(monkeypatch):
    monkeypatch.setattr(gallery, "BLOCK_SCORES", 3)
    (found,) = Gallery(features([[1, 0]] * 10), use_faiss=False).nearest(np.array([1.0, 0.0]), 4)
    assert [match.name for match in found] == ["n0", "n1", "n2", "n3"]


def test_the_identity_of_a_match():
    made = Gallery(features([[1, 0], [0, 1]], np.array([1, 0]), ["Al", "Bo"]), use_faiss=False)
    assert [match.identity for match in made.nearest(np.array([1.0, 0.1]), 2)[0]] == ["Bo", "Al"]
    assert Gallery(features([[1, 0]]), use_faiss=False).nearest(np.array([1.0, 0.0]))[0][0].identity is None


def test_gallery_refusals(monkeypatch):
    made = Gallery(features([[1, 0]]), use_faiss=False)
    with pytest.raises(DataError, match=r"the probe's feature has 3 numbers and the gallery's have 2: .*mirror"):
        made.nearest(np.zeros(3))
    with pytest.raises(NormfaceError, match=r"count 0: expected 1 or more"):
        made.nearest(np.zeros(2), 0)
    with pytest.raises(DataError, match="holds no features"):
        Gallery(features(np.zeros((0, 2))))
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r"faiss is not installed: pip install faiss-cpu"):
        Gallery(features([[1, 0]]), use_faiss=True)
    assert Gallery(features([[1, 0]])).engine == "numpy"


def test_a_gallery_made_otherwise_is_told():
    made = Gallery(features([[1, 0]], settings={"mirror": "none", "scale": 1, "model": "a"}), use_faiss=False)
    made.expects({"mirror": "none", "scale": 1, "model": "b", "size": [1, 1]}, "g.npz")
    with pytest.warns(NormfaceWarning, match=r"g\.npz: .*mirror none there, sum here"):
        made.expects({"mirror": "sum", "scale": 1}, "g.npz")


class TestThreshold:
    def test_the_users_own(self):
        assert threshold_for(1e-3, cosine=0.5) == Threshold(0.5, None, "given")

    def test_of_a_calibration_file(self, tmp_path):
        (tmp_path / "r.json").write_text(json.dumps({"accuracy": 1, "thresholds": {"0.01": 0.25, "0.001": 0.5}}))
        found = threshold_for(1e-3, calibration=tmp_path / "r.json")
        assert (found.cosine, found.far) == (0.5, 1e-3)
        with pytest.raises(NormfaceError, match=r"FAR 0\.5: .*r\.json has thresholds for 0\.001, 0\.01"):
            threshold_for(0.5, calibration=tmp_path / "r.json")

    def test_what_normface_evaluate_writes_is_read(self, tmp_path):
        from normface.evaluate import evaluate_lfw
        from normface.evaluate.report import fold_figures

        lines = ["2 3"]
        for fold in range(2):
            people = range(3 * fold, 3 * fold + 3)
            lines += [f"P{p} 1 2" for p in people] + [f"P{p} 1 P{(p + 1) % 6} 2" for p in people]
        (tmp_path / "pairs.txt").write_text("\n".join(lines))
        names = [f"P{p}/P{p}_{i:04d}.jpg" for p in range(6) for i in (1, 2)]
        rows = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
        result = evaluate_lfw(rows, names, tmp_path / "pairs.txt", fars=(0.5,))
        (tmp_path / "results.json").write_text(json.dumps(fold_figures(result, comparable=True)))
        found = threshold_for(0.5, calibration=tmp_path / "results.json")
        impostors = result.scores[~result.same]
        assert (impostors >= found.cosine).sum() == 3  # of six

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", r"is no calibration file"),
            ("[]", r"is no calibration file"),
            ('{"thresholds": [1]}', r"is no calibration file"),
            ('{"thresholds": {"a": 1}}', r"is no calibration file"),
            ('{"thresholds": {}}', r"cosines between -1 and 1, one or more"),
            ('{"thresholds": {"0.1": 3}}', r"cosines between -1 and 1"),
            ('{"thresholds": {"0.1": NaN}}', r"cosines between -1 and 1"),
            ('{"fold_thresholds": [1]}', r"scores are no plain cosines; evaluate with --protocol plain"),
        ],
    )
    def test_bad_calibration_files(self, tmp_path, content, message):
        (tmp_path / "c.json").write_text(content)
        with pytest.raises(DataError, match=r"c\.json: .*" + message):
            threshold_for(0.1, calibration=tmp_path / "c.json")

    def test_refusals(self, tmp_path):
        with pytest.raises(
            NormfaceError, match=r"no threshold is known .*--threshold.*normface evaluate.*--calibration"
        ):
            threshold_for(1e-3)
        with pytest.raises(NormfaceError, match=r"threshold 1\.5: a cosine lies between -1 and 1"):
            threshold_for(1e-3, cosine=1.5)
        with pytest.raises(DataError, match=r"missing\.json: No such file"):
            threshold_for(1e-3, calibration=tmp_path / "missing.json")


def face(*feature: float) -> PhotoFace:
    return PhotoFace("a.jpg", np.full((112, 96, 3), 90, np.uint8), np.array(feature, np.float32), None, 0)


class TestVerdict:
    def test_by_hand(self):
        at_60_degrees = compare(face(2, 0), face(0.5, math.sqrt(0.75)), Threshold(0.5 - 1e-6, 1e-3, "here"))
        assert at_60_degrees.cosine == pytest.approx(0.5, abs=1e-6)
        assert at_60_degrees.same
        assert at_60_degrees.words == "same person: cosine 0.500 >= 0.500 (false accepts 0.001, here)"
        other = compare(face(2, 0), face(-3, 0), Threshold(0.2, None, "given"))
        assert (other.cosine, other.same) == (-1, False)
        assert other.words == "different people: cosine -1.000 < 0.200 (threshold given, not measured)"
        assert not compare(face(0, 0), face(1, 0), Threshold(0.1, None, "given")).same

    def test_without_a_threshold_there_is_no_verdict(self):
        verdict = compare(face(1, 0), face(1, 0), None, "why not")
        assert (verdict.same, verdict.words, verdict.unknown) == (None, "no verdict: cosine 1.000", "why not")
        assert (verdict.to_dict()["same"], verdict.to_dict()["no_threshold"]) == (None, "why not")

    def test_how_sure_the_rate_is(self):
        words = Threshold(0.5, 1e-3, "measured on a set", None, (2e-4, 0.00241)).words
        assert words == "false accepts 0.001, 95 % sure between 0.0002 and 0.0024, measured on a set"
        words = Threshold(0.5, 1e-3, "measured on two people", None, (2.2e-308, 0.975)).words
        assert words == "false accepts 0.001, 95 % sure between 0 and 0.97, measured on two people"

    def test_the_threshold_itself_is_accepted(self):
        assert compare(face(1, 0), face(5, 0), Threshold(1.0, None, "given")).same

    @pytest.mark.parametrize(("threshold", "colour"), [(0.5, (80, 160, 0)), (1.0, (40, 40, 200))])
    def test_drawing(self, tmp_path, threshold, colour):
        verdict = compare(face(1, 0.5), face(1, 0), Threshold(threshold, None, "given"))
        draw(tmp_path / "v.png", verdict)
        drawn = cv2.imread(str(tmp_path / "v.png"))
        assert drawn.shape[0] == 224 + 2 * 6 + 44
        assert (drawn[3, :] == colour).all()
        assert (drawn[100, 50] == 90).all()

    def test_drawing_without_a_verdict(self, tmp_path):
        draw(tmp_path / "v.png", compare(face(1, 0.5), face(1, 0), None, "why not"))
        assert (cv2.imread(str(tmp_path / "v.png"))[3, :] == 128).all()

    @pytest.mark.parametrize(("name", "message"), [("v.gif", r"\.png or \.jpg"), ("no/v.png", r"folder .*no does not")])
    def test_drawings_that_cannot_be_written(self, tmp_path, name, message):
        with pytest.raises(NormfaceError, match=message):
            draw(tmp_path / name, compare(face(1, 0), face(1, 0), Threshold(0.5, None, "given")))


class Found:
    """A detector that finds what it is told."""

    def __init__(self, *boxes):
        self.boxes = np.array(boxes, np.float32).reshape(-1, 5)
        middle = (self.boxes[:, None, :2] + self.boxes[:, None, 2:4]) / 2
        offsets = np.array([[-8, -9], [8, -9], [0, 0], [-7, 10], [7, 10]], np.float32)
        self.landmarks = middle + offsets

    def detect(self, image):
        return self


class TestFaceReader:
    @pytest.fixture
    def grey(self, tmp_path):
        return linear_faces(tmp_path, channels=1)

    @pytest.fixture
    def extractor(self, tmp_path):
        net = linear_faces(tmp_path)
        return Extractor(net.prototxt, net.caffemodel, mean=0, fit="resize")

    def photo(self, folder, shape=(80, 90, 3)):
        cv2.imwrite(str(folder / "photo.png"), np.random.default_rng(0).integers(0, 256, shape, np.uint8))
        return folder / "photo.png"

    def test_an_aligned_face(self, extractor, tmp_path):
        path = self.photo(tmp_path)
        read = FaceReader(extractor, None).read(path)
        np.testing.assert_array_equal(read.feature, extractor.features_of([cv2.imread(str(path))])[0])
        assert (read.box, read.others) == (None, 0)

    def test_a_found_face_is_aligned(self, extractor, tmp_path):
        from normface.alignment import align_face

        path, found = self.photo(tmp_path), Found([20, 20, 60, 60, 1])
        read = FaceReader(extractor, found).read(path)
        np.testing.assert_array_equal(read.aligned, align_face(cv2.imread(str(path)), found.landmarks[0]))
        assert (read.box.tolist(), read.others) == ([20, 20, 60, 60, 1], 0)

    @pytest.mark.parametrize(("which", "chosen"), [("central", 1), ("largest", 0)])
    def test_one_of_several(self, extractor, tmp_path, which, chosen):
        found = Found([0, 0, 50, 50, 0.9], [35, 30, 55, 50, 0.8])
        with pytest.warns(NormfaceWarning, match=rf"photo\.png: has 2 faces; the (most )?{which} one is taken"):
            read = FaceReader(extractor, found, which).read(self.photo(tmp_path))
        assert (read.box.tolist(), read.others) == (found.boxes[chosen].tolist(), 1)

    def test_none(self, extractor, tmp_path):
        with pytest.raises(DataError, match=r"photo\.png: no face was found; smaller faces need a smaller --min-size"):
            FaceReader(extractor, Found()).read(self.photo(tmp_path))

    def test_none_in_what_has_the_size_of_an_aligned_face(self, extractor, tmp_path):
        read = FaceReader(extractor, Found()).read(self.photo(tmp_path, (112, 96, 3)))
        assert (read.aligned.shape, read.box) == ((112, 96, 3), None)

    def test_a_grey_net(self, grey, tmp_path):
        extractor = Extractor(grey.prototxt, grey.caffemodel, mean=0)
        path = self.photo(tmp_path, (4, 3, 3))
        blue, green, red = np.moveaxis(cv2.imread(str(path)).astype(float), 2, 0)
        by_hand = grey.feature((0.299 * red + 0.587 * green + 0.114 * blue)[None])
        # Grey is rounded to whole numbers: 12 errors up to 0.5 times weights around 0.3.
        np.testing.assert_allclose(FaceReader(extractor, None).read(path).feature, by_hand, atol=2)

    def test_refusals(self, extractor, tmp_path):
        (tmp_path / "text.png").write_text("no image")
        for path, message in (
            (tmp_path / "missing.png", r"missing\.png: No such file"),
            (tmp_path / "text.png", r"text\.png: is no JPEG"),
            (tmp_path, r": is a folder; expected a file"),
        ):
            with pytest.raises(DataError, match=message):
                FaceReader(extractor, None).read(path)
        exact = linear_faces(tmp_path)
        with pytest.raises(DataError, match=r"photo\.png: is 80x90 \(HxW\), and the net takes 4x3"):
            FaceReader(Extractor(exact.prototxt, exact.caffemodel, mean=0), None).read(self.photo(tmp_path))
        with pytest.raises(NormfaceError, match=r'faces "biggest" is unknown'):
            FaceReader(extractor, None, "biggest")
