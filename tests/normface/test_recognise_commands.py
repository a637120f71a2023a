"""normface compare and search from the command line, and on LFW's faces with MTCNN and MobileFaceNet."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import caffeport
import cv2
import numpy as np
import pytest
from support.command_line import refused, said
from support.linear_faces import HEIGHT, WIDTH, linear_faces

SHARED = Path(__file__).parents[3] / "shared"
LFW, MODELS = SHARED / "lfw", SHARED / "models"
needs_lfw = pytest.mark.skipif(
    not (LFW.is_dir() and MODELS.is_dir()), reason="LFW and the published models (../shared) are not here"
)
MOBILEFACENET = (
    MODELS / "mobilefacenet" / "mobilefacenet_deploy.prototxt",
    MODELS / "mobilefacenet" / "mobilefacenet.caffemodel",
)


@pytest.fixture
def net(tmp_path):
    return linear_faces(tmp_path)


@pytest.fixture
def photos(tmp_path):
    paths = [tmp_path / f"{name}.png" for name in ("a", "b", "c")]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    return paths


def feature(net, path) -> np.ndarray:
    """mean 128, mirror sum, of unit length."""
    x = cv2.imread(str(path)).transpose(2, 0, 1) - 128.0
    both = net.feature(x) + net.feature(x[..., ::-1])
    return both / np.linalg.norm(both)


def model(net) -> tuple:
    return ("--model", net.prototxt, "--weights", net.caffemodel, "--mean", "128", "--aligned")


class TestCompare:
    def test_words_json_and_drawing(self, net, photos, tmp_path, capsys):
        a, b, _ = photos
        cosine = float(feature(net, a) @ feature(net, b))
        below, above = (f"{cosine - 0.01:.4f}", f"{cosine + 0.01:.4f}")
        code, out, notes = said(capsys, "compare", a, b, *model(net), "--threshold", below)
        (verdict,) = out.splitlines()
        words = f"same person: cosine {cosine:.3f} >= {float(below):.3f} (threshold given, not measured)"
        assert (code, verdict) == (0, words)
        assert notes.startswith("normface: note: features by ") and notes.endswith(", cpu\n")
        code, out, _ = said(capsys, "compare", a, b, *model(net))
        verdict, why = out.splitlines()
        assert (code, verdict) == (0, f"no verdict: cosine {cosine:.3f}")
        assert why.startswith("no threshold is known for this model: give one (--threshold COSINE), or measure it: ")
        code, out, _ = said(
            capsys, "compare", a, b, *model(net), "--threshold", above, "--json", "--draw", tmp_path / "v.png"
        )
        content = json.loads(out)
        assert code == 0
        assert content["cosine"] == pytest.approx(cosine, abs=1e-5)
        assert (content["same"], content["threshold"], content["far"]) == (False, float(above), None)
        assert content["photos"] == [{"path": str(one), "box": None, "other_faces": 0} for one in (a, b)]
        assert cv2.imread(str(tmp_path / "v.png")).std() > 10

    def test_calibration(self, net, photos, tmp_path, capsys):
        a, b, _ = photos
        (tmp_path / "results.json").write_text('{"thresholds": {"0.001": -0.9, "0.1": -0.95}}')
        code, out, _ = said(
            capsys, "compare", a, b, *model(net), "--calibration", tmp_path / "results.json", "--far", "0.1"
        )
        assert code == 0
        assert out.startswith("same person: cosine ")
        source = f"as {tmp_path / 'results.json'} says"
        assert out.endswith(f">= -0.950 (false accepts 0.1, {source}, of whichever model)\n")

    def test_errors(self, net, photos, tmp_path, capsys):
        a, b, _ = photos
        (tmp_path / "text.jpg").write_text("no image")
        given = ("--threshold", "0.3")
        for arguments, message in (
            (
                (a, b, *given, "--aligned"),
                "say which model gives the features: --model F.onnx, or --model NET --weights",
            ),
            ((a, tmp_path / "text.jpg", *model(net), *given), "text.jpg: is no JPEG"),
            ((a, tmp_path / "no.jpg", *model(net), *given), "no.jpg: No such file or directory"),
            ((a, b, *model(net), "--threshold", "2"), "threshold 2.0: a cosine lies between -1 and 1"),
            ((a, b, *model(net), *given, "--draw", tmp_path / "v.gif"), "v.gif: an image is written as .png or .jpg"),
            ((a, b, *model(net)[:-1], *given, "--mtcnn", tmp_path / "none"), "none"),
        ):
            assert message in refused(capsys, "compare", *arguments)


class TestSearch:
    @pytest.fixture
    def gallery(self, net, photos, tmp_path, capsys):
        """Features of a and c, as normface extract makes them."""
        for name in "ac":
            (tmp_path / "known" / name).mkdir(parents=True)
            (tmp_path / "known" / name / "1.png").write_bytes((tmp_path / f"{name}.png").read_bytes())
        call = ("--data", tmp_path / "known", "--out", tmp_path / "g.npz", "--mean", "128", "--mirror", "sum")
        assert said(capsys, "extract", net.prototxt, net.caffemodel, *call)[0] == 0
        return tmp_path / "g.npz"

    @pytest.mark.parametrize("engine", ["--no-faiss", pytest.param("--faiss", id="faiss")])
    def test_the_nearest(self, net, photos, gallery, capsys, engine):
        if engine == "--faiss":
            pytest.importorskip("faiss", reason="faiss is not installed")
        code, out, errors = said(capsys, "search", *photos, "--gallery", gallery, *model(net), engine, "--json")
        assert (code, errors) == (0, "")
        known = {name: feature(net, photos[0].with_name(f"{name}.png")) for name in "ac"}
        for photo, told in zip(photos, json.loads(out), strict=True):
            scores = {name: float(feature(net, photo) @ one) for name, one in known.items()}
            order = sorted(scores, key=lambda name: -scores[name])
            assert told["photo"] == str(photo)
            assert [(one["name"], one["identity"]) for one in told["nearest"]] == [(f"{n}/1.png", n) for n in order]
            assert [one["score"] for one in told["nearest"]] == pytest.approx([scores[n] for n in order], abs=1e-5)

    def test_in_an_index(self, net, photos, gallery, tmp_path, capsys):
        """The answers of the exact search, and what was measured when it was built."""
        pytest.importorskip("faiss", reason="an index needs faiss")
        assert said(capsys, "index", gallery, "--out", tmp_path / "i")[0] == 0
        exact = said(capsys, "search", *photos, "--gallery", gallery, *model(net), "--json")[1]
        code, out, errors = said(capsys, "search", *photos, "--gallery", tmp_path / "i", *model(net), "--json")
        assert (code, errors) == (0, "")
        for told, expected in zip(json.loads(out), json.loads(exact), strict=True):
            assert told["recall"] == []  # of two faces none can be held out
            for one, other in zip(told["nearest"], expected["nearest"], strict=True):
                assert (one["name"], one["identity"]) == (other["name"], other["identity"])
                assert one["score"] == pytest.approx(other["score"], abs=2**-11)  # float16's half a step
        _, _, notes = said(capsys, "search", photos[0], "--gallery", tmp_path / "i", *model(net), "--scale", "2")
        assert "its features were made differently: scale 1.0 there, 2.0 here" in notes
        assert f"{tmp_path / 'i'}: 2 faces by faiss, hnsw: its recall was not measured\n" in notes
        line = refused(capsys, "search", photos[0], "--gallery", tmp_path / "i", *model(net), "--no-faiss")
        assert "is an index, which faiss searches" in line

    def test_the_table(self, net, photos, gallery, capsys):
        code, out, notes = said(capsys, "search", photos[2], "--gallery", gallery, *model(net), "--top", "1")
        assert code == 0
        heading, line = out.splitlines()
        assert notes.startswith("normface: note: features by ")
        assert heading.split() == ["photo", "place", "face", "person", "cosine"]
        assert line.split() == [str(photos[2]), "1", "c/1.png", "c", "1.000"]

    def test_a_gallery_made_otherwise_is_noted(self, net, photos, gallery, capsys):
        code, _, errors = said(capsys, "search", photos[0], "--gallery", gallery, *model(net), "--scale", "2")
        assert code == 0
        assert errors.startswith(f"normface: note: {gallery}: its features were made differently: scale 1.0 there, 2.0")

    def test_a_gallery_of_other_weights_is_noted(self, net, photos, gallery, capsys):
        """The same file, trained on."""
        tuned = caffeport.load(net.prototxt, net.caffemodel)
        arrays = {"fc": [net.weight.astype(np.float32) + np.float32(1e-3), net.bias.astype(np.float32)]}
        tuned.with_weights(arrays).save(net.caffemodel)
        code, _, errors = said(capsys, "search", photos[0], "--gallery", gallery, *model(net))
        assert code == 0
        assert errors.startswith(f"normface: note: {gallery}: its features were made differently: by other weights;")

    def test_errors(self, net, photos, gallery, tmp_path, capsys):
        np.savez(tmp_path / "narrow.npz", features=np.ones((1, 2), np.float32), names=np.array(["x"]))
        for arguments, message in (
            ((photos[0], "--gallery", gallery, *model(net), "--top", "0"), "--top 0: expected 1 or more"),
            ((photos[0], "--gallery", tmp_path / "no.npz", *model(net)), "no.npz: no such file"),
            ((photos[0], "--gallery", photos[1], *model(net)), "b.png: is no features file"),
            ((photos[0], "--gallery", tmp_path / "narrow.npz", *model(net)), "has 5 numbers and the gallery's have 2"),
            ((photos[0], "--gallery", gallery, "--aligned"), "say which model gives the features"),
        ):
            assert message in refused(capsys, "search", *arguments)


@pytest.fixture(scope="module")
def lfw(tmp_path_factory):
    """Twenty pairs of one person and twenty of different people, the first of view 2: (path, path, same)."""
    lines = [line.split() for line in (LFW / "pairs.txt").read_text().splitlines()[1:]]
    folder, pairs = tmp_path_factory.mktemp("lfw"), []
    with zipfile.ZipFile(LFW / "lfw-112x96.zip") as archive:
        for line in [*lines[:20], *lines[300:320]]:
            people = (line[0], line[0]) if len(line) == 3 else (line[0], line[2])
            names = [
                f"{person}/{person}_{int(i):04d}.jpg" for person, i in zip(people, (line[1], line[-1]), strict=True)
            ]
            for name in names:
                archive.extract(name, folder)
            pairs.append((*(folder / name for name in names), len(line) == 3))
    return pairs


@pytest.mark.slow
@needs_lfw
def test_forty_pairs_of_lfw_get_the_right_verdict(lfw):
    """Found by MTCNN, aligned, MobileFaceNet, by the threshold that is built in for a false accept in a thousand."""
    from normface.alignment import Detector
    from normface.features import Extractor
    from normface.recognise import FaceReader, threshold_for
    from normface.recognise.verdict import compare

    extractor = Extractor(*MOBILEFACENET, preset="mobilefacenet", mirror="sum")
    threshold = threshold_for(1e-3, extractor=extractor)
    reader = FaceReader(extractor, Detector(MODELS / "mtcnn", threads=1))
    verdicts = [compare(reader.read(a), reader.read(b), threshold).same for a, b, _ in lfw]
    assert verdicts == [same for *_, same in lfw] == [True] * 20 + [False] * 20


@pytest.mark.slow
@needs_lfw
def test_compare_and_search_on_lfw(lfw, tmp_path, capsys):
    options = ("--model", MOBILEFACENET[0], "--weights", MOBILEFACENET[1], "--preset", "mobilefacenet")
    found = (*options, "--mtcnn", MODELS / "mtcnn")
    for a, b, same in (lfw[0], lfw[20]):
        code, out, _ = said(capsys, "compare", a, b, *found)
        assert code == 0
        assert out.startswith("same person: " if same else "different people: ")
        assert "0.327 (false accepts 0.001, measured with mobilefacenet on BLUFR, mirror sum)" in out
    (a, b, _), *others = lfw[:4]
    known = tmp_path / "known"
    for path in (b, *(other for _, other, _ in others)):
        (known / path.parent.name).mkdir(parents=True, exist_ok=True)
        (known / path.parent.name / path.name).write_bytes(path.read_bytes())
    call = ("--data", known, "--out", tmp_path / "g.npz", "--preset", "mobilefacenet", "--mirror", "sum")
    assert said(capsys, "extract", *MOBILEFACENET, *call)[0] == 0
    code, out, errors = said(capsys, "search", a, "--gallery", tmp_path / "g.npz", *found, "--json")
    assert (code, errors) == (0, "")
    ((first, second, *_),) = [one["nearest"] for one in json.loads(out)]
    assert first["identity"] == a.parent.name
    assert first["score"] > 0.327 > second["score"]
