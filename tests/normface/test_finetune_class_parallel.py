"""Finetuning with the class weights' rows shared among devices: to the numbers of one device that has them all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from normface.errors import TrainingError
from normface.finetune import Config, finetune
from safetensors.numpy import load_file
from support.digit_images import NET, WEIGHTS, write_digits

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Digits of which a tenth are no images, so that a step leaves a rank of two without any."""
    folder = write_digits(tmp_path_factory.mktemp("people"), range(7), 12)
    for path in np.random.default_rng(4).permutation(sorted(folder.glob("*/*.png")))[:30]:
        Path(path).write_bytes(b"junk")
    return folder


def settings(data: Path, out: Path, **more: object) -> Config:
    return Config.from_settings(
        {
            "net": NET, "weights": WEIGHTS, "data": data, "embedding": "fc5", "mean": 8, "scale": 0.125, "out": out,
            "device": "cpu", "tensorboard": False, "figure": False, "log_every": 1, "batch_size": 4, "steps": 12,
            "val_share": 0, "on_bad_image": "skip", "checkpoint_every": 6, **more,
        }
    )  # fmt: skip


def same_head(one: Path, two: Path) -> None:
    """Sums in another order, in float32, which steps with momentum make larger."""
    first, second = (load_file(out / "head.safetensors") for out in (one, two))
    assert {*first} == {*second}
    for name, tensor in first.items():
        assert second[name].shape == tensor.shape
        np.testing.assert_allclose(second[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "more",
    [
        {"val_share": 0.3, "validate_every": 4},
        {"loss": "arcface+0.1*mhe", "optimizer": "adamw", "accumulate": 2, "hard_samples": 3},
        {"loss": "softmax+0.008*center", "freeze_to": "pool1b"},
    ],
    ids=["validated", "adamw", "centers"],
)
@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")
def test_shared_rows_train_as_whole_ones(more, people, tmp_path):
    """From the head of an earlier run, since class weights start by other random numbers where rows are shared."""
    finetune(settings(people, tmp_path / "earlier", **(more | {"steps": 1, "hard_samples": None, "val_share": 0})))
    if "val_share" not in more:
        more = more | {"head": tmp_path / "earlier" / "head.safetensors"}
    one = finetune(settings(people, tmp_path / "one", **more))
    two = finetune(settings(people, tmp_path / "two", devices=2, class_parallel=True, **more))
    assert one.steps == two.steps == 12 and two.ok
    losses = [[row.get("loss", -1) for row in result.rows] for result in (one, two)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4, atol=1e-5)
    for mine, theirs in ((one.before, two.before), (one.last, two.last)):
        assert theirs.row() == pytest.approx(mine.row(), rel=1e-4)
    same_head(tmp_path / "one", tmp_path / "two")


@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")
def test_a_run_of_shared_rows_is_resumed_with_and_without(people, tmp_path):
    finetune(settings(people, tmp_path / "one", schedule="constant"))
    out = tmp_path / "two"
    finetune(settings(people, out, schedule="constant", devices=2, class_parallel=True, steps=6))
    assert finetune(settings(people, out, schedule="constant", steps=9), resume=True).steps == 9
    again = settings(people, out, schedule="constant", devices=2, class_parallel=True)
    assert finetune(again, resume=True).steps == 12
    same_head(tmp_path / "one", out)


def test_what_needs_all_rows_in_one_process_is_told(people, tmp_path):
    with pytest.raises(TrainingError, match=r"--ema needs all class weights in one process.*--clip-norm needs all"):
        settings(people, tmp_path, class_parallel=True, ema=0.9, clip_norm=1.0)
    with pytest.raises(TrainingError, match='MHELoss: over="all" needs all class weights in one process'):
        more = {"loss": "sphereface+mhe", "loss_options": ["over=all"], "head_init": "random"}
        finetune(settings(people, tmp_path, devices=2, class_parallel=True, **more))
