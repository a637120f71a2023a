"""Checkpoints of class-parallel trainings: on other numbers of ranks, of other classes, after a kill."""

from __future__ import annotations

import json
import resource
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from normface import losses, parallel
from normface.errors import TrainingError
from support.parallel_training import CLASSES, train
from support.ranks import PATIENCE, run_ranks, started

TRAIN = "support.parallel_training:train"
SAME = 1e-9
"""float64, after some steps of sums in another order."""


def undisturbed(tmp_path: Path, steps: int, *more: object) -> dict:
    return train(str(tmp_path / "undisturbed"), steps, 100, *more)


def weights(results: list[dict]) -> torch.Tensor:
    """All class weights, of all ranks."""
    parts = sorted((result["shard"] for result in results), key=lambda shard: (shard[0], len(shard[1])))
    return torch.tensor([row for _, rows in parts for row in rows], dtype=torch.float64)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("loss", ["curricularface", "sub-center-arcface"])
def test_one_process_resumes_to_the_same_numbers(loss, optimizer, tmp_path, one_thread):
    expected = undisturbed(tmp_path, 6, loss, None, optimizer)
    train(str(tmp_path / "broken"), 4, 2, loss, None, optimizer)
    again = train(str(tmp_path / "broken"), 6, 2, loss, None, optimizer)
    assert again["first"] == 4
    assert [expected["losses"][step] for step in (4, 5)] == [again["losses"][step] for step in (4, 5)]
    assert weights([again]).equal(weights([expected]))


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after", "loss"), [(3, 2, "curricularface"), (2, 4, "sub-center-arcface")])
def test_other_numbers_of_ranks_resume_to_the_same_numbers(before, after, loss, tmp_path, one_thread):
    expected = undisturbed(tmp_path, 6, loss)
    run_ranks(before, TRAIN, str(tmp_path / "broken"), 4, 2, loss)
    results = run_ranks(after, TRAIN, str(tmp_path / "broken"), 6, 2, loss)
    for result in results:
        assert result["first"] == 4
        for step in (4, 5):
            assert result["losses"][str(step)] == pytest.approx(expected["losses"][step], abs=SAME)
    torch.testing.assert_close(weights(results), weights([expected]), rtol=0, atol=SAME)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["curricularface", "sub-center-arcface"])
def test_classes_come_and_go_with_their_weights_and_momentum(loss, tmp_path):
    """Rows in another order are the same training; the labels follow their classes."""
    folder = tmp_path / "broken"
    run_ranks(2, TRAIN, str(folder), 2, 2, loss)
    names = [f"person {number}" for number in range(CLASSES)]
    others = ["new", *names[:5:-1], "newer"]  # without six, in reverse
    found = {}
    for number, order in ((1, names), (3, others)):
        results = run_ranks(number, "support.parallel_training:resumed_rows", str(folder), order, loss)
        for key in ("weight", "momentum", "more", "more momentum"):
            rows = [row for result in results for row in result.get(key, [])]
            found[number, key] = dict(zip(order, rows, strict=True)) if rows else {}
    for key in ("weight", "momentum") if loss == "curricularface" else ("weight", "momentum", "more", "more momentum"):
        before, after = found[1, key], found[3, key]
        assert {name: after[name] for name in names[6:]} == {name: before[name] for name in names[6:]}
        assert any(any(row) for row in before.values())
        if "momentum" in key:
            assert not any(torch.tensor(after[name]).any() for name in ("new", "newer"))
        else:
            assert all(torch.tensor(after[name]).any() for name in ("new", "newer"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "step", "written", "resumes_with"),
    [(0, 5, -1, 2), (1, 5, -1, 3), (0, 3, 0, 2), (2, 3, 600, 1)],
    ids=["first-mid-step", "other-mid-step", "first-mid-save", "other-mid-save"],
)
def test_a_killed_rank_costs_an_interval_at_most(rank, step, written, resumes_with, tmp_path, one_thread):
    expected = undisturbed(tmp_path, 10)
    folder = tmp_path / "broken"
    kill = {"rank": rank, "step": step, "written": written}
    with tempfile.TemporaryDirectory() as meeting:
        arguments = (str(folder), 10, 2, "curricularface", None, "sgd", kill)
        ranks = [started(number, 3, Path(meeting), TRAIN, *arguments) for number in range(3)]
        for process in ranks:
            process.communicate(timeout=PATIENCE)
    assert ranks[rank].returncode == -9
    assert all(process.returncode for process in ranks)  # the others could not go on
    newest = parallel.latest(folder)
    assert newest is not None and newest.name >= f"step-{step // 2 * 2:08d}"
    results = run_ranks(resumes_with, TRAIN, str(folder), 10, 2)
    for result in results:
        assert result["losses"]["9"] == pytest.approx(expected["losses"][9], abs=SAME)
    assert not list(folder.glob(".step*"))


def heads(classes: int = 4) -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    return {"net": torch.nn.Linear(3, 3), "head": parallel.make("arcface", classes, 3)}


def test_a_checkpoint_is_tensors_and_text_and_replaces_older_ones(tmp_path):
    for step in (1, 2, 3, 12):
        path = parallel.save(tmp_path, step, heads(), classes=["a", "b", "ç", "d"], keep=2)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step-00000003", "step-00000012"]
    assert parallel.latest(tmp_path) == path == tmp_path / "step-00000012"
    assert {entry.suffix for entry in path.iterdir()} == {".safetensors", ".json", ".txt"}
    assert json.loads((path / "checkpoint.json").read_text())["step"] == 12
    assert (path / "classes.txt").read_text("utf-8") == "a\nb\nç\nd\n"
    assert parallel.latest(tmp_path / "nowhere") is None
    (tmp_path / "step-00000099").mkdir()  # which a kill left half removed
    assert parallel.latest(tmp_path) == path


def test_what_does_not_fit_is_told(tmp_path):
    path = parallel.save(tmp_path, 1, heads(), classes=list("abcd"))
    with pytest.raises(TrainingError, match=r"step-00000001: has 4 classes, expected 5; classes that come or go need"):
        parallel.load(path, heads(5))
    with pytest.raises(TrainingError, match=r"is of other modules or optimizers; only one of the two has net"):
        parallel.load(path, {"head": heads()["head"]})
    with pytest.raises(TrainingError, match="expected a name for each of 5 classes, got 4"):
        parallel.load(path, heads(5), classes=list("wxyz"))
    with pytest.raises(TrainingError, match="names of classes that differ, each of one line"):
        parallel.save(tmp_path, 2, heads(), classes=["a", "b", "c", "c"])
    with pytest.raises(TrainingError, match="expected to keep one checkpoint or more, got 0"):
        parallel.save(tmp_path, 2, heads(), keep=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"file.*cannot be written"):
        parallel.save(tmp_path / "file" / "deeper", 1, heads())


def test_a_loss_with_all_rows_reads_what_ranks_wrote(tmp_path):
    head = heads()["head"]
    path = parallel.save(tmp_path, 1, {"loss": head.loss})
    whole = losses.make("arcface", 4, 3)
    assert parallel.load(path, {"loss": whole}) == (1, {})
    assert whole.weight.equal(head.loss.weight)
    with pytest.raises(
        TrainingError, match=r"step-00000001: is damaged, or does not fit these modules.*[Ss]ize mismatch"
    ):
        parallel.load(path, {"loss": losses.make("arcface", 5, 3)})


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(tmp_path):
    """As a limit on files: 4 KB of class weights do not go into 1 KB, where the text beside them does."""
    path = parallel.save(tmp_path, 1, heads())
    large = parallel.make("arcface", 256, 4)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(TrainingError, match=r"cannot be written: .*([Ff]ile too large|os error 27)"):
            parallel.save(tmp_path, 2, {"head": large})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert parallel.latest(tmp_path) == path


@pytest.mark.parametrize("harm", ["text", "version", "kind", "names", "tensors", "cut", "gone"])
def test_a_damaged_checkpoint_is_told(harm, tmp_path):
    path = parallel.save(tmp_path, 1, heads(), classes=list("abcd"))
    about = json.loads((path / "checkpoint.json").read_text())
    tensors = max(path.glob("*.safetensors"))  # of the class weights
    if harm == "text":
        (path / "checkpoint.json").write_text("{")
    elif harm == "version":
        (path / "checkpoint.json").write_text(json.dumps(about | {"version": 2}))
    elif harm == "kind":
        (path / "checkpoint.json").write_text(json.dumps(about | {"step": "1"}))
    elif harm == "names":
        (path / "classes.txt").write_text("a\n")
    elif harm == "tensors":
        tensors.write_bytes(b"junk" * 100)
    elif harm == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-8])
    else:
        shutil.rmtree(path)
    for classes in (list("abcd"), list("abce")):
        with pytest.raises(TrainingError, match=r"step-00000001"):
            parallel.load(path, heads(), classes=classes)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"version": 1}',
        "[]",
        '{"version": 1, "step": 1, "tensors": [[]], "notes": {}, "num_classes": 2}',
    ],
)
def test_a_damaged_description_is_told(content, tmp_path):
    folder = parallel.save(tmp_path, 1, {"net": torch.nn.Linear(2, 2)})
    (folder / "checkpoint.json").write_text(content)
    with pytest.raises(TrainingError, match=r"checkpoint\.json: is damaged, or no checkpoint"):
        parallel.load(folder, {"net": torch.nn.Linear(2, 2)})
