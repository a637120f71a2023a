"""benchmarks/sampled_faces.py on made-up people: all classes are torch's own SGD, and a sample is not."""

from __future__ import annotations

import importlib

import pytest

from experiments.embedding import BATCH, Shown, Task, one_row, softmax_of
from experiments.identities import people

ROW = "normalised softmax, learned scale"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def faces():
    return importlib.import_module("sampled_faces")


@pytest.fixture(scope="module")
def task():
    known, unseen = (Shown(part.images, part.images, part.labels) for part in people(0, known=60, unseen=40, each=6))
    return Task(known, unseen, hidden=32, size=16, epochs=6, far=0.01)


def test_all_classes_verify_what_the_experiment_does(faces, task):
    start = softmax_of(task, 0, 0.03)
    assert faces.verified(task, 0, ROW, 1.0, 0.1, BATCH, start) == pytest.approx(one_row(task, 0, ROW, 0.1, start))


def test_what_is_scored_is_a_share_of_the_classes_or_those_of_the_batch(faces, task):
    """Of 360 images of 60 people: a batch of all has all classes, one of four has at most four."""
    assert faces.scored(task, 0.1, 360) == 1
    assert faces.scored(task, 0.1, 4) == pytest.approx(6 / 60)


def test_the_table_has_each_share_and_the_verdict_is_of_it(faces, task, monkeypatch, capsys):
    """Full 50 and 52, deviation sqrt 2; 49 is within it, and 48 is not."""
    values = {1.0: {0: 50.0, 1: 52.0}, 0.1: {0: 49.0, 1: 51.0}, 0.2: {0: 48.0, 1: 50.0}}
    monkeypatch.setattr(faces, "SEEDS", range(2))
    monkeypatch.setattr(faces, "LOSSES", (ROW,))
    monkeypatch.setattr(faces, "verified", lambda task, seed, row, share, *rest: values[share].get(seed, 0.0))
    monkeypatch.setattr(faces.embedding, "softmax_of", lambda task, seed, rate: (None, None))
    monkeypatch.setattr(faces.embedding, "by_rate", lambda task, seed, before, rows: {rows[0]: {0.1: 1.0, 0.3: 2.0}})
    table = faces.measure(task, 4)
    assert [(row["sample rate"], row["within"]) for row in table] == [(1.0, True), (0.1, True), (0.2, False)]
    assert "within one deviation of all classes' at 0.1 and 0.2: missed" in capsys.readouterr().out
