"""Validation on .bin sets, lists of pairs and BLUFR: to the figures of the protocols on features computed here."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import caffeport
import cv2
import numpy as np
import pytest
import torch
from normface.cli.main import main
from normface.evaluate.bin_sets import evaluate_bin
from normface.evaluate.blufr import evaluate_blufr
from normface.evaluate.lfw import evaluate_lfw
from normface.evaluate.pair_lists import read_pair_list
from normface.evaluate.pairs import evaluate_pairs
from normface.evaluate.resampled_people import drawn_folds, interval
from normface.finetune import Config, config_file
from support.digit_images import NET, WEIGHTS, flags, write_digits

from .test_evaluate_blufr import write_config

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    return write_digits(tmp_path_factory.mktemp("people"), range(7), 8)


@pytest.fixture(scope="module")
def lfw(tmp_path_factory) -> Path:
    """Images of digits 0 to 9 as P_3/P_3_0001.png, a list of their pairs, a .bin set of others, BLUFR's file."""
    folder = tmp_path_factory.mktemp("lfw")
    write_digits(folder / "digits", range(10), 4, first=30)
    for path in sorted((folder / "digits").glob("*/*.png")):
        person = f"P_{path.parent.name}"
        (folder / "images" / person).mkdir(parents=True, exist_ok=True)
        number = len(list((folder / "images" / person).iterdir())) + 1
        path.rename(folder / "images" / person / f"{person}_{number:04d}.png")
    random = np.random.default_rng(0)
    lines = ["2 10"]
    for _ in range(2):
        for _ in range(10):
            one, other = random.permutation(4)[:2] + 1
            lines.append(f"P_{random.integers(10)} {one} {other}")
        for _ in range(10):
            one, other = random.permutation(10)[:2]
            lines.append(f"P_{one} {random.integers(1, 5)} P_{other} {random.integers(1, 5)}")
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    paths = sorted(folder.glob("images/*/*.png"))
    same = [bool(value) for value in random.random(40) < 0.5]
    chosen = []
    for truth in same:
        first = paths[random.integers(40)]
        others = [path for path in paths if (path.parent == first.parent) == truth and path != first]
        chosen += [first.read_bytes(), others[random.integers(len(others))].read_bytes()]
    (folder / "set_a.bin").write_bytes(pickle.dumps((chosen, same)))
    (folder / "set_b.bin").write_bytes(pickle.dumps((chosen[::-1], same[::-1])))
    labels = np.repeat(np.arange(1, 11), 4)
    names = [path.name for path in paths]
    trials = [(np.arange(8), np.arange(8, 40), [8, 12, 16], [9, 10, 13, 17, 20, 24, 28, 33, 37]) for _ in range(2)]
    trials[1] = (np.arange(32, 40), np.arange(32), [0, 4, 8], [1, 2, 5, 9, 12, 16, 20, 24, 28])
    write_config(folder / "blufr.mat", names, labels, trials)
    return folder


def features(net: tuple[Path, Path], images: list[np.ndarray]) -> np.ndarray:
    """Each image's, and its mirror image's, summed up."""
    x = (np.stack(images)[:, None].astype(np.float32) - 8) * np.float32(0.125)
    model = caffeport.load(*net).to_torch().eval()
    with torch.no_grad():
        return (model(torch.from_numpy(x)) + model(torch.from_numpy(x[..., ::-1].copy()))).numpy()


def expected(net: tuple[Path, Path], lfw: Path, far: float) -> dict[str, dict[str, float]]:
    paths = sorted(lfw.glob("images/*/*.png"))
    own = features(net, [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths])
    names = [f"{path.parent.name}/{path.name}" for path in paths]
    found = {}
    for name in ("set_a", "set_b"):
        encoded, same = pickle.loads((lfw / f"{name}.bin").read_bytes())
        held = features(net, [cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_GRAYSCALE) for one in encoded])
        found[name] = evaluate_bin(held, np.array(same), "insightface", fars=(far,))
    found["pairs"] = evaluate_lfw(own, names, lfw / "pairs.txt", "plain", fars=(far,))
    figures = {
        name: {"accuracy": one.accuracy, "std": one.std, "tar": one.pooled.tar[far], "eer": one.pooled.eer}
        for name, one in found.items()
    }
    for name, (low, high) in {
        "accuracy": evaluate_pairs(own, names, read_pair_list(lfw / "pairs.txt")).accuracy_interval,
        "tar": evaluate_pairs(own, names, read_pair_list(lfw / "pairs.txt"), fars=(far,)).tar_intervals[far],
    }.items():
        figures["pairs"] |= {f"{name}_low": low, f"{name}_high": high}
    for name in ("set_a", "set_b"):
        low, high = interval(drawn_folds(found[name], far, seed=[0, 19])[1])
        figures[name] |= {"accuracy_low": low, "accuracy_high": high}
    blufr = evaluate_blufr(own, names, lfw / "blufr.mat", fars=(far,), identification_fars=(0.01,))
    rates = {"vr": blufr.vr[far].reported / 100, "dir": blufr.dir[0.01].reported / 100}
    return figures | {"blufr": rates}


def sets(lfw: Path) -> list[object]:
    words = ["--val-bin", lfw / "set_a.bin", lfw / "set_b.bin", "--val-pairs", lfw / "pairs.txt"]
    return [*words, "--val-blufr", lfw / "blufr.mat", "--val-images", lfw / "images", "--val-far", 0.1]


@pytest.mark.slow
def test_the_figures_are_those_of_the_protocols(people, lfw, tmp_path, capsys):
    out = tmp_path / "out"
    more = ["--steps", 6, "--validate-every", 2, "--lr", 0.05, "--batch-size", 16, "--figure", "--log-every", 1]
    assert main(flags(people, out, *sets(lfw), *more)) == 0
    shown = capsys.readouterr().out
    assert "best, chosen on these sets (step" in shown
    assert "95 % of draws of folds" in shown and "95 % of draws of people" in shown
    assert "set_a: accuracy in folds" in shown and "blufr: VR at FAR 10 %, mean less deviation" in shown
    summary = json.loads((out / "metrics.json").read_text())
    assert summary["held_out"]["identities"] == 0 and summary["identities"] == 7  # nobody is held out unless asked
    assert summary["sets_drawn"] == {"set_a": "folds", "set_b": "folds", "pairs": "people", "blufr": "people"}
    of_blufr = summary["before"]["sets"]["blufr"]
    assert of_blufr["vr_low"] < of_blufr["vr"] < of_blufr["vr_high"]
    for when, net in (("before", (NET, WEIGHTS)), ("best", (out / "deploy.prototxt", out / "model.caffemodel"))):
        wanted = expected(net, lfw, 0.1)
        assert list(summary[when]["sets"]) == list(wanted)
        for name, figures in wanted.items():
            for figure, value in figures.items():
                assert summary[when]["sets"][name][figure] == pytest.approx(value, abs=1e-9), (when, name, figure)
    with open(out / "metrics.csv") as stream:
        rows = [row for row in csv.DictReader(stream) if row["set_a.accuracy"]]
    assert [row["step"] for row in rows] == ["0", "2", "4", "6"]
    scores = {}
    for row in rows[1:]:
        firsts = [float(row[f"{name}.{'vr' if name == 'blufr' else 'accuracy'}"]) for name in summary["best"]["sets"]]
        seconds = [float(row[f"{name}.{'dir' if name == 'blufr' else 'auc'}"]) for name in summary["best"]["sets"]]
        scores[int(row["step"])] = (np.mean(firsts), np.mean(seconds))
    assert summary["best_step"] == max(scores, key=lambda step: (scores[step], -step))
    assert (out / "curves.png").is_file()
    assert main(["finetune", "--resume", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"] == summary["best"]
    again = Config.from_settings(config_file.read(out / "config.toml"))
    assert again.val_bin == (str(lfw / "set_a.bin"), str(lfw / "set_b.bin"))


@pytest.mark.slow
def test_a_frozen_net_gives_the_same_figures(people, lfw, tmp_path):
    """Through features that are computed once; held-out people are there too and choose, as they were asked for."""
    out = tmp_path / "out"
    words = [*sets(lfw), "--freeze-to", "pool1b", "--steps", 3, "--val-share", 0.3, "--val-limit", 40]
    assert main(flags(people, out, *words)) == 0
    summary = json.loads((out / "metrics.json").read_text())
    assert summary["before"]["tar"] is not None and summary["held_out"]["identities"] == 2
    for name, figures in expected((NET, WEIGHTS), lfw, 0.1).items():
        for figure, value in figures.items():
            assert summary["before"]["sets"][name][figure] == pytest.approx(value, abs=1e-9)


@pytest.mark.slow
def test_sets_that_cannot_be(people, lfw, tmp_path, capsys):
    def told(*more: object) -> str:
        assert main(flags(people, tmp_path / "out", "--steps", 1, *more)) == 2
        return capsys.readouterr().err

    paths = sorted(lfw.glob("images/*/*.png"))
    assert "--val-pairs needs its images: --val-images IMAGES" in told("--val-pairs", lfw / "pairs.txt")
    assert "--val-images IMAGES are those of --val-pairs" in told("--val-images", lfw / "images")
    assert "--val-bin no.bin: no such file or folder" in told("--val-bin", lfw / "set_a.bin", "no.bin")
    assert "--val-images 3: expected 4 or more" in told("--val-images", 3)
    words = ("--val-pairs", lfw / "pairs.txt", "--val-images", people)
    assert "pairs.txt: no features of P_0_0001" in told(*words)
    (tmp_path / "small.bin").write_bytes(pickle.dumps(([b"junk"] * 24, [True, False] * 6)))
    assert "small.bin pair 1 left: is no JPEG" in told("--val-bin", tmp_path / "small.bin", "--on-bad-image", "skip")
    (tmp_path / "few.bin").write_bytes(pickle.dumps(([paths[0].read_bytes()] * 8, [True, False] * 2)))
    assert "4 pairs cannot be put into 10 folds" in told("--val-bin", tmp_path / "few.bin")
    assert not (tmp_path / "out").exists()
    assert "pairs.txt" in told("--val-bin", lfw / "pairs.txt", "--out", tmp_path / "other")
    assert not (tmp_path / "other").exists()
