"""Finetuning with scores of a share of the classes alone (--sample-rate): all but those scores is dense SGD's."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from normface.cli.main import main
from normface.errors import TrainingError
from normface.finetune import Config, find_lr, finetune
from normface.finetune.checkpoint import saved
from normface.finetune.collectives import Ranks
from normface.parallel import RowSGD
from safetensors.numpy import load_file
from support.digit_images import digits_config, flags, same_head, write_digits

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning"),  # a schedule told in shares, of a longer run
]

PULLS = {"loss": "c-contrastive", "loss_options": ["negative_margin=-1"]}
"""No class but the label's has a gradient, whichever are drawn: a run of sampled classes is one of all classes."""
STRONG = {"weight_decay": 0.1, "lr": 0.01, "head_lr_mult": 5.0, "accumulate": 2}


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    return write_digits(tmp_path_factory.mktemp("people"), range(7), 12)


def settings(data: Path, out: Path, **more: object) -> Config:
    more = {"log_every": 1, "batch_size": 4, "steps": 12, "val_share": 0, **more}
    return digits_config(data, out, **{"checkpoint_every": 6, "class_parallel": True, **more})


def head_of(out: Path) -> dict[str, np.ndarray]:
    return load_file(out / "head.safetensors")


def bytes_of(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in ("head.safetensors", "model.caffemodel")]


def kept_of(out: Path) -> dict[str, list[np.ndarray]]:
    """The tensors of the newest checkpoint, each in the pieces that its ranks wrote."""
    newest = saved(out)
    assert newest is not None
    found: dict[str, list[np.ndarray]] = {}
    for path in sorted(newest.glob("*.safetensors")):
        for name, tensor in load_file(path).items():
            found.setdefault(name, []).append(tensor)
    return found


def after(steps: int) -> Callable[[], bool]:
    """Ask for the end after so many steps."""
    asked = iter(range(1, steps + 1))
    return lambda: next(asked, steps) == steps


@pytest.mark.slow
def test_a_rate_of_1_is_the_run_without_it(people, tmp_path):
    finetune(settings(people, tmp_path / "one", devices=2))
    finetune(settings(people, tmp_path / "two", devices=2, sample_rate=1))
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    assert "rows.draws" not in kept_of(tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["arcface", "curricularface+0.3*ring", "normalized-softmax+0.3*c-triplet"])
def test_where_all_are_drawn_the_run_is_that_of_all_classes(loss, people, tmp_path):
    """0.99 of four classes, or of three, are all of them; RowSGD makes the steps."""
    finetune(settings(people, tmp_path / "one", devices=2, loss=loss, **STRONG))
    for devices in (1, 2):
        finetune(settings(people, tmp_path / "two", devices=devices, loss=loss, sample_rate=0.99, **STRONG),
                 overwrite=True)  # fmt: skip
        same_head(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_rows_that_are_not_drawn_take_momentum_and_decay_all_the_same(devices, people, tmp_path):
    """At rates of a cosine, and over --freeze-steps."""
    more = {**PULLS, **STRONG, "freeze_steps": 3}
    finetune(settings(people, tmp_path / "one", **more))
    finetune(settings(people, tmp_path / "two", devices=devices, sample_rate=0.3, **more))
    same_head(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_class_weights_may_be_all_that_trains(people, tmp_path):
    more = {**PULLS, "freeze_backbone": True}
    finetune(settings(people, tmp_path / "one", **more))
    finetune(settings(people, tmp_path / "two", devices=2, sample_rate=0.3, **more))
    same_head(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_two_devices_learn_from_a_share_of_the_classes(people, tmp_path):
    more = {"val_share": 0.3, "validate_every": 20, "steps": 60, "lr": 0.01, "batch_size": 8, "loss": "am-softmax"}
    result = finetune(settings(people, tmp_path / "out", devices=2, sample_rate=0.3, head_init="random", **more))
    assert result.ok and result.last.training_loss < result.before.training_loss / 4
    assert result.last.auc > 0.8 and result.last.tar > result.before.tar - 0.1
    kept = kept_of(tmp_path / "out")
    assert [piece.shape[0] for piece in kept["loss.weight"]] == [3, 2]
    assert [piece.shape[0] for piece in kept["optimizer.momentum_buffer.loss.weight"]] == [3, 2]
    assert int(kept["rows.draws"][0]) == 60


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_resumed_run_draws_and_steps_as_one_that_was_not_broken(devices, people, tmp_path):
    more = {"devices": devices, "sample_rate": 0.3, "schedule": "constant", "loss": "arcface", **STRONG}
    finetune(settings(people, tmp_path / "one", **more))
    out = tmp_path / "two"
    finetune(settings(people, out, steps=6, **more))
    finetune(settings(people, out, **more), resume=True)
    assert bytes_of(tmp_path / "one") == bytes_of(out)
    assert int(kept_of(out)["rows.draws"][0]) == 24


@pytest.mark.slow
def test_a_break_between_checkpoints_rounds_rows_at_another_step(people, tmp_path):
    more = {"sample_rate": 0.3, "loss": "arcface", **STRONG}
    finetune(settings(people, tmp_path / "one", **more))
    assert finetune(settings(people, tmp_path / "two", **more), should_stop=after(4)).steps == 4
    finetune(settings(people, tmp_path / "two", **more), resume=True)
    same_head(tmp_path / "one", tmp_path / "two", rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_another_number_of_devices_goes_on_with_rows_and_momentum(people, tmp_path):
    """Which rows are drawn is another matter; here they have no gradient."""
    more = {**PULLS, **STRONG, "schedule": "constant", "batch_size": 6}
    finetune(settings(people, tmp_path / "one", steps=18, **more))
    for devices, steps in ((2, 6), (1, 12), (3, 18)):
        config = settings(people, tmp_path / "two", devices=devices, steps=steps, sample_rate=0.3, **more)
        assert finetune(config, resume=steps > 6).steps == steps
        assert int(kept_of(tmp_path / "two")["rows.draws"][0]) == 2 * steps
    same_head(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_gradients_are_of_the_drawn_rows_alone(people, tmp_path, monkeypatch):
    """Of seven classes two, or as many as the images of a batch have; of two batches' sum, those of both."""
    rows: list[int] = []
    step = RowSGD.step

    def looked_at(self: RowSGD, closure: object = None) -> None:
        (weight,) = self.param_groups[0]["params"]
        assert weight.grad.is_sparse and weight.grad.is_coalesced() and weight.grad.shape == (7, 32)
        rows.append(len(weight.grad.indices()[0]))
        step(self, closure)

    monkeypatch.setattr(RowSGD, "step", looked_at)
    finetune(settings(people, tmp_path / "out", sample_rate=0.3, batch_size=1))
    assert rows == [2] * 12
    rows.clear()
    finetune(settings(people, tmp_path / "out", sample_rate=0.3, batch_size=1, accumulate=2), overwrite=True)
    assert len(rows) == 12 and {*rows} <= {2, 3, 4} and max(rows) > 2


@pytest.mark.slow
def test_a_run_that_diverges_exports_the_checkpoint_as_it_is(people, tmp_path, monkeypatch):
    """Rows that waited for steps when the loss became NaN make none behind the checkpoint's."""
    mean, asked = Ranks.mean, iter(range(1, 100))
    monkeypatch.setattr(
        Ranks, "mean", lambda ranks, loss, stop: [math.nan if next(asked) == 6 else loss, *mean(ranks, stop)]
    )
    result = finetune(settings(people, tmp_path / "out", sample_rate=0.3, checkpoint_every=3, **STRONG))
    assert result.diverged == "the loss is nan at step 6" and result.steps == 5
    (weight,) = kept_of(tmp_path / "out")["loss.weight"]
    assert np.array_equal(head_of(tmp_path / "out")["weight"], weight)


@pytest.mark.slow
def test_the_finder_samples_too(people, tmp_path, monkeypatch):
    monkeypatch.setattr(find_lr, "STEPS", 24)
    found = find_lr.find(settings(people, tmp_path, devices=2, sample_rate=0.3, head_init="random"))
    assert 1e-6 < found.suggestion < 1 and not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"class_parallel": False}, "--sample-rate needs --class-parallel, which one device takes too; give both"),
        ({"optimizer": "adamw"}, "--sample-rate goes with --optimizer sgd alone, not adamw"),
        ({"ema": 0.9}, "--ema averages all class weights at each step; leave it or --sample-rate out"),
        ({"clip_norm": 1.0}, "--clip-norm does not go with --sample-rate; leave one of them out"),
        ({"head_lr_mult": 0}, "--head-lr-mult 0 trains no class weights; leave it or --sample-rate out"),
        ({"sample_rate": 0}, "--sample-rate 0.0: expected above 0, to 1"),
        ({"sample_rate": 1.5}, "--sample-rate 1.5: expected above 0, to 1"),
        ({"sample_rate": "some"}, "--sample-rate: expected a number, got 'some'"),
        ({"loss": "softmax+center"}, "--loss: CenterLoss: reads class weights beside the scores, which does not go"),
        ({"loss": "sphereface+mhe"}, "--loss: MHELoss: reads class weights beside the scores, which does not go"),
        ({"loss": "sub-center-arcface"}, "--loss: SubCenterArcFaceLoss: has sub-centers, which does not go"),
        ({"loss": "softmax", "loss_options": ["bias=true"]}, "--loss: SoftmaxLoss: has a bias, which does not go"),
        (
            {"loss_options": ["label_smoothing=0.1"]},
            "--loss: NormalizedSoftmaxLoss: with label_smoothing computes the scores twice, which does not go",
        ),
    ],
)
def test_what_does_not_go_with_a_rate_is_told_at_once(more, words, tmp_path):
    with pytest.raises(TrainingError) as told:
        settings(tmp_path, tmp_path / "out", **{"sample_rate": 0.3, **more})
    assert words in str(told.value) and "\n" not in str(told.value)


def test_the_command_ends_with_2_and_one_line(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    assert main(flags(tmp_path / "data", tmp_path / "out", "--sample-rate", "0.3", "--optimizer", "adamw")) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "--sample-rate needs --class-parallel" in said and "not adamw" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_resumed_run_keeps_its_rate(people, tmp_path):
    finetune(settings(people, tmp_path, sample_rate=0.3, steps=2))
    with pytest.raises(TrainingError, match=r"--sample-rate was 0.3, now 0.5"):
        finetune(settings(people, tmp_path, sample_rate=0.5, steps=2), resume=True)
