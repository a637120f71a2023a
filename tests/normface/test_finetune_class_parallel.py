"""Finetuning with the class weights' rows shared among devices: to the numbers of one device that has them all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from normface.errors import TrainingError
from normface.finetune import Config, finetune
from normface.finetune.checkpoint import saved
from safetensors.numpy import load_file
from support.digit_images import digits_config, flags, same_head, write_digits

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning"),  # of the images that are none
]


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Digits of which a tenth are no images, so that a step leaves a rank of two without any."""
    folder = write_digits(tmp_path_factory.mktemp("people"), range(7), 12)
    for path in np.random.default_rng(4).permutation(sorted(folder.glob("*/*.png")))[:30]:
        Path(path).write_bytes(b"junk")
    return folder


def settings(data: Path, out: Path, **more: object) -> Config:
    more = {"log_every": 1, "batch_size": 4, "steps": 12, "val_share": 0, "on_bad_image": "skip", **more}
    return digits_config(data, out, **{"checkpoint_every": 6, **more})


@pytest.mark.parametrize(
    "more",
    [
        {"val_share": 0.3, "validate_every": 4},
        {"loss": "arcface+0.1*mhe", "optimizer": "adamw", "accumulate": 2, "hard_samples": 3},
        {"loss": "softmax+0.008*center", "freeze_to": "pool1b"},
        {"ema": 0.6, "clip_norm": 0.05, "val_share": 0.3, "validate_every": 4},
        {"ema": 0.6, "clip_norm": 0.5, "loss": "curricularface+0.1*center", "accumulate": 2},
    ],
    ids=["validated", "adamw", "centers", "averaged and clipped", "of a sum"],
)
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


def test_a_run_of_shared_rows_is_resumed_with_and_without(people, tmp_path):
    finetune(settings(people, tmp_path / "one", schedule="constant"))
    out = tmp_path / "two"
    finetune(settings(people, out, schedule="constant", devices=2, class_parallel=True, steps=6))
    assert finetune(settings(people, out, schedule="constant", steps=9), resume=True).steps == 9
    again = settings(people, out, schedule="constant", devices=2, class_parallel=True)
    assert finetune(again, resume=True).steps == 12
    same_head(tmp_path / "one", out)


def test_what_ranks_cannot_share_is_told(people, tmp_path):
    with pytest.raises(TrainingError, match="--precision 16-mixed does not go with --class-parallel; choose bf16"):
        settings(people, tmp_path, class_parallel=True, precision="16-mixed")
    with pytest.raises(TrainingError, match='MHELoss: over="all" needs all class weights in one process'):
        more = {"loss": "sphereface+mhe", "loss_options": ["over=all"], "head_init": "random"}
        finetune(settings(people, tmp_path, devices=2, class_parallel=True, **more))


def test_each_rank_writes_its_own_rows_alone(people, tmp_path):
    """Seven people, two of whom validate: of five classes two ranks have three and two; the momentum too."""
    out = tmp_path / "out"
    finetune(settings(people, out, devices=2, class_parallel=True, val_share=0.3, validate_every=6))
    assert not (out / "checkpoint.pt").exists() and not (out / "best.pt").exists()
    for folder, names in (
        ("checkpoint", {"loss.weight", "optimizer.momentum_buffer.loss.weight"}),
        ("best", {"loss.weight"}),
    ):
        (kept,) = (out / folder).iterdir()
        shapes = {name: [] for name in names}
        for path in sorted(kept.glob("*.safetensors")):
            for name, tensor in load_file(path).items():
                if name in shapes:
                    shapes[name].append(tensor.shape[0])
        assert {name: sorted(rows) for name, rows in shapes.items()} == {name: [2, 3] for name in names}


def test_what_the_ranks_wrote_goes_on_without_sharing_and_back(people, tmp_path):
    out = tmp_path / "out"
    more = {"schedule": "constant", "val_share": 0.3, "validate_every": 3, "batch_size": 6, "ema": 0.5}
    finetune(settings(people, out, devices=2, class_parallel=True, steps=6, **more))
    finetune(settings(people, out, steps=9, **more), resume=True)
    assert (out / "checkpoint.pt").is_file() and not (out / "checkpoint").exists()
    finetune(settings(people, out, devices=3, class_parallel=True, steps=12, **more), resume=True)
    assert not (out / "checkpoint.pt").exists() and saved(out) == out / "checkpoint" / "step-00000012"
    finetune(settings(people, tmp_path / "one", steps=12, **more))
    same_head(tmp_path / "one", out)


def test_a_checkpoint_of_other_images_is_refused(people, tmp_path):
    out = tmp_path / "out"
    finetune(settings(people, out, devices=2, class_parallel=True, steps=2))
    path = sorted(people.glob("3/*.png"))[0]
    path.rename(path.with_name("other.png"))
    try:
        with pytest.raises(TrainingError, match="the images or the weights changed since it was written"):
            finetune(settings(people, out, devices=2, class_parallel=True, steps=2), resume=True)
    finally:
        path.with_name("other.png").rename(path)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="pgrep reads /proc")
@pytest.mark.parametrize(("victim", "devices"), [("leading", 1), ("other", 3)])
def test_a_kill_within_a_save_costs_one_interval_at_most(victim, devices, people, tmp_path):
    more = {"batch_size": 6, "schedule": "constant", "steps": 60, "checkpoint_every": 5, "mirror": False}
    finetune(settings(people, tmp_path / "one", **more))
    out = tmp_path / "killed"
    words = ["--devices", 2, "--class-parallel", "--batch-size", 6, "--schedule", "constant", "--steps", 60]
    words += ["--checkpoint-every", 5, "--val-share", 0, "--on-bad-image", "skip", "--log-every", 1]
    run = subprocess.Popen(
        [sys.executable, "-m", "normface", *flags(people, out, *words)], env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 300
    while not (
        under_way := [path.name for path in out.glob("checkpoint/.step-*.part") if path.name > ".step-00000010"]
    ):
        assert run.poll() is None and time.monotonic() < until, run.communicate()[1][-3000:]
    killed = run.pid
    if victim == "other":
        (killed,) = map(
            int, subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True).stdout.split()
        )
    os.kill(killed, signal.SIGKILL)
    run.communicate(timeout=120)
    newest = saved(out)
    assert newest is not None
    saving, whole = int(under_way[0][6:14]), int(newest.name[5:])
    assert whole in (saving - 5, saving)
    finetune(settings(people, out, devices=devices, class_parallel=devices > 1, **more), resume=True)
    same_head(tmp_path / "one", out, rtol=1e-3, atol=1e-4)  # 60 steps with momentum make the sums' rounding larger
