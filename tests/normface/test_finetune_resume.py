"""A run that is broken off and resumed comes to the same files, byte for byte, as one that was not (on the CPU)."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from normface import losses
from normface.cli.main import main
from normface.finetune import Config, finetune
from support.digit_images import NET, WEIGHTS, flags, write_digits

SAME = ("model.caffemodel", "head.safetensors", "model.onnx", "metrics.csv")


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    return write_digits(tmp_path_factory.mktemp("people"), range(7), 10)


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Path:
    """The digits net with Dropout before its embedding, which draws random numbers at every step."""
    path = tmp_path_factory.mktemp("net") / "dropout.prototxt"
    dropout = 'layer { name: "drop" type: "Dropout" bottom: "pool2" top: "pool2" }\n'
    before, name, last = NET.read_text().rpartition('layer {\n  name: "fc5"')
    path.write_text(before + dropout + name + last)
    return path


def settings(people: Path, net: Path, out: Path, **more: object) -> dict[str, object]:
    return {
        "net": net, "weights": WEIGHTS, "data": people, "embedding": "fc5", "mean": 8, "scale": 0.125, "out": out,
        "loss": "sphereface+0.01*center", "sampling": "balanced", "batch_size": 8, "accumulate": 2, "val_share": 0.3,
        "steps": 14, "validate_every": 4, "checkpoint_every": 3, "log_every": 5, "device": "cpu", "tensorboard": False,
        "figure": False, **more,
    }  # fmt: skip


def write_set(people: Path, path: Path) -> Path:
    """A .bin set of 24 pairs of these people."""
    faces = sorted(people.glob("*/*.png"))
    genuine = [(10 * i % 70, 10 * i % 70 + 1 + i // 7) for i in range(12)]
    impostor = [(i, i + 17) for i in range(12)]
    images = [faces[place].read_bytes() for pair in genuine + impostor for place in pair]
    order = np.random.default_rng(0).permutation(24)
    shuffled = [images[2 * pair + side] for pair in order for side in (0, 1)]
    path.write_bytes(pickle.dumps((shuffled, [bool(pair < 12) for pair in order])))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"precision": "bf16-mixed", "optimizer": "adamw", "loss": "normalized-softmax", "sampling": "plain"},
        {"freeze_to": "pool1b", "batch_size": 4},
        {"loss": "curricularface+adaface+elasticface"},
        {"augment": "face", "ema": 0.8, "freeze_steps": 2, "unfreeze": {"pool1b": 0.5}, "layer_decay": 0.7},
        {
            "sampling": "pk",
            "identities": 2,
            "per_identity": 4,
            "optimizer": "adamw",
            "augment": "face,crop:1",
            "ema": 0.5,
            "freeze_steps": 6,
            "batch_norm": "train",
            "val_share": 0,
            "val_bin": "digits.bin",
        },
        {"loss": "arcface+0.01*ring+0.1*mhe", "margin_warmup": 6},
    ],
    ids=["sgd", "bf16-adamw", "frozen", "running", "augmented-averaged", "pk-sets", "warm-up"],
)
@pytest.mark.parametrize("stop", [1, 4, 8])
def test_resumed_is_unbroken(people, net, tmp_path, more, stop):
    if "val_bin" in more:
        more = more | {"val_bin": write_set(people, tmp_path / str(more["val_bin"]))}
    whole = finetune(Config.from_settings(settings(people, net, tmp_path / "whole", **more)))
    config = Config.from_settings(settings(people, net, tmp_path / "broken", **more))
    asked = iter(range(1, 100))
    part = finetune(config, should_stop=lambda: next(asked) == stop)
    assert (part.stopped, part.steps, part.proofs) == ("interrupted", stop, [])
    assert not (tmp_path / "broken" / "model.caffemodel").exists()
    torch.manual_seed(99)  # whatever the random numbers were elsewhere
    resumed = finetune(config, resume=True)
    assert resumed.ok and (resumed.best, resumed.last, resumed.before) == (whole.best, whole.last, whole.before)
    for name in SAME:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()


def started(people: Path, net: Path, out: Path, steps: int) -> subprocess.Popen:
    """The command in a process of its own, once it has written a good many lines."""
    words = [*flags(people, out, "--net", net, "--steps", steps), *("--checkpoint-every", "7", "--log-every", "1")]
    process = subprocess.Popen(
        [sys.executable, "-m", "normface", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not ((out / "metrics.csv").is_file() and (out / "metrics.csv").read_text().count("\n") > 30):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.01)
    return process


@pytest.mark.slow
def test_killed_without_a_word(people, net, tmp_path):
    process = started(people, net, tmp_path / "killed", 120)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)
    (tmp_path / "killed" / ".checkpoint.pt.abc.part").write_bytes(b"half")  # as if it was killed while writing
    assert not (tmp_path / "killed" / "model.caffemodel").exists()
    assert main(["finetune", "--resume", "--out", str(tmp_path / "killed")]) == 0
    assert not list((tmp_path / "killed").glob(".*"))
    more = ["--steps", 120, "--checkpoint-every", 7, "--log-every", 1, "--net", net]
    assert main(flags(people, tmp_path / "whole", *more)) == 0
    for name in SAME:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


def test_a_folder_without_a_run_is_named(tmp_path, capsys):
    assert main(["finetune", "--resume", "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert f"--resume: {tmp_path} holds no run to go on with (it has no config.toml)" in told and "problems" not in told


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint(people, net, tmp_path, capsys):
    process = started(people, net, tmp_path / "out", 100_000)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "--resume" in shown and "Traceback" not in shown
    saved = torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)["position"]["step"]
    assert f"interrupted after step {saved};" in shown
    assert main(["finetune", "--resume", "--out", str(tmp_path / "out"), "--steps", str(saved + 1)]) == 2
    assert "--steps was 100000, now" in capsys.readouterr().err


@pytest.mark.slow
def test_a_finished_run_is_told_again(people, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(flags(people, out, "--steps", 3, "--json")) == 0
    first = json.loads(capsys.readouterr().out)
    before = (out / "model.caffemodel").read_bytes()
    assert main(["finetune", "--resume", "--out", str(out), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again | {"seconds": 0} == first | {"seconds": 0}
    assert (out / "model.caffemodel").read_bytes() == before


@pytest.mark.slow
def test_nothing_to_resume_is_a_start(people, tmp_path):
    assert main(flags(people, tmp_path / "out", "--steps", 2, "--resume")) == 0


@pytest.mark.slow
def test_a_run_resumes_only_as_it_was(people, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(flags(people, out, "--steps", 2)) == 0
    assert main(flags(people, out, "--steps", 2, "--resume", "--lr", 0.5, "--seed", 3)) == 2
    told = capsys.readouterr().err
    assert "--lr was 0.001, now 0.5" in told and "--seed was 0, now 3" in told
    more = write_digits(tmp_path / "more", range(7), 11)
    assert main(["finetune", "--resume", "--out", str(out), "--data", str(more)]) == 2
    assert "--data was" in capsys.readouterr().err
    for path in sorted(people.glob("3/*.png"))[:1]:
        path.rename(path.with_name("other.png"))
        assert main(["finetune", "--resume", "--out", str(out)]) == 2
        path.with_name("other.png").rename(path)
    assert "the images or the weights changed" in capsys.readouterr().err


class Hostile:
    def __reduce__(self):
        return (os.system, ("touch hacked",))


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", pickle.dumps(Hostile()), b"x" * 5000])
def test_a_damaged_checkpoint(people, tmp_path, monkeypatch, capsys, content):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    assert main(flags(people, out, "--steps", 2)) == 0
    (out / "checkpoint.pt").write_bytes(content)
    assert main(["finetune", "--resume", "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert "checkpoint.pt: is damaged" in told and "--overwrite" in told
    assert not (tmp_path / "hacked").exists()


@pytest.mark.slow
def test_a_checkpoint_of_something_else(people, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(flags(people, out, "--steps", 2)) == 0
    content = torch.load(out / "checkpoint.pt", weights_only=True)
    torch.save({**content, "trunk": {"net.conv1a.weight": torch.zeros(3)}}, out / "checkpoint.pt")
    assert main(["finetune", "--resume", "--out", str(out)]) == 2
    assert "does not fit this run" in capsys.readouterr().err
    torch.save([1, 2], out / "checkpoint.pt")
    assert main(["finetune", "--resume", "--out", str(out)]) == 2
    assert "no checkpoint of this version" in capsys.readouterr().err


@pytest.mark.slow
def test_best_and_last_are_both_kept(people, net, tmp_path):
    result = finetune(Config.from_settings(settings(people, net, tmp_path / "out", lr=0.05)))
    last = torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)
    best = torch.load(tmp_path / "out" / "best.pt", weights_only=True)
    assert last["position"]["step"] == 14
    moved = [not torch.equal(value, last["trunk"][name]) for name, value in best["trunk"].items()]
    assert any(moved) == (result.best_step != 14)
    assert np.isfinite(result.best.tar)


@pytest.mark.slow
def test_a_margin_comes_in_over_its_steps(people, net, tmp_path, monkeypatch):
    """Half of 4 steps of 2 batches: margins 0, 1/4, 2/4, 3/4 and then the whole; a head of before begins anew."""
    shares: list[float] = []
    psi = losses.AMSoftmaxLoss.psi

    def watched(self, cosine, margin):
        if self.training:
            shares.append(float(margin) / self.margin)
        return psi(self, cosine, margin)

    monkeypatch.setattr(losses.AMSoftmaxLoss, "psi", watched)
    more = {"loss": "am-softmax", "loss_options": {"margin": 0.2}, "steps": 4, "margin_warmup": 0.5}
    finetune(Config.from_settings(settings(people, net, tmp_path / "one", **more)))
    assert shares == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 1, 1])
    shares.clear()
    more["head"] = tmp_path / "one" / "head.safetensors"
    finetune(Config.from_settings(settings(people, net, tmp_path / "two", **more)))
    assert shares == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 1, 1])
