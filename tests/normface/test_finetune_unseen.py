"""The end of a run: the test on people that neither trained nor chose the model, intervals, and notes on weak figures.

What is expected is computed from the exported files, in plain loops.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import caffeport
import numpy as np
import pytest
import torch
from normface.cli.main import main
from normface.finetune import Config, finetune
from normface.finetune.notes import about
from support.digit_images import NET, WEIGHTS, as_input, flags, write_digits

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """12 images each of digits 0 to 4."""
    return write_digits(tmp_path_factory.mktemp("people"), range(5), 12)


@pytest.fixture(scope="module")
def choosers(tmp_path_factory) -> Path:
    """8 images each of digits 5 and 6."""
    return write_digits(tmp_path_factory.mktemp("choosers"), range(5, 7), 8)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory) -> Path:
    """8 images each of digits 7 to 9."""
    return write_digits(tmp_path_factory.mktemp("strangers"), range(7, 10), 8)


def scores_of(net: tuple[Path, Path], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Cosines (N, N) of all images below a folder, and whose they are."""
    x, labels = as_input(folder)
    with torch.no_grad():
        feature = caffeport.load(*net).to_torch()(torch.from_numpy(x)).numpy()
    unit = feature / np.linalg.norm(feature, axis=1, keepdims=True)
    return unit @ unit.T, labels


def accepted(scores: np.ndarray, labels: np.ndarray, far: float, drawn: np.ndarray) -> float:
    """The TAR of people that come as often as in ``drawn``: each a copy with images of its own."""
    images = [(copy, i) for copy, person in enumerate(drawn) for i in np.flatnonzero(labels == person)]
    genuine, impostor = [], []
    for a, (copy, i) in enumerate(images):
        for other, j in images[:a]:
            if copy == other:
                genuine.append(scores[i, j])
            elif labels[i] != labels[j]:
                impostor.append(scores[i, j])
    if not impostor:
        return np.nan
    threshold = sorted(impostor, reverse=True)[round(far * len(impostor)) - 1]
    return float(np.mean(np.array(genuine) >= threshold))


def exported(out: Path) -> tuple[Path, Path]:
    return out / "deploy.prototxt", out / "model.caffemodel"


def summary_of(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


COMMON = ["--val-far", 0.1, "--steps", 6, "--validate-every", 2, "--lr", 0.05, "--batch-size", 10, "--seed", 3]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--freeze-to", "pool2"], ["--normalize"]], ids=["whole", "frozen", "unit"])
def test_the_test_is_of_the_exported_files_and_of_the_net_before(people, choosers, strangers, tmp_path, capsys, more):
    out = tmp_path / "out"
    assert main(flags(people, out, "--val", choosers, "--test", strangers, *COMMON, *more)) == 0
    shown, test = capsys.readouterr().out, summary_of(out)["test"]
    everyone = np.unique(as_input(strangers)[1])
    for when, net in (("before", (NET, WEIGHTS)), ("exported", exported(out))):
        tar = accepted(*scores_of(net, strangers), 0.1, everyone)
        assert test[when]["tar"] == pytest.approx(tar, abs=1 / 83)  # one of 84 pairs may lie at the threshold
    assert test["before"]["step"] == 0 and test["exported"]["step"] == summary_of(out)["best_step"]
    assert test["gain"] == pytest.approx(test["exported"]["tar"] - test["before"]["tar"])
    assert test["held"] == {
        "identities": 3, "pictures": 24, "genuine_pairs": 84, "impostor_pairs": 192, "impostors_accepted": 19,
    }  # fmt: skip
    assert "test people" in shown and "exported, measured once" in shown
    assert f"true accepts of the exported model less those before: {100 * test['gain']:+.2f} points" in shown


@pytest.mark.slow
def test_the_intervals_are_over_people(people, choosers, strangers, tmp_path):
    """Those of the loops, draw by draw: of each model, and of what one model has more than the other."""
    out = tmp_path / "out"
    more = ["--val", choosers, "--test", strangers, *COMMON]
    assert main(flags(people, out, *more)) == 0
    summary = summary_of(out)
    generator = np.random.default_rng([3, 13])
    draws = [generator.choice(3, 3) + 7 for _ in range(1000)]
    tars = {}
    for when, net in (("before", (NET, WEIGHTS)), ("exported", exported(out))):
        scores, labels = scores_of(net, strangers)
        each = {tuple(sorted(d)): accepted(scores, labels, 0.1, d) for d in {tuple(sorted(d)) for d in draws}}
        tars[when] = np.array([each[tuple(sorted(d))] for d in draws])
        low, high = np.nanquantile(tars[when], [0.025, 0.975])
        assert summary["test"][when]["tar_low"] == pytest.approx(low, abs=0.02)
        assert summary["test"][when]["tar_high"] == pytest.approx(high, abs=0.02)
    low, high = np.nanquantile(tars["exported"] - tars["before"], [0.025, 0.975])
    assert summary["test"]["gain_low"] == pytest.approx(low, abs=0.03)
    assert summary["test"]["gain_high"] == pytest.approx(high, abs=0.03)
    for when in ("before", "best", "last"):  # of two people, every other draw has one alone, and none the other kind
        model = summary[when]
        assert model["tar_low"] is None or model["tar_low"] <= model["tar"] <= model["tar_high"]


@pytest.mark.slow
def test_the_test_has_no_part_in_the_training(people, choosers, strangers, tmp_path):
    for name, more in (("without", []), ("with", ["--test", strangers])):
        assert main(flags(people, tmp_path / name, "--val", choosers, *COMMON, *more)) == 0
    for name in ("model.caffemodel", "head.safetensors", "metrics.csv", "model.onnx"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
    assert summary_of(tmp_path / "without")["test"] is None
    # A finished run can be tested later: nothing is trained again.
    more = ["--resume", "--test", strangers]
    assert main(["finetune", "--out", str(tmp_path / "without"), *map(str, more)]) == 0
    assert summary_of(tmp_path / "without")["test"] == summary_of(tmp_path / "with")["test"]


@pytest.mark.slow
def test_two_devices_test_as_one(people, strangers, tmp_path):
    results = []
    for devices in (1, 2):
        settings = {
            "net": NET, "weights": WEIGHTS, "embedding": "fc5", "mean": 8, "scale": 0.125, "data": people,
            "test": strangers, "out": tmp_path / str(devices), "devices": devices, "device": "cpu", "steps": 4,
            "batch_size": 10, "val_share": 0, "tensorboard": False, "figure": False,
        }  # fmt: skip
        results.append(finetune(Config.from_settings(settings)))
    assert results[0].test.exported.row() == pytest.approx(results[1].test.exported.row(), abs=0.02)


def test_what_is_wrong_with_the_test_is_told_before_the_training(people, tmp_path, capsys):
    alone = write_digits(tmp_path / "alone", range(7, 8), 8)
    assert main(flags(people, tmp_path / "out", "--test", alone, *COMMON)) == 2
    said = capsys.readouterr().err
    assert "--test needs two images of one person and images of two people; got 8 images of 1 identities" in said
    assert main(flags(people, tmp_path / "out", "--test", tmp_path / "nowhere", *COMMON)) == 2
    assert "--test" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_people_of_the_test_that_are_known_are_told(people, choosers, tmp_path, capsys):
    for known, data in (("trained on", people), ("validated on", choosers)):
        more = ["--val", choosers, "--test", data, *COMMON, "--steps", 1]
        assert main(flags(people, tmp_path / known, *more)) == 0
        assert f"images of --test are {known} as well" in capsys.readouterr().err


@pytest.mark.slow
def test_an_unreadable_image_of_the_test(people, strangers, tmp_path, capsys):
    """It ends the command, but not before the model is there; or it is left out and counted."""
    data = tmp_path / "strangers"
    shutil.copytree(strangers, data)
    for bad in sorted(data.glob("7/*.png"))[:3]:
        bad.write_bytes(b"junk")
    assert main(flags(people, tmp_path / "out", "--val-share", 0, "--test", data, *COMMON)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "7" in line and "--on-bad-image skip" in line
    assert (tmp_path / "out" / "model.onnx").is_file() and summary_of(tmp_path / "out")["test"] is None
    more = ["--resume", "--on-bad-image", "skip"]
    assert main(["finetune", "--out", str(tmp_path / "out"), *more]) == 0
    summary = summary_of(tmp_path / "out")
    assert summary["test"]["held"]["pictures"] == 21 and len(summary["left_out"]) == 3
    assert summary["test"]["held"]["genuine_pairs"] == 5 * 4 // 2 + 2 * 8 * 7 // 2


@pytest.mark.slow
def test_figures_that_tell_little_say_so(people, choosers, strangers, tmp_path, capsys):
    assert main(flags(people, tmp_path / "out", "--val", strangers, "--steps", 1, "--val-far", 0.001)) == 0
    shown = capsys.readouterr().out
    # 192 impostor pairs, of which a rate of 30 / 192 lets in 30.
    assert "note: held-out people: FAR 0.1 % lets in 0 of 192 impostor pairs" in shown
    assert "they carry --val-far 0.16 or more" in shown
    assert "note: held-out people: an interval over 3 people is too narrow" in shown
    # The net was trained on the digits 5 and 6 itself, and knows them all.
    assert main(flags(people, tmp_path / "easy", "--val", choosers, "--steps", 1, "--val-far", 0.1, "--json")) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any("100 % of the genuine pairs were accepted before any training" in note for note in notes)


def test_good_figures_have_no_notes():
    held = {"identities": 60, "pictures": 300, "genuine_pairs": 600, "impostor_pairs": 44_250, "impostors_accepted": 44}
    assert about("people", held, 1e-3, None) == []
    assert about("people", dict.fromkeys(held, 0), 1e-3, None) == []
    tiny = held | {"impostor_pairs": 40, "impostors_accepted": 0}
    (note,) = about("people", tiny, 1e-3, None)
    assert "no rate can be told from so few" in note
