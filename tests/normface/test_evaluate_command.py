"""normface evaluate: what it prints and writes, features or a model, and what it says to bad input."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from normface.evaluate import evaluate_lfw
from support import command_line

LFW = Path(__file__).parents[3] / "shared" / "lfw"
MODEL = Path(__file__).parents[3] / "shared" / "models" / "mobilefacenet"
PEOPLE, EACH = 24, 3


def said(capsys, *arguments) -> tuple[int, str, str]:
    return command_line.said(capsys, "evaluate", *arguments)


def refused(capsys, *arguments) -> str:
    return command_line.refused(capsys, "evaluate", *arguments)


@pytest.fixture
def faces(tmp_path):
    """A folder of small images of coloured people, their features as the tiny model has them, and pairs."""
    draw = np.random.default_rng(0)
    features, names = [], []
    for person in range(PEOPLE):
        colours = draw.integers(60, 196, 3)
        for number in range(1, EACH + 1):
            image = np.clip(colours + draw.integers(-40, 41, (4, 2, 3)), 0, 255).astype(np.uint8)
            name = f"P_{person}/P_{person}_{number:04d}.png"
            (tmp_path / "faces" / f"P_{person}").mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "faces" / name), image)
            names.append(name)
            features.append(image.transpose(2, 0, 1).reshape(-1) - 128.0)
    features = np.array(features, np.float32)
    np.savez(tmp_path / "f.npz", features=features, names=np.array(names))
    lines = ["4 6"]
    for fold in range(4):
        members = np.arange(6 * fold, 6 * fold + 6)
        lines += [f"P_{p} 1 {draw.integers(2, 4)}" for p in members]
        lines += [f"P_{p} 1 P_{q} 2" for p, q in zip(members, np.roll(members, 1), strict=True)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    return tmp_path, features, names


def tiny_model(path):
    """Pixels as they come, in a row: (N, 3, 4, 2) to (N, 24)."""
    info, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    node = onnx.helper.make_node("Flatten", ["data"], ["feature"])
    ends = [info("data", kind, ["n", 3, 4, 2])], [info("feature", kind, ["n", 24])]
    graph = onnx.helper.make_graph([node], "tiny", *ends)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_lfw_prints_and_writes(faces, capsys):
    folder, features, names = faces
    expected = evaluate_lfw(features, names, folder / "pairs.txt")
    common = ("lfw", "--features", folder / "f.npz", "--pairs", folder / "pairs.txt")
    code, out, _ = said(capsys, *common)
    assert code == 0
    assert f"{100 * expected.accuracy:.3f} % ± {100 * expected.std:.3f} (sample standard deviation)" in out
    assert f"{100 * expected.pooled.tar[1e-2]:.3f} %" in out
    code, out, _ = said(capsys, *common, "--json", "--fars", "0.5,0.1")
    printed = json.loads(out)
    assert (printed["accuracy"], printed["std"]) == (expected.accuracy, expected.std)
    assert printed["fold_accuracies"] == expected.accuracies.tolist()
    assert list(printed["tar_at_far"]) == list(printed["thresholds"]) == ["0.5", "0.1"]
    cut = printed["thresholds"]["0.1"]
    impostors = expected.scores[~expected.same]
    assert (impostors >= cut).sum() == 2  # of 24, one tenth rounded
    assert 0.5 < expected.accuracy < 1


@pytest.mark.slow
def test_figures_show_what_they_say(faces, capsys):
    pytest.importorskip("matplotlib")
    folder, _, _ = faces
    out_dir = folder / "made" / "figures"
    arguments = ("lfw", "--features", folder / "f.npz", "--pairs", folder / "pairs.txt", "--out", out_dir)
    code, out, _ = said(capsys, *arguments, "--images", folder / "faces")
    assert code == 0
    assert f"wrote {out_dir}" in out
    assert sorted(path.name for path in out_dir.iterdir()) == [
        "results.json", "roc.png", "scores.png", "wrong_pairs.png",
    ]  # fmt: skip
    for name in ("roc.png", "scores.png", "wrong_pairs.png"):
        drawn = cv2.imread(str(out_dir / name))
        assert min(drawn.shape[:2]) > 300
        assert drawn.std() > 10
    assert json.loads((out_dir / "results.json").read_text())["thresholds"]


@pytest.mark.slow
def test_wrong_pairs_image_holds_the_images_themselves(faces):
    """One flat colour an image, so that each shown pair's colours are found in the drawn figure."""
    pytest.importorskip("matplotlib")
    from dataclasses import replace

    from normface.evaluate.figures import most_wrong, save_wrong_pairs

    folder, features, names = faces
    result = evaluate_lfw(features, names, folder / "pairs.txt")
    right = np.ones(48, bool)
    right[[0, 1, 2, 6, 7]] = False  # three of one person, two of different people
    scores = np.linspace(0.5, 0.9, 48)
    result = replace(result, right=right, scores=scores)
    assert most_wrong(result, True, 2) == [0, 1]
    assert most_wrong(result, False, 2) == [7, 6]
    colours = {}

    def read(name):
        colours[name] = colours.get(name, (17 * len(colours) % 256, 255 - 13 * len(colours), 40))
        return np.full((9, 7, 3), colours[name], np.uint8)

    assert save_wrong_pairs(folder / "wrong.png", result, read, "title", shown=2) == 4
    drawn = cv2.imread(str(folder / "wrong.png")).reshape(-1, 3)
    assert set(colours) == {result.names[side][pair] for pair in (0, 1, 6, 7) for side in (0, 1)}
    for colour in colours.values():
        assert (drawn == colour).all(axis=1).sum() > 500


def test_a_wrong_pair_is_shown_with_its_folds_threshold(faces):
    from dataclasses import replace

    from normface.evaluate.figures import score_text

    folder, features, names = faces
    result = evaluate_lfw(features, names, folder / "pairs.txt")
    folds = len(result.thresholds)
    size = len(result.same) // folds
    result = replace(result, scores=np.linspace(0.1, 0.9, len(result.same)), thresholds=np.linspace(0.2, 0.4, folds))
    assert score_text(result, 0) == "0.100\n< 0.200"
    assert score_text(result, len(result.same) - 1) == "0.900\n> 0.400"
    assert score_text(result, size).endswith(f" {result.thresholds[1]:.3f}")
    assert score_text(replace(result, folds=None), 0) == "0.100"


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_model_and_images_are_the_same_as_their_features(faces, capsys, form):
    pytest.importorskip("onnxruntime")
    folder, _, _ = faces
    images = folder / "faces"
    if form == "zip":
        with zipfile.ZipFile(folder / "faces.zip", "w") as archive:
            for path in sorted(images.rglob("*.png")):
                archive.write(path, path.relative_to(images))
        images = folder / "faces.zip"
    common = ("--pairs", folder / "pairs.txt", "--json")
    _, expected, _ = said(capsys, "lfw", "--features", folder / "f.npz", *common)
    model = ("--model", tiny_model(folder / "tiny.onnx"), "--images", images, "--mean", "128", "--scale", "1")
    code, out, error = said(capsys, "lfw", *model, *common, "--mirror", "none")
    assert code == 0, error
    assert json.loads(out)["fold_thresholds"] == pytest.approx(json.loads(expected)["fold_thresholds"], abs=1e-6)
    assert "merged by mirror none; plain as published merges by sum" in error


def test_the_protocols_own_mirror_is_the_default(faces, capsys):
    pytest.importorskip("onnxruntime")
    folder, features, names = faces
    pixels = features.reshape(-1, 3, 4, 2)
    both = np.concatenate([features, pixels[..., ::-1].reshape(len(features), -1)], axis=1)
    expected = evaluate_lfw(both, names, folder / "pairs.txt", "sphereface")
    model = ("--model", tiny_model(folder / "tiny.onnx"), "--images", folder / "faces", "--mean", "128")
    asked = ("--pairs", folder / "pairs.txt", "--protocol", "sphereface", "--json")
    code, out, error = said(capsys, "lfw", *model, *asked)
    assert code == 0, error
    assert json.loads(out)["fold_accuracies"] == expected.accuracies.tolist()
    assert "mirror" not in error


def test_bin_sets(faces, capsys):
    pytest.importorskip("onnxruntime")
    folder, _, names = faces
    encoded = [(folder / "faces" / name).read_bytes() for name in names]
    pairs = [(i, i + 1 if i % 3 < 2 and i % 2 else (i + 7) % 72) for i in range(72)]
    same = [names[i].split("/")[0] == names[j].split("/")[0] for i, j in pairs]
    images = [encoded[i] for pair in pairs for i in pair]
    (folder / "set.bin").write_bytes(pickle.dumps((images, same), 2))
    model = ("--model", tiny_model(folder / "tiny.onnx"), "--mean", "128", "--mirror", "none", "--json")
    code, out, error = said(capsys, "bin", "--set", folder / "set.bin", *model)
    assert code == 0, error
    printed = json.loads(out)
    assert (printed["pairs"], printed["protocol"], printed["std_kind"]) == (72, "insightface", "population")
    features = np.load(folder / "f.npz")["features"][[i for pair in pairs for i in pair]]
    np.savez(folder / "set.npz", features=features, names=np.arange(144).astype(str))
    code, out, _ = said(capsys, "bin", "--set", folder / "set.bin", "--features", folder / "set.npz", "--json")
    assert json.loads(out)["fold_accuracies"] == printed["fold_accuracies"]


@pytest.mark.slow
def test_blufr_prints_and_writes(faces, capsys):
    savemat = pytest.importorskip("scipy.io").savemat
    pytest.importorskip("matplotlib")
    folder, _, names = faces

    def cell(values):
        made = np.empty((len(values), 1), object)
        made[:, 0] = values
        return made

    test = np.arange(1, 73)
    gallery = test[:36:3]
    content = {
        "imageList": cell([name.split("/")[1] for name in names]),
        "labels": np.repeat(np.arange(PEOPLE), EACH).reshape(-1, 1),
        "trainIndex": cell([test[:9]] * 2),
        "testIndex": cell([test, test[9:]]),
        "galIndex": cell([gallery, gallery[3:]]),
        "probIndex": cell([np.setdiff1d(test, gallery), np.setdiff1d(test[9:], gallery)]),
    }
    savemat(folder / "b.mat", content)
    common = ("blufr", "--features", folder / "f.npz", "--config", folder / "b.mat")
    code, out, error = said(capsys, *common, "--json", "--fars", "0.1", "--dir-fars", "0.5", "--out", folder / "made")
    assert code == 0, error
    printed = json.loads(out)
    assert printed == json.loads((folder / "made" / "results.json").read_text())
    assert printed["genuine_pairs"] == [72, 63]
    assert (list(printed["vr_at_far"]), list(printed["dir_at_far"])) == (["0.1"], ["0.5"])
    rate = printed["vr_at_far"]["0.1"]
    assert rate["reported"] == pytest.approx(100 * (np.mean(rate["trials"]) - np.std(rate["trials"], ddof=1)))
    assert cv2.imread(str(folder / "made" / "roc.png")) is not None
    code, out, _ = said(capsys, *common, "--pca", "5")
    assert "VR at FAR 0.1 %" in out
    assert "DIR at FAR 1 %, rank 1" in out


def test_ytf(tmp_path, capsys):
    draw = np.random.default_rng(0)
    lines, names, features = [], [], []
    for fold in range(1, 4):
        for pair in range(8):
            same = pair < 4
            a = draw.normal(size=6)
            b = a + 0.6 * draw.normal(size=6) if same else draw.normal(size=6)
            for side, centre in enumerate((a, b)):
                names += [f"P{fold}_{pair}_{side}/0/{frame}.jpg" for frame in range(3)]
                features += [centre + 0.2 * draw.normal(size=6) for _ in range(3)]
            lines.append(f"{fold}, {pair}, P{fold}_{pair}_0/0, P{fold}_{pair}_1/0, {int(same)}")
    (tmp_path / "splits.txt").write_text("\n".join(lines))
    np.savez(tmp_path / "f.npz", features=np.array(features, np.float32), names=np.array(names))
    common = ("ytf", "--features", tmp_path / "f.npz", "--splits", tmp_path / "splits.txt", "--json")
    printed = json.loads(said(capsys, *common)[1])
    assert (printed["pairs"], printed["protocol"], len(printed["fold_accuracies"])) == (24, "mean", 3)
    pytest.importorskip("sklearn")
    printed = json.loads(said(capsys, *common, "--method", "histogram", "--centre")[1])
    assert printed["protocol"] == "histogram, centred"


def test_bad_input_gets_one_line(faces, capsys):
    folder, _, _ = faces
    pairs, stored = ("--pairs", folder / "pairs.txt"), ("--features", folder / "f.npz")
    assert "give --features F.npz" in refused(capsys, "lfw", *pairs)
    assert "give --features F.npz" in refused(capsys, "lfw", *pairs, "--model", "m.onnx")
    assert "not both" in refused(capsys, "lfw", *pairs, *stored, "--model", "m.onnx", "--images", folder / "faces")
    assert "no such file" in refused(capsys, "lfw", *pairs, "--features", folder / "none.npz")
    assert "No such file" in refused(capsys, "lfw", *stored, "--pairs", folder / "none.txt")
    assert '--pca "half"' in refused(capsys, "lfw", *pairs, *stored, "--pca", "half")
    assert "got 1.5" in refused(capsys, "lfw", *pairs, *stored, "--pca", "1.5")
    assert '--fars "0.1;0.2"' in refused(capsys, "lfw", *pairs, *stored, "--fars", "0.1;0.2")
    assert '--fars "0"' in refused(capsys, "lfw", *pairs, *stored, "--fars", "0")
    assert "cannot be made" in refused(capsys, "lfw", *pairs, *stored, "--out", folder / "f.npz" / "x")
    assert "no such file" in refused(capsys, "blufr", *stored, "--config", folder / "none.mat")
    assert "is no whole pickle" in refused(capsys, "bin", *stored, "--set", folder / "pairs.txt")
    assert "invalid choice" in refused(capsys, "lfw", *pairs, *stored, "--protocol", "none")
    assert "PROTOCOL" in refused(capsys)
    (folder / "other.txt").write_text("1 1\nNobody 1 2\nNobody 1 P_0 1\n")
    assert "no features of Nobody_0001, Nobody_0002" in refused(
        capsys, "lfw", *stored, "--pairs", folder / "other.txt", "--out", folder / "new"
    )
    assert not list((folder / "new").iterdir())  # nothing half-written


def test_figures_without_matplotlib_are_refused_before_the_work(faces, capsys, monkeypatch):
    import sys

    folder, _, _ = faces
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    arguments = ("lfw", "--pairs", folder / "pairs.txt", "--features", folder / "none.npz", "--out", folder / "new")
    assert "pip install matplotlib, or leave out --out" in refused(capsys, *arguments)
    assert not (folder / "new").exists()


@pytest.mark.slow
@pytest.mark.skipif(not (LFW.is_dir() and MODEL.is_dir()), reason="LFW and MobileFaceNet (../shared) are not here")
def test_real_faces_by_a_real_model(tmp_path, capsys):
    """60 of LFW's pairs through the converted MobileFaceNet; the whole 6000 take minutes (README has them)."""
    pytest.importorskip("onnxruntime")
    lines = (LFW / "pairs.txt").read_text().splitlines()
    chosen = ["2 15"]
    for fold in range(2):
        start = 1 + 600 * fold
        chosen += lines[start : start + 15] + lines[start + 300 : start + 315]
    (tmp_path / "pairs.txt").write_text("\n".join(chosen))
    code, out, error = said(
        capsys, "lfw", "--pairs", tmp_path / "pairs.txt", "--images", LFW / "lfw-112x96.zip",
        "--model", MODEL / "mobilefacenet_deploy.prototxt", "--weights", MODEL / "mobilefacenet.caffemodel",
        "--preset", "mobilefacenet", "--json",
    )  # fmt: skip
    assert code == 0, error
    printed = json.loads(out)
    # The whole protocol gives 99.42 %; one of these 60 pairs may go wrong.
    assert printed["accuracy"] >= 59 / 60
    assert printed["auc"] > 0.999
    assert 0.15 < np.mean(printed["fold_thresholds"]) < 0.5  # over all of LFW 0.289
