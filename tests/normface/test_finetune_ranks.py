"""Finetuning on two devices (of the CPU): to the numbers of one, and to an end whatever happens to one of the two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import caffeport
import numpy as np
import pytest
from normface.cli.main import main
from normface.errors import TrainingError
from normface.finetune import Config, finetune
from normface.finetune.launch import launched
from safetensors.torch import load_file
from support.digit_images import digits_config, flags, write_digits

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    return write_digits(tmp_path_factory.mktemp("people"), range(7), 12)


def spoilt(folder: Path, share: float, seed: int) -> Path:
    """Digits of which a share is no image."""
    write_digits(folder, range(7), 12)
    paths = sorted(folder.glob("*/*.png"))
    for number in np.random.default_rng(seed).permutation(len(paths))[: round(share * len(paths))]:
        paths[number].write_bytes(b"junk")
    return folder


def settings(data: Path, out: Path, devices: int, **more: object) -> Config:
    more = {"log_every": 1, "batch_size": 4, "steps": 40, "val_share": 0, "head_init": "random", **more}
    return digits_config(data, out, **{"devices": devices, "on_bad_image": "skip", **more})


def same_model(one: Path, two: Path) -> None:
    """Sums of other order: rounding, which 40 steps with momentum make about ten times as large."""
    first, second = (caffeport.load(out / "deploy.prototxt", out / "model.caffemodel") for out in (one, two))
    for mine, theirs in zip(first.params, second.params, strict=True):
        np.testing.assert_allclose(theirs.data, mine.data, rtol=1e-4, atol=1e-5)
    heads = [load_file(out / "head.safetensors") for out in (one, two)]
    for name, tensor in heads[0].items():
        np.testing.assert_allclose(heads[1][name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.4, 0.9])
@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")
def test_two_devices_are_one_whatever_cannot_be_read(share, tmp_path):
    """Some step of the 40 leaves a rank without an image."""
    data = spoilt(tmp_path / "data", share, seed=3)
    one, two = (finetune(settings(data, tmp_path / str(devices), devices)) for devices in (1, 2))
    assert one.steps == two.steps == 40 and two.ok
    assert sorted(one.left_out) == sorted(two.left_out) and len(one.left_out) == round(share * 84)
    losses = [[row.get("loss", -1) for row in result.rows] for result in (one, two)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4, atol=1e-5)
    same_model(tmp_path / "1", tmp_path / "2")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")
def test_shards_with_damaged_records_are_left_out_by_all_ranks(tmp_path):
    """Four WebDataset shards, two of them mixed at a time: the same images, in the same order, on two devices."""
    data = spoilt(tmp_path / "people", 0.2, seed=5)
    paths = sorted(data.glob("*/*.png"), key=lambda path: path.name)
    (tmp_path / "shards").mkdir()
    for number in range(4):
        with tarfile.open(tmp_path / "shards" / f"digits-{number}.tar", "w") as archive:
            for path in paths[number::4]:
                archive.add(path, path.relative_to(data).as_posix())
    more = {"shard_window": 2, "head_init": "class-means", "head_init_images": 3}
    one, two = (finetune(settings(tmp_path / "shards", tmp_path / f"{n}", n, **more)) for n in (1, 2))
    assert sorted(one.left_out) == sorted(two.left_out) and len(one.left_out) == round(0.2 * 84)
    losses = [[row.get("loss", -1) for row in result.rows] for result in (one, two)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4, atol=1e-5)
    same_model(tmp_path / "1", tmp_path / "2")


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {"loss": "softmax+0.008*center", "accumulate": 3, "optimizer": "adamw"},
        {"loss": "sphereface", "clip_norm": 1.0, "val_share": 0.3, "validate_every": 10, "momentum": 0.5},
        {"loss": "c-contrastive", "loss_options": ["max-positive-only=true"], "freeze_to": "pool1b"},
        {"loss": "curricularface+adaface+elasticface", "loss_options": ["momentum=0.3"]},
        {
            "augment": "face",
            "ema": 0.7,
            "freeze_steps": 4,
            "unfreeze": {"pool1b": 9},
            "layer_decay": 0.8,
            "sampling": "pk",
            "identities": 2,
            "optimizer": "adamw",
        },
    ],
    ids=["centers", "annealing", "frozen", "running", "augmented-averaged"],
)
@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")
def test_what_a_batch_decides_as_a_whole_is_decided_over_all_devices(more, tmp_path):
    """Steps of centers by the counts of a batch, counters of batches, extremes of a batch, norms, scores."""
    data = spoilt(tmp_path / "data", 0.4, seed=4)
    more = {"steps": 20, **more}
    one, two = (finetune(settings(data, tmp_path / str(devices), devices, **more)) for devices in (1, 2))
    same_model(tmp_path / "1", tmp_path / "2")
    for mine, theirs in ((one.before, two.before), (one.best, two.best), (one.last, two.last)):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert theirs.row() == pytest.approx(mine.row(), rel=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")
def test_statistics_of_two_devices_are_the_mean_of_theirs(tmp_path):
    """One step: after it, each statistic is that of the halves' one-device runs, by their images."""
    text = """name: "S"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 8 dim: 8 } } }
layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" }
layer { name: "fc5" type: "InnerProduct" bottom: "bn" top: "fc5"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
"""
    net, weights = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    net.write_text(text)
    caffeport.load(net).with_weights({"bn": [np.ones(1), np.full(1, 2.0), np.ones(1)]}).save(weights)
    data = spoilt(tmp_path / "data", 0.5, seed=5)
    more = {"net": net, "weights": weights, "batch_norm": "train", "batch_size": 84, "steps": 1, "mirror": False}
    for devices in (1, 2):
        assert finetune(settings(data, tmp_path / str(devices), devices, **more)).ok
    mean = [caffeport.load(tmp_path / d / "deploy.prototxt", tmp_path / d / "model.caffemodel") for d in "12"]
    (one, _, _), (two, _, _) = (net.layer("bn").blobs for net in mean)
    np.testing.assert_allclose(two, one, rtol=1e-5)  # means of means, by their images, are the mean
    assert not np.allclose(one, 1)


def command(people: Path, out: Path, *more: object) -> list[str]:
    words = ["--devices", 2, "--batch-size", 4, "--log-every", 1, "--checkpoint-every", 5, "--steps", 100_000, *more]
    return [sys.executable, "-m", "normface", *flags(people, out, "--val-share", 0, *words)]


def started(people: Path, out: Path, *more: object) -> tuple[subprocess.Popen, int]:
    """A run that is under way, and the process of its second rank."""
    leader = subprocess.Popen(
        command(people, out, *more),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (out / "checkpoint.pt").is_file():
        assert leader.poll() is None and time.monotonic() < deadline, leader.communicate()[1]
        time.sleep(0.01)
    (other,) = subprocess.run(["pgrep", "-P", str(leader.pid)], capture_output=True, text=True).stdout.split()
    return leader, int(other)


def gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def ended(leader: subprocess.Popen, other: int, seconds: float = 30) -> list[str]:
    """The lines of error, once both have ended."""
    until = time.monotonic() + seconds
    _, said = leader.communicate(timeout=seconds)
    while not gone(other):
        assert time.monotonic() < until, "the other rank goes on"
        time.sleep(0.01)
    assert "Traceback" not in said
    return [line for line in said.splitlines() if "error" in line.lower()]


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@pytest.mark.slow
@linux
@pytest.mark.parametrize("wait", [0.0, 0.777])
@pytest.mark.parametrize("victim", ["leading", "other"])
def test_a_killed_rank_ends_the_run_with_one_line(people, tmp_path, victim, wait):
    leader, other = started(people, tmp_path / "out")
    time.sleep(wait)
    os.kill(leader.pid if victim == "leading" else other, signal.SIGKILL)
    (line,) = ended(leader, other)
    if victim == "leading":
        assert f"normface: error: the leading rank (process {leader.pid}) is gone; --resume" in line
    else:
        assert f"normface: error: rank 1 (process {other}) was ended by SIGKILL" in line and "--resume" in line
        assert leader.returncode == 1


@pytest.mark.slow
@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_run_that_waits_for_ever(people, tmp_path, number):
    """The other rank is stopped, so that the leading one waits for it within a sum."""
    leader, other = started(people, tmp_path / "out")
    os.kill(other, signal.SIGSTOP)
    time.sleep(0.5)
    leader.send_signal(number)
    time.sleep(0.5)
    assert leader.poll() is None
    leader.send_signal(number)
    assert ended(leader, other, seconds=10) == ["normface: error: interrupted"]
    assert leader.returncode == 128 + number


@pytest.mark.slow
@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_to_all_of_a_terminal_leaves_a_checkpoint(people, tmp_path, number):
    leader, other = started(people, tmp_path / "out")
    os.killpg(leader.pid, number)
    (line,) = ended(leader, other)
    assert "interrupted after step" in line and leader.returncode == 128 + number


@pytest.mark.slow
@linux
def test_a_signal_to_one_rank_stops_all_in_order(people, tmp_path):
    leader, other = started(people, tmp_path / "out")
    os.kill(other, signal.SIGTERM)
    (line,) = ended(leader, other)
    assert "interrupted after step" in line and leader.returncode == 130


def run_to_its_end(words: list[str]) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_what_one_rank_meets_is_told_once(people, tmp_path):
    """An image that cannot be read, among the second rank's alone: of a batch of 84 every other one is its."""
    out = tmp_path / "good"
    assert main(flags(people, out, "--val-share", 0, "--steps", 1, "--batch-size", 84)) == 0
    from normface.finetune.sampling import Sampler

    labels = np.repeat(np.arange(7), 12)
    place = Sampler(labels, 84, seed=0, mirror=False, balanced=False).batch(0).places[1]
    data = write_digits(tmp_path / "data", range(7), 12)
    bad = sorted(data.glob("*/*.png"))[place]
    bad.write_bytes(b"junk")
    more = ["--batch-size", 84, "--steps", 3, "--head-init", "random"]
    done = run_to_its_end(command(data, tmp_path / "out", *more))
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert done.returncode == 2 and bad.name in line and "--on-bad-image skip" in line
    more += ["--on-bad-image", "skip"]
    done = run_to_its_end(command(data, tmp_path / "skipped", *more))
    assert done.returncode == 0 and done.stderr.count("left out:") == 1 and bad.name in done.stderr


@pytest.mark.slow
def test_nothing_but_unreadable_images_is_told_once(tmp_path):
    data = spoilt(tmp_path / "data", 1, seed=0)
    done = run_to_its_end(command(data, tmp_path / "out", "--on-bad-image", "skip", "--head-init", "random"))
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert done.returncode == 2 and "not one image could be read" in line


@pytest.mark.slow
def test_a_broken_run_of_two_goes_on_to_the_same(people, tmp_path):
    more = {"steps": 12, "val_share": 0.3, "validate_every": 4, "loss": "sphereface+0.01*center"}
    whole = finetune(settings(people, tmp_path / "whole", 2, **more))
    config = settings(people, tmp_path / "broken", 2, **more)
    asked = iter(range(1, 100))
    part = finetune(config, should_stop=lambda: next(asked) == 5)
    assert (part.stopped, part.steps) == ("interrupted", 5)
    resumed = finetune(config, resume=True)
    assert resumed.ok and resumed.rows == whole.rows
    for name in ("model.caffemodel", "head.safetensors", "metrics.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()


@pytest.mark.slow
def test_the_environment_is_put_back(people, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = dict(os.environ)
    with pytest.raises(ZeroDivisionError), launched(settings(people, tmp_path, 2), resume=False, overwrite=False):
        raise ZeroDivisionError
    assert dict(os.environ) == before


def test_a_problem_of_the_settings_starts_no_ranks(people, tmp_path):
    with pytest.raises(TrainingError, match="no multiple of the 2 devices"):
        finetune(settings(people, tmp_path / "out", 2, batch_size=3))
