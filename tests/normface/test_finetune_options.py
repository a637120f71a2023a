"""Freezing, layer-wise decay, averages, P x K and longer runs, against arithmetic of their own or another way there."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import caffeport
import numpy as np
import pytest
import torch
from normface.cli.main import main
from normface.errors import TrainingError
from normface.finetune import Config, finetune
from normface.finetune.sampling import Sampler
from safetensors.torch import load_file
from support.digit_images import NET, WEIGHTS, digits_config, flags, write_digits

SHORT = "ignore:--ema .* remembers about:caffeport.CaffeportWarning"
LONGER = "ignore:goes on from step:caffeport.CaffeportWarning"
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(SHORT)]

BEHIND = {"fc5": 0, "conv2": 1, "relu2": 1, "conv2_2": 2, "relu2_2": 2, "conv2_1": 3, "relu2_1": 3}
BEHIND |= {"conv1b": 4, "relu1b": 4, "conv1a": 5, "relu1a": 5}
"""Convolutions and inner products behind each layer of the digits net, by its picture: the longest way counts."""
PLAIN = {"schedule": "constant", "warmup": 0.0, "weight_decay": 0.0, "momentum": 0.0, "lr": 0.01, "log_every": 1}


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    return write_digits(tmp_path_factory.mktemp("people"), range(7), 8)


def settings(people: Path, out: Path, **more: object) -> Config:
    more = {"loss": "softmax", "batch_size": 8, "val_share": 0, "steps": 4, "mirror": False, **more}
    return digits_config(people, out, **more)


def blobs(out: Path) -> dict[str, list[np.ndarray]]:
    net = caffeport.load(out / "deploy.prototxt", out / "model.caffemodel")
    return {layer.name: [np.array(blob) for blob in layer.blobs] for layer in net.layers if layer.params}


def original() -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.blobs for layer in caffeport.load(NET, WEIGHTS).layers if layer.params}


def moved(now: dict[str, list[np.ndarray]]) -> set[str]:
    before = original()
    return {name for name, of in now.items() if not all(map(np.array_equal, of, before[name]))}


@pytest.mark.slow
def test_at_first_only_the_head_trains(people, tmp_path):
    """Within the frozen steps the net is the given one, and the head that of a net frozen for good."""
    finetune(settings(people, tmp_path / "first", freeze_steps=9, steps=9, momentum=0.9))
    finetune(settings(people, tmp_path / "frozen", freeze_backbone=True, steps=9, momentum=0.9))
    assert moved(blobs(tmp_path / "first")) == set()
    one, other = (load_file(tmp_path / name / "head.safetensors")["weight"] for name in ("first", "frozen"))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)  # features in batches of another size
    finetune(settings(people, tmp_path / "later", freeze_steps=0.5, steps=4))
    assert moved(blobs(tmp_path / "later")) == set(BEHIND)


@pytest.mark.slow
def test_the_net_thaws_from_its_end(people, tmp_path):
    """Up to pool1b it is frozen till behind the end, as --freeze-to does for good."""
    more = {"steps": 6, "momentum": 0.9, "weight_decay": 0.01}
    finetune(settings(people, tmp_path / "late", unfreeze=["pool1b=100"], **more))
    finetune(settings(people, tmp_path / "cut", freeze_to="pool1b", **more))
    late, cut = blobs(tmp_path / "late"), blobs(tmp_path / "cut")
    assert moved(late) == set(BEHIND) - {"conv1a", "relu1a", "conv1b", "relu1b"}
    for name, of in late.items():
        for mine, theirs in zip(of, cut[name], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    finetune(settings(people, tmp_path / "both", freeze_steps=2, unfreeze={"pool1b": 4, "conv1a": 5}, steps=5))
    assert moved(blobs(tmp_path / "both")) == set(BEHIND) - {"conv1a", "relu1a"}


@pytest.mark.slow
def test_what_thaws_has_no_past(people, tmp_path):
    """AdamW's first step is the rate times the gradient's sign: also of a net that starts at step 3."""
    more = {
        "optimizer": "adamw",
        "steps": 4,
        "lr": 1e-3,
        **{k: PLAIN[k] for k in ("schedule", "warmup", "weight_decay")},
    }
    finetune(settings(people, tmp_path / "out", freeze_steps=3, momentum=0.9, **more))
    now, before = blobs(tmp_path / "out")["fc5"][0], original()["fc5"][0]
    steps = np.abs(now - before)
    assert np.median(steps) == pytest.approx(1e-3, rel=1e-2)  # |g| / (|g| + 1e-8), in float32


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*initialised by their fillers:caffeport.CaffeportWarning")
def test_statistics_rest_with_their_layers_and_are_averaged(people, tmp_path):
    head, name, rest = NET.read_text().partition('layer {\n  name: "pool1b"')
    norm = 'layer { name: "bn" type: "BatchNorm" bottom: "conv1b" top: "conv1b" }\n'
    (tmp_path / "net.prototxt").write_text(head + norm + name + rest)
    start = caffeport.load(tmp_path / "net.prototxt", WEIGHTS, allow_missing_weights=True)
    mean, variance, factor = (blob.shape for blob in start.layer("bn").blobs)
    start = start.with_weights({"bn": [np.zeros(mean), np.ones(variance), np.ones(factor)]})
    start.save(tmp_path / "net.caffemodel")
    more = {"net": tmp_path / "net.prototxt", "weights": tmp_path / "net.caffemodel", "batch_norm": "train", "steps": 3}
    for name, at in (("rests", 3), ("moves", 2)):
        finetune(settings(people, tmp_path / name, unfreeze={"pool1b": at}, **more))
    rests, moves = (blobs(tmp_path / name)["bn"] for name in ("rests", "moves"))
    assert not rests[0].any() and (rests[1] == 1).all() and moves[0].any()
    means = []
    for step in (1, 2):
        finetune(settings(people, tmp_path / f"mean{step}", **{**PLAIN, **more, "steps": step}))
        means.append(blobs(tmp_path / f"mean{step}")["bn"][0])
    result = finetune(settings(people, tmp_path / "averaged", ema=0.6, **{**PLAIN, **more, "steps": 2}))
    np.testing.assert_allclose(blobs(tmp_path / "averaged")["bn"][0], 0.6 * means[0] + 0.4 * means[1], rtol=1e-5)
    assert result.ok


@pytest.mark.slow
def test_a_layer_learns_by_its_depth(people, tmp_path):
    """One step of plain SGD: each blob's way is 0.5 to the number of layers behind it times that without decay."""
    ways = {}
    for decay in (1.0, 0.5):
        finetune(settings(people, tmp_path / str(decay), layer_decay=decay, steps=1, **{**PLAIN, "lr": 1.0}))
        before, now = original(), blobs(tmp_path / str(decay))
        ways[decay] = {
            name: [b.astype(float) - a for a, b in zip(before[name], of, strict=True)] for name, of in now.items()
        }
    assert set(ways[1.0]) == set(BEHIND)
    for name, number in BEHIND.items():
        for whole, part in zip(ways[1.0][name], ways[0.5][name], strict=True):
            np.testing.assert_allclose(part, 0.5**number * whole, atol=2e-7)  # differences of weights up to 1
            assert np.abs(whole).max() > 1e-4


@pytest.mark.slow
def test_new_layers_do_not_decay(people, tmp_path):
    heads = []
    for decay in (1.0, 0.3):
        more = {**PLAIN, "layer_decay": decay, "new_embedding": "6-4", "steps": 1, "loss": "normalized-softmax"}
        finetune(settings(people, tmp_path / str(decay), **more))
        heads.append(blobs(tmp_path / str(decay)))
    for name in ("new_fc1", "new_fc2", "fc5"):
        np.testing.assert_array_equal(heads[0][name][0], heads[1][name][0])
    assert not np.array_equal(heads[0]["conv2"][0], heads[1]["conv2"][0])


@pytest.mark.slow
def test_the_average_is_its_formula(people, tmp_path):
    """a_1 = w_1, a_t = 0.7 a_(t-1) + 0.3 w_t, from the weights of runs that end after each step."""
    average: dict[str, list[np.ndarray]] = {}
    head = None
    for step in range(1, 5):
        out = tmp_path / str(step)
        finetune(settings(people, out, **{**PLAIN, "momentum": 0.9, "steps": step}))
        now, weight = blobs(out), load_file(out / "head.safetensors")["weight"].double()
        head = weight if head is None else 0.7 * head + 0.3 * weight
        average = {
            name: [b if step == 1 else 0.7 * a + 0.3 * b for a, b in zip(average.get(name, of), of, strict=True)]
            for name, of in now.items()
        }
    result = finetune(settings(people, tmp_path / "ema", ema=0.7, **{**PLAIN, "momentum": 0.9}))
    for name, of in blobs(tmp_path / "ema").items():
        for mine, theirs in zip(of, average[name], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        load_file(tmp_path / "ema" / "head.safetensors")["weight"].double(), head, rtol=1e-5, atol=1e-6
    )
    kept = torch.load(tmp_path / "ema" / "checkpoint.pt", weights_only=True)
    live = caffeport.load(tmp_path / "4" / "deploy.prototxt", tmp_path / "4" / "model.caffemodel").layer("fc5").blobs[0]
    assert np.array_equal(kept["trunk"]["net.fc5.weight"].numpy(), live)  # what trains is not the average
    assert result.ok


@pytest.mark.slow
def test_the_average_is_what_is_validated_and_exported(people, tmp_path):
    out = tmp_path / "out"
    more = {"val_share": 0.4, "val_far": 0.1, "validate_every": 2, "lr": 0.05, "ema": 0.9, "steps": 8}
    result = finetune(settings(people, out, **more))
    best = torch.load(out / "best.pt", weights_only=True)
    exported = caffeport.load(out / "deploy.prototxt", out / "model.caffemodel").layer("fc5").blobs[0]
    assert np.array_equal(best["trunk"]["net.fc5.weight"].numpy(), exported)
    kept = torch.load(out / "checkpoint.pt", weights_only=True)
    assert not np.array_equal(kept["trunk"]["net.fc5.weight"].numpy(), exported)
    assert result.best.step == result.best_step and result.ok


@pytest.mark.slow
def test_a_pk_batch_is_p_identities_of_k_images(people, tmp_path, capsys):
    config = settings(people, tmp_path / "out", sampling="pk", identities=3, per_identity=4, batch_size=64 // 4 - 4)
    assert config.batch_size == 12
    default = Config(sampling="pk", identities=3, per_identity=4)
    assert default.batch_size == 12 and Config(sampling="pk", per_identity=4).batch_size == 64
    labels = np.repeat(np.arange(7), 8)
    sampler = Sampler(labels, 12, seed=0, mirror=False, balanced=True, per_identity=4)
    groups = labels[sampler.batch(5).places].reshape(3, 4)
    assert (groups == groups[:, :1]).all() and len(set(groups[:, 0])) == 3
    words = ["--sampling", "pk", "--identities", 3, "--per-identity", 4, "--steps", 1, "--val-share", 0]
    assert main(flags(people, tmp_path / "run", *words)) == 0
    assert Config.from_settings(dict_of(tmp_path / "run")).batch_size == 12
    assert main(flags(people, tmp_path / "no", *words, "--batch-size", 64)) == 2
    told = capsys.readouterr().err
    assert "--batch-size 64 is not --identities 3 times --per-identity 4; leave it out" in told
    assert main(flags(people, tmp_path / "no", "--identities", 3)) == 2
    assert "--identities is of --sampling pk" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_an_average_longer_than_the_run_is_told_of(people, tmp_path, capsys):
    assert main(flags(people, tmp_path / "out", "--steps", 2, "--val-share", 0, "--ema", 0.999)) == 0
    told = capsys.readouterr().err
    assert "--ema 0.999 remembers about 1,000 steps, and the run has 2: the average stays near its start" in told


def dict_of(out: Path) -> dict[str, object]:
    from normface.finetune import config_file

    return config_file.read(out / "config.toml")


def test_what_does_not_go_together_is_told_at_once(people, tmp_path, capsys, monkeypatch):
    more = ["--freeze-backbone", "--freeze-steps", 3, "--augment", "face", "--ema", 1, "--layer-decay", 0]
    assert main(flags(people, tmp_path / "out", *more, "--unfreeze", "pool1b=-1")) == 2
    told = capsys.readouterr().err
    for part in (
        "--freeze-backbone freezes the whole net; leave --freeze-steps and --unfreeze out",
        "--augment needs each image's features anew",
        "--ema 1.0: expected from 0 to below 1",
        "--layer-decay 0.0: expected above 0 and at most 1",
        "--unfreeze {'pool1b': -1.0}: expected steps of 0 or more",
    ):
        assert part in told, part
    monkeypatch.delattr("normface.finetune.run.open_reader")  # it is told before an image is looked at
    assert main(flags(people, tmp_path / "out", "--unfreeze", "pool1x=3")) == 2
    assert (
        '--unfreeze "pool1x" is no blob of the part of the net that trains (did you mean "pool1b"?)'
        in capsys.readouterr().err
    )
    assert main(flags(people, tmp_path / "out", "--unfreeze", "pool1b")) == 2
    assert "--unfreeze: expected BLOB=STEP, got 'pool1b'" in capsys.readouterr().err
    assert main(flags(people, tmp_path / "out", "--unfreeze", "data=5")) == 2
    assert '--unfreeze "data": nothing that trains comes before this blob' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


SAME = ("model.caffemodel", "head.safetensors", "model.onnx", "metrics.csv")


@pytest.mark.slow
@pytest.mark.filterwarnings(LONGER)
@pytest.mark.parametrize(
    "more",
    [
        {"schedule": "constant", "warmup": 2, "ema": 0.8},
        {"schedule": "step", "warmup": 2, "milestones": (3, 7), "optimizer": "adamw", "augment": "face"},
    ],
    ids=["constant", "step"],
)
def test_a_longer_run_is_the_run_of_that_length(people, tmp_path, more):
    """Where the schedule is told in steps, byte for byte: momentum, order of images and rate go on."""
    more = {"val_share": 0.4, "validate_every": 3, "momentum": 0.9, **more}
    finetune(settings(people, tmp_path / "whole", steps=9, **more))
    finetune(settings(people, tmp_path / "longer", steps=6, **more))
    longer = finetune(settings(people, tmp_path / "longer", steps=9, **more), resume=True)
    assert longer.steps == longer.planned_steps == 9
    for name in SAME:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "longer" / name).read_bytes()
    assert finetune(settings(people, tmp_path / "longer", steps=9, **more), resume=True).steps == 9


@pytest.mark.slow
def test_a_longer_run_has_the_rates_of_its_length(people, tmp_path, capsys):
    """Cosine over 4 steps has ended; over 8 it stands in its middle there."""
    words = ["--steps", 4, "--val-share", 0, "--warmup", 0, "--log-every", 1, "--lr", 0.01]
    assert main(flags(people, tmp_path / "out", *words)) == 0
    assert main(["finetune", "--resume", "--out", str(tmp_path / "out"), "--steps", "8"]) == 0
    told = capsys.readouterr().err
    assert "goes on from step 4 to 8" in told and "at the learning rate 0.005 of the longer run's schedule" in told
    with open(tmp_path / "out" / "metrics.csv") as stream:
        rates = [float(row["lr"]) for row in csv.DictReader(stream)]
    first = [0.01 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert rates == pytest.approx(first + [0.01 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(4, 8)])
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["steps"] == 8
    assert main(["finetune", "--resume", "--out", str(tmp_path / "out"), "--epochs", "3"]) == 2
    assert "--epochs 3: the run to resume counts --steps, of which it has 8; leave" in capsys.readouterr().err
    assert main(["finetune", "--resume", "--out", str(tmp_path / "out"), "--epochs", "30"]) == 2
    assert "--epochs 30: the run to resume counts --steps" in capsys.readouterr().err
    assert main(["finetune", "--resume", "--out", str(tmp_path / "out"), "--steps", "7"]) == 2
    assert "--steps was 8, now 7" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings(LONGER)
def test_epochs_become_more_and_never_less(people, tmp_path):
    config = settings(people, tmp_path / "out", steps=None, epochs=1.0)
    assert finetune(config).steps == 7
    assert finetune(settings(people, tmp_path / "out", steps=None, epochs=2.0), resume=True).steps == 14
    with pytest.raises(TrainingError, match=r"has 14 steps already, more than 3; leave --steps and --epochs out"):
        finetune(settings(people, tmp_path / "out", steps=3, epochs=2.0), resume=True)
