"""The learning rate finder, the list of hard samples, and the loggers."""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
from normface.cli.main import main
from normface.errors import TrainingError
from normface.finetune import find_lr, loggers
from normface.finetune.hard_samples import hardest
from support.digit_images import flags, write_digits

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    return write_digits(tmp_path_factory.mktemp("people"), range(7), 8)


def test_the_suggestion_is_where_the_loss_falls_fastest():
    """A loss that falls like a logistic curve around 1e-3 and rises from 1 on."""
    rates = np.geomspace(1e-6, 10, 100).tolist()
    losses = [3 - 2 / (1 + math.exp(-4 * (math.log10(rate) + 3))) + 5 * max(0, math.log10(rate)) for rate in rates]
    found = find_lr.judged(rates, losses)
    assert 1e-3 < found.steepest < 6e-3  # the smoothing lags by some ten of the 14 steps of a decade
    assert 0.3 < found.least < 3 and found.suggestion == min(found.steepest, found.least / 10)
    average = 0.0
    for number, (loss, curve) in enumerate(zip(losses, found.smoothed, strict=True), 1):
        average = 0.9 * average + 0.1 * loss
        assert curve == pytest.approx(average / (1 - 0.9**number))
    with pytest.raises(TrainingError, match="the loss falls at no learning rate"):
        find_lr.judged(rates, [1 + rate for rate in rates])
    with pytest.raises(TrainingError, match="the loss falls at no learning rate"):
        find_lr.judged([1e-6], [math.nan])


@pytest.mark.slow
def test_finding_changes_nothing(people, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(find_lr, "STEPS", 24)
    words = flags(people, tmp_path / "out", "--head-init", "random", "--find-lr-figure", tmp_path / "lr.png")
    words = [word for index, word in enumerate(words) if "--out" not in (word, words[index - 1])]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 1e-6 < found["suggestion"] < 1 and len(found["rates"]) == len(found["losses"]) == len(found["smoothed"])
    assert cv2.imread(str(tmp_path / "lr.png")).std() > 10
    assert [path.name for path in tmp_path.iterdir()] == ["lr.png"]
    assert main([*words, "--quiet", "--devices", "2"]) == 0  # on one of them
    shown = capsys.readouterr().out
    assert f"suggestion: --lr {found['suggestion']:.2g}" in shown and "smoothed" in shown


def test_the_least_alike_are_those_of_the_loops():
    random = np.random.default_rng(2)
    labels = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3])
    x = random.normal(size=(10, 4)).astype(np.float32)
    x[7] = 0
    units = np.array([row / np.linalg.norm(row) if row.any() else row for row in x])
    cosines = {}
    for i in range(10):
        others = [units[j] for j in range(10) if labels[j] == labels[i] and j != i]
        if others:
            mean = np.sum(others, axis=0)
            cosines[i] = float(units[i] @ mean / np.linalg.norm(mean))
    found = hardest(x, labels, 20)
    assert [one.place for one in found] == sorted(cosines, key=lambda i: (cosines[i], i))
    for one in found:
        assert one.cosine == pytest.approx(cosines[one.place], abs=1e-6)
        near = {c: np.sum(units[labels == c], axis=0) for c in range(4) if c != labels[one.place]}
        scores = {c: float(units[one.place] @ mean / np.linalg.norm(mean)) for c, mean in near.items()}
        assert one.nearest_cosine == pytest.approx(max(scores.values()), abs=1e-6)
        assert (one.label, one.images) == (labels[one.place], (labels == labels[one.place]).sum())
    assert [one.place for one in hardest(x, labels, 3)] == [one.place for one in found[:3]]


@pytest.mark.slow
def test_a_wrong_label_is_first(tmp_path, capsys):
    write_digits(tmp_path / "people", range(7), 12)
    wrong = tmp_path / "people" / "3" / "wrong.png"
    shutil.copy(sorted((tmp_path / "people" / "6").iterdir())[0], wrong)
    words = ["--val-share", 0, "--steps", 3, "--hard-samples", 5, "--json"]
    assert main(flags(tmp_path / "people", tmp_path / "out", *words)) == 0
    printed = json.loads(capsys.readouterr().out)["hard_samples"]
    with open(tmp_path / "out" / "hard_samples.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(printed) == 5
    assert (rows[0]["image"], rows[0]["identity"], rows[0]["nearest"]) == ("3/wrong.png", "3", "6")
    assert float(rows[0]["cosine"]) == printed[0]["cosine"] < float(rows[0]["nearest_cosine"])
    assert [float(row["cosine"]) for row in rows] == sorted(float(row["cosine"]) for row in rows)
    assert cv2.imread(str(tmp_path / "out" / "hard_samples.png")).shape[1] > 800


class Board:
    """What a service has been told: {run: its settings}, [(run, step, metrics)], and the runs that are closed."""

    def __init__(self) -> None:
        self.runs: dict[str, dict] = {}
        self.logged: list[tuple[str, int, dict]] = []
        self.closed: list[str] = []
        self.fails_from = math.inf

    def log(self, run: str, step: int, metrics: dict) -> None:
        if len(self.logged) >= self.fails_from:
            raise ConnectionError("the service is gone")
        self.logged.append((run, step, metrics))


@pytest.fixture
def wandb(monkeypatch) -> Board:
    board = Board()

    class Run:
        def __init__(self, name: str) -> None:
            self.config, self._name = board.runs.setdefault(name, {}), name
            self.config = types.SimpleNamespace(update=lambda values, **_: board.runs[name].update(values))

        def log(self, metrics: dict, step: int) -> None:
            board.log(self._name, step, metrics)

        def finish(self) -> None:
            board.closed.append(self._name)

    module = types.ModuleType("wandb")
    module.__spec__ = types.SimpleNamespace(name="wandb")  # as find_spec asks for
    module.init = lambda **options: Run(options["id"])
    monkeypatch.setitem(sys.modules, "wandb", module)
    return board


@pytest.mark.slow
def test_wandb_is_told_every_line_and_goes_on_with_its_run(people, tmp_path, wandb, capsys):
    out = tmp_path / "out"
    words = ["--steps", 4, "--log-every", 2, "--val-share", 0.4, "--validate-every", 2, "--log", "wandb,tensorboard"]
    assert main(flags(people, out, *words)) == 0
    (run,) = wandb.runs
    assert wandb.runs[run]["lr"] == 0.001 and wandb.closed == [run]
    assert [step for _, step, _ in wandb.logged] == [0, 2, 4]
    with open(out / "metrics.csv") as stream:
        last = list(csv.DictReader(stream))[-1]
    assert wandb.logged[-1][2]["training/loss"] == float(last["loss"])
    assert wandb.logged[-1][2]["validation/tar"] == float(last["tar"])
    assert list((out / "tensorboard").iterdir())
    capsys.readouterr()
    assert main(["finetune", "--resume", "--out", str(out), "--steps", "6"]) == 0
    assert list(wandb.runs) == [run] and wandb.logged[-1][:2] == (run, 6)
    wandb.fails_from = 6
    assert main(flags(people, out, *words, "--overwrite")) == 0
    assert "wandb is left out from here on: ConnectionError: the service is gone" in capsys.readouterr().err
    assert len(wandb.runs) == 2  # another run


def test_mlflow_has_the_run_too(people, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    words = ["--steps", 4, "--log-every", 2, "--val-share", 0, "--log", "mlflow"]
    assert main(flags(people, tmp_path / "out", *words)) == 0
    assert main(["finetune", "--resume", "--out", str(tmp_path / "out"), "--steps", "6"]) == 0
    client = mlflow.MlflowClient()
    place = client.get_experiment_by_name("normface").experiment_id
    (run,) = client.search_runs([place])
    assert [one.step for one in client.get_metric_history(run.info.run_id, "training/loss")] == [2, 4, 6]
    assert run.data.params["lr"] == "0.001" and run.info.status == "FINISHED"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wandbb", r'"wandbb" is unknown \(did you mean "wandb"\?\); there are tensorboard, wandb, mlflow'),
        (",", '"," names nothing'),
        ("absent_package", "absent_package is not installed: pip install absent-package"),
    ],
)
def test_loggers_that_are_none(monkeypatch, text, message):
    monkeypatch.setitem(loggers.INSTALL, "absent_package", "absent-package")
    with pytest.raises(TrainingError, match=message):
        loggers.parse(text)


def test_a_logger_that_cannot_start_ends_the_run(people, tmp_path, wandb, capsys):
    def refuse(**options: object) -> None:
        raise PermissionError("no API key configured\nsecond line")

    sys.modules["wandb"].init = refuse
    assert main(flags(people, tmp_path / "out", "--steps", 2, "--log", "wandb")) == 2
    assert "--log wandb: PermissionError: no API key configured\n" in capsys.readouterr().err
