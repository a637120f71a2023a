"""Lists of pairs in the forms that people have them, all pairs of a folder, and their figures with intervals."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from normface.errors import ProtocolError
from normface.evaluate import evaluate_lfw, tar_at_far
from normface.evaluate.pair_lists import people_of, read_pair_list, with_folds
from normface.evaluate.pairs import evaluate_all_pairs, evaluate_pairs
from normface.evaluate.resampled_people import drawn_figures
from support import command_line

NAMES = [f"P_{person}/P_{person}_{number:04d}.png" for person in range(12) for number in (1, 2, 3)]
PEOPLE = np.repeat(np.arange(12), 3)


def said(capsys, *arguments) -> tuple[int, str, str]:
    return command_line.said(capsys, "evaluate", "pairs", *arguments)


def refused(capsys, *arguments) -> str:
    return command_line.refused(capsys, "evaluate", "pairs", *arguments)


def features_of_people() -> np.ndarray:
    random = np.random.default_rng(4)
    x = random.normal(size=(12, 6))[PEOPLE] + 1.1 * random.normal(size=(36, 6))
    return x.astype(np.float32)


@pytest.fixture
def folder(tmp_path) -> Path:
    np.savez(tmp_path / "f.npz", features=features_of_people(), names=np.array(NAMES))
    return tmp_path


def listed(path: Path, text: str):
    path.write_text(text)
    return read_pair_list(path)


GENUINE, IMPOSTOR = ("P_0/P_0_0001.png", "P_0/P_0_0002.png"), ("P_1/P_1_0001.png", "P_2/P_2_0003.png")
FORMS = {
    "blanks": f"{' '.join(GENUINE)} 1\n{' '.join(IMPOSTOR)} 0\n",
    "comments and empty lines": f"# mine\n\n{' '.join(GENUINE)} 1\n\n{' '.join(IMPOSTOR)} 0\n",
    "tabs": "\t".join((*GENUINE, "same")) + "\n" + "\t".join((*IMPOSTOR, "different")) + "\n",
    "commas": ",".join((*GENUINE, "True")) + "\n" + ",".join((*IMPOSTOR, "False")) + "\n",
    "semicolons and minus": ";".join((*GENUINE, "1")) + "\n" + ";".join((*IMPOSTOR, "-1")) + "\n",
    "quotes": '"{}","{}","1"\n"{}","{}","0"\n'.format(*GENUINE, *IMPOSTOR),
    "label first": f"1 {' '.join(GENUINE)}\n0 {' '.join(IMPOSTOR)}\n",
    "header": "label,image2,distance,image1\n" + "1,{1},3.5,{0}\n".format(*GENUINE) + "0,{1},2,{0}\n".format(*IMPOSTOR),
    "without folders": "P_0_0001.png P_0_0002.png 1\nP_1_0001.png P_2_0003.png 0\n",
    "LFW without a header": "P_0 1 2\nP_1 1 P_2 3\n",
    "LFW with one number": "1\nP_0 1 2\nP_1 1 P_2 3\n",
    "LFW's view 2, tabs": "1\t1\nP_0\t1\t2\nP_1\t1\tP_2\t3\n",
    "Kaggle's LFW": "name,imagenum1,imagenum2,\nP_0,1,2,\nP_1,1,P_2,3\n",
    "carriage returns": f"{' '.join(GENUINE)} 1\r\n{' '.join(IMPOSTOR)} 0\r\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_told_by_itself(tmp_path, form):
    pairs = listed(tmp_path / "list", FORMS[form])
    rows = pairs.rows_of(NAMES).reshape(2, -1)
    assert [(NAMES[left], NAMES[right]) for left, right in rows.T] == [GENUINE, IMPOSTOR]
    assert pairs.same.tolist() == [True, False]


@pytest.mark.parametrize(
    ("listed_as", "names"),
    [
        ("alice/1.jpg", ["alice/1.jpg", "bob/1.jpg"]),
        ("photos/alice/1.jpg", ["alice/1.jpg", "bob/1.jpg"]),
        ("/data/photos/alice/1.jpg", ["alice/1.jpg", "bob/1.jpg"]),
        ("alice\\1.jpg", ["alice/1.jpg", "bob/1.jpg"]),
        ("alice/1.jpg", ["train/alice/1.png", "train/bob/1.png"]),
        ("./alice/1", ["alice/1.jpg", "bob/1.jpg"]),
        ("alice", ["x/alice.jpg", "bob/1.jpg"]),
    ],
)
def test_images_are_found_however_deep_the_list_names_them(tmp_path, listed_as, names):
    other = "bob/1.jpg" if len(listed_as) > 5 else "bob/1"
    pairs = listed(tmp_path / "list", f"{listed_as},{other},0\n{other},{listed_as},0\n")
    assert pairs.rows_of(names).tolist() == [0, 1, 1, 0]


def test_an_image_that_is_there_twice(tmp_path):
    pairs = listed(tmp_path / "list", "1.jpg,alice/1.jpg,0\n")
    with pytest.raises(ProtocolError, match=r'1.jpg is there twice, as "alice/1.jpg" and "bob/1.jpg"; keep one'):
        pairs.rows_of(["alice/1.jpg", "bob/1.jpg"])


BAD = {
    "": "is empty",
    "# only words\n": "is empty",
    "image1,image2,label\n": "has no pairs behind its first line",
    "a.png b.png 1\na.png b.png\nc.png d.png 2\n": r'list: line 2: expected two images and 1 or 0, got "a.png b.png"; '
    'line 3: expected 1 or 0 as the label, or such words as same and different, got "c.png d.png 2"',
    "a.png b.png\n": 'list:1: expected LFW\'s lines .*, got "a.png b.png"',
    "my a.png my b.png 1\n": "names with blanks need tabs or commas between",
    "a 1 2\nb 1 c\n": 'line 2: expected "name i j" or "name i name j", got "b 1 c"',
    "image1,image2,label\na.png,b.png\n": "line 2: expected 3 columns as the header has",
    "a,b,1\n,b,1\n": "line 2: has an empty name",
    "a b 1\n" + "x\n" * 9: "line 4.*, and 6 more such lines",
    "\x1b[31m b\n": r"x1b\[31m",
    f"a,{'b' * 200_000},1\na,b,1\n": "list:1: expected LFW's lines",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_lines_are_named(tmp_path, text):
    with pytest.raises(ProtocolError, match=BAD[text]):
        listed(tmp_path / "list", text)


def test_a_list_that_contradicts_itself(tmp_path):
    pairs = listed(tmp_path / "list", "a b 1\nb c 1\nd e 0\nc a 0\n")
    rows = pairs.rows_of([*"abcde"])
    with pytest.raises(ProtocolError, match="list:4: calls c and a different people, whom other lines make one"):
        people_of(pairs, rows, None)
    pairs = listed(tmp_path / "list", "a b 1\nb c 1\nd e 0\n")
    assert people_of(pairs, pairs.rows_of([*"abcde"]), None).tolist() in ([0, 0, 0, 1, 2], [1, 1, 1, 0, 2])
    joined = people_of(pairs, pairs.rows_of([*"abcde"]), np.array([0, 0, 0, 1, 0]))
    assert len(set(joined)) == 2 and joined[0] == joined[4] != joined[3]  # by the folder, "e" is one with "a"
    folder = people_of(pairs, pairs.rows_of([*"abcde"]), np.zeros(5, int))  # one folder of all is no person
    assert len(set(folder)) == 3


def test_folds_are_the_lists_own_or_dealt_out(tmp_path):
    lines = [f"a{i} b{i} {int(i < 7)}" for i in range(12)]
    fold = with_folds(listed(tmp_path / "list", "\n".join(lines))).fold
    assert fold.tolist() == [1, 2, 3, 4, 5, 1, 2, 1, 2, 3, 4, 5]  # five pairs of two people
    text = "image1,image2,same,fold\na,b,1,3\nc,d,0,3\ne,f,1,4\ng,h,0,4\n"
    assert with_folds(listed(tmp_path / "list", text)).fold.tolist() == [3, 3, 4, 4]
    with pytest.raises(ProtocolError, match="has 1 pairs of one person and 3 of two; two of either are the least"):
        with_folds(listed(tmp_path / "list", "a b 1\nc d 0\ne f 0\ng h 0\n"))


def lfw_list() -> str:
    random = np.random.default_rng(0)
    lines = ["2 6"]
    for fold in range(2):
        members = np.arange(6 * fold, 6 * fold + 6)
        lines += [f"P_{p} 1 {random.integers(2, 4)}" for p in members]
        lines += [f"P_{p} 1 P_{q} 2" for p, q in zip(members, np.roll(members, 1), strict=True)]
    return "\n".join(lines) + "\n"


def test_lfws_list_gives_the_figures_of_evaluate_lfw(folder):
    pairs = listed(folder / "pairs.txt", lfw_list())
    found = evaluate_pairs(features_of_people(), NAMES, pairs, "plain", fars=(0.1,))
    expected = evaluate_lfw(features_of_people(), NAMES, folder / "pairs.txt", fars=(0.1,))
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.folds.accuracies.tolist() == expected.accuracies.tolist()
    assert found.verification == expected.pooled and found.thresholds == expected.pooled_thresholds
    assert found.people == 12


def in_loops(scores, right, one, other, far, drawn) -> tuple[float, float]:
    """Each pair as often as its people were drawn, one by one."""
    genuine, impostor, correct = [], [], []
    for score, ok, a, b in zip(scores, right, one, other, strict=True):
        times = list(drawn).count(a) * (1 if a == b else list(drawn).count(b))
        (genuine if a == b else impostor).extend([score] * times)
        correct += [ok] * times
    if not genuine or not impostor:
        return np.nan, np.nan
    impostor.sort(reverse=True)
    k = int(np.floor(far * len(impostor) + 0.5))
    passed = [s >= impostor[k - 1] if k else s > impostor[0] for s in genuine]
    return float(np.mean(passed)), float(np.mean(correct))


@pytest.mark.parametrize("far", [0.0, 0.1, 0.5])
def test_each_draw_of_people_is_that_of_the_loops(far):
    random = np.random.default_rng(3)
    one, other = random.choice([0, 1, 2, 4, 5], (2, 40))
    scores, right = np.round(random.normal(size=40), 1), random.random(40) < 0.7
    tars, accuracies = drawn_figures(scores, right, (one, other), (far,), seed=11, draws=60)
    generator = np.random.default_rng(11)
    draws = [generator.choice([0, 1, 2, 4, 5], 5) for _ in range(60)]
    expected = np.array([in_loops(scores, right, one, other, far, drawn) for drawn in draws])
    np.testing.assert_allclose(tars[far], expected[:, 0], rtol=1e-12, equal_nan=True)
    np.testing.assert_allclose(accuracies, expected[:, 1], rtol=1e-12, equal_nan=True)


def test_all_pairs_are_the_loops():
    x = features_of_people()
    found = evaluate_all_pairs(x, PEOPLE, fars=(0.05,))
    genuine, impostor = [], []
    for i in range(36):
        for j in range(i):
            cosine = float(x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]))
            (genuine if PEOPLE[i] == PEOPLE[j] else impostor).append(cosine)
    tar, threshold = tar_at_far(np.array(genuine), np.array(impostor), 0.05)
    assert (len(genuine), len(impostor)) == (int(found.same.sum()), int((~found.same).sum()))
    assert found.verification.tar[0.05] == pytest.approx(tar, abs=1e-9)
    assert found.thresholds[0.05] == pytest.approx(threshold, abs=1e-5)  # cosines in float32
    low, high = found.tar_intervals[0.05]
    assert low < tar < high
    with pytest.raises(ProtocolError, match="needs images of two people"):
        evaluate_all_pairs(x[:3], PEOPLE[:3])


@pytest.mark.slow
def test_the_command_on_a_list(folder, capsys):
    (folder / "pairs.txt").write_text(lfw_list())
    words = ("--features", folder / "f.npz", "--pairs", folder / "pairs.txt", "--fars", "0.2")
    code, out, _ = said(capsys, *words)
    assert code == 0 and "12 genuine and 12 impostor pairs of 12 people" in out and "95 % of draws" in out
    code, out, _ = said(capsys, *words, "--json", "--out", folder / "figures")
    printed = json.loads(out)
    expected = evaluate_lfw(features_of_people(), NAMES, folder / "pairs.txt", fars=(0.2,))
    assert printed["accuracy"] == expected.accuracy and printed["folds"] == 2
    assert printed["tar_at_far"] == {"0.2": expected.pooled.tar[0.2]}
    assert printed["thresholds"] == {"0.2": expected.pooled_thresholds[0.2]}
    low, high = printed["tar_intervals"]["0.2"]
    assert 0 <= low <= printed["tar_at_far"]["0.2"] <= high <= 1
    assert printed["accuracy_interval"][0] <= printed["accuracy"] <= printed["accuracy_interval"][1]
    assert cv2.imread(str(folder / "figures" / "roc.png")).std() > 10
    assert json.loads((folder / "figures" / "results.json").read_text()) == printed


@pytest.mark.slow
def test_the_command_on_all_pairs(folder, capsys):
    code, out, error = said(capsys, "--features", folder / "f.npz", "--json", "--out", folder / "all")
    printed = json.loads(out)
    assert code == 0 and printed["pairs"] == 36 * 35 // 2 and printed["people"] == 12 and "accuracy" not in printed
    assert {path.name for path in (folder / "all").iterdir()} == {"roc.png", "scores.png", "results.json"}
    code, out, error = said(capsys, "--features", folder / "f.npz")
    assert out.startswith("f.npz, all pairs, cosine: 36 genuine and 594 impostor pairs of 12 people\n")
    code, out, error = said(capsys, "--features", folder / "f.npz", "--most-images", 12, "--json")
    assert json.loads(out)["people"] == 4 and "all pairs of 12 of 36 images" in error


def test_what_the_command_refuses(folder, capsys):
    (folder / "bad.txt").write_text("a b 1\nc d\n")
    told = refused(capsys, "--features", folder / "f.npz", "--pairs", folder / "bad.txt")
    assert "bad.txt: line 2: expected two images and 1 or 0" in told
    (folder / "absent.txt").write_text("a b 1\nc d 0\ne f 1\ng h 0\n")
    told = refused(capsys, "--features", folder / "f.npz", "--pairs", folder / "absent.txt")
    assert "no features of a, b, c, d, e and 3 more" in told
    np.savez(folder / "flat.npz", features=features_of_people(), names=np.array([name[4:] for name in NAMES]))
    assert "all pairs need to know who is who" in refused(capsys, "--features", folder / "flat.npz")
    told = refused(capsys, "--features", folder / "f.npz", "--protocol", "normface")
    assert "--protocol normface fits on folds, and all pairs have none" in told
    assert "give --features" in refused(capsys, "--pairs", folder / "absent.txt")
    told = refused(capsys, "--features", folder / "f.npz", "--most-images", 3)
    assert "--most-images 3: expected 4 or more" in told
