"""Finetuning from images to files. The arithmetic is checked against torch's autograd and bare formulas."""

from __future__ import annotations

import csv
import json
import re
import shutil
import zipfile
from pathlib import Path

import caffeport
import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from normface.cli.main import main
from normface.finetune import Config, finetune
from normface.finetune.sampling import hold_out, some_of_each
from normface.losses import LOSSES
from safetensors.torch import load_file, save_file
from support.data_writers import datum, image_record, write_lmdb, write_recordio
from support.digit_images import NET, WEIGHTS, as_input, flags, write_digits

FILES = [
    "config.json",
    "config.toml",
    "deploy.prototxt",
    "model.caffemodel",
    "model.onnx",
    "model.safetensors",
    "head.safetensors",
    "metrics.csv",
]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """24 images each of digits 0 to 6."""
    return write_digits(tmp_path_factory.mktemp("people"), range(7), 24)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory) -> Path:
    """12 images each of digits 7 to 9."""
    return write_digits(tmp_path_factory.mktemp("strangers"), range(7, 10), 12)


def rows_of(out: Path) -> list[dict[str, str]]:
    with open(out / "metrics.csv") as stream:
        return list(csv.DictReader(stream))


def blobs_of(out: Path) -> dict[str, list[np.ndarray]]:
    net = caffeport.load(out / "deploy.prototxt", out / "model.caffemodel")
    return {layer.name: layer.blobs for layer in net.layers if layer.params}


@pytest.mark.slow
def test_a_run_writes_everything_and_every_file_computes_the_same(people, strangers, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(flags(people, out, "--val", strangers, "--val-far", 0.1, "--epochs", 2, "--batch-size", 32)) == 0
    shown = capsys.readouterr().out
    assert "true accepts at FAR 10 %" in shown and "DIFFERS" not in shown
    assert all((out / name).is_file() for name in FILES)

    x, _ = as_input(strangers)
    deploy = caffeport.load(out / "deploy.prototxt", out / "model.caffemodel").to_torch()
    with torch.no_grad():
        feature = deploy(torch.from_numpy(x))
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    # float32 sums in another order: a few units in the last place of numbers up to about 10
    np.testing.assert_allclose(session.run(None, {"data": x})[0], feature.numpy(), rtol=1e-4, atol=1e-4)
    original = caffeport.load(NET, WEIGHTS).to_torch()
    original.load_state_dict(load_file(out / "model.safetensors"))
    with torch.no_grad():
        assert torch.equal(original(torch.from_numpy(x)), feature)
    assert not np.array_equal(blobs_of(out)["conv1a"][0], caffeport.load(NET, WEIGHTS).layer("conv1a").blobs[0])

    summary = json.loads((out / "metrics.json").read_text())
    assert summary["ok"] and summary["best_step"] in (6, 12) and summary["held_out"]["pictures"] == 36
    assert {row["step"] for row in rows_of(out)} == {"0", "6", "10", "12"}


def accepted(feature: np.ndarray, labels: np.ndarray, far: float) -> float:
    """TAR at FAR of all pairs, in loops."""
    unit = feature / np.linalg.norm(feature, axis=1, keepdims=True)
    genuine, impostor = [], []
    for i in range(len(unit)):
        for j in range(i):
            (genuine if labels[i] == labels[j] else impostor).append(unit[i] @ unit[j])
    threshold = sorted(impostor, reverse=True)[round(far * len(impostor)) - 1]
    return float(np.mean(np.array(genuine) >= threshold))


@pytest.mark.slow
def test_the_figures_are_those_of_the_models_before_and_after(people, strangers, tmp_path):
    """Also: what is exported is the best model, not the last."""
    out = tmp_path / "out"
    more = ["--val", strangers, "--val-far", 0.1, "--steps", 6, "--validate-every", 1, "--lr", 0.05, "--batch-size", 16]
    assert main(flags(people, out, *more)) == 0
    summary = json.loads((out / "metrics.json").read_text())
    x, labels = as_input(strangers)
    for when, net in (("before", (NET, WEIGHTS)), ("best", (out / "deploy.prototxt", out / "model.caffemodel"))):
        with torch.no_grad():
            feature = caffeport.load(*net).to_torch()(torch.from_numpy(x)).numpy()
        # one genuine pair of 198 may lie at the threshold, to rounding
        assert summary[when]["tar"] == pytest.approx(accepted(feature, labels, 0.1), abs=1 / 197)
    scores = {int(row["step"]): (float(row["tar"]), float(row["auc"])) for row in rows_of(out) if row["step"] != "0"}
    assert summary["best_step"] == max(scores, key=lambda step: (scores[step], -step))
    assert summary["best_step"] == summary["best"]["step"]
    assert summary["best_step"] != 6 or len(set(scores.values())) > 1
    assert (summary["last"]["step"], summary["last"]["tar"], summary["last"]["auc"]) == (6, *scores[6])


@pytest.mark.slow
@pytest.mark.parametrize("share", [0, 0.3])
def test_the_training_loss_is_that_of_the_models_named(people, tmp_path, capsys, share):
    """Of the model before, of the best and of the last one: each computed from its files, on the same images."""
    out, words = tmp_path / "out", ["--loss", "softmax", "--val-share", share, "--lr", 0.02, "--batch-size", 16]
    head_file(tmp_path / "head.safetensors", 5 if share else 7)
    words += ["--head", tmp_path / "head.safetensors", "--steps", 6, "--validate-every", 2]
    assert main(flags(people, out, *words)) == 0
    shown = capsys.readouterr().out
    summary = json.loads((out / "metrics.json").read_text())
    assert (summary["best"] is None) == (share == 0) and summary["last"]["step"] == 6
    training = sorted(people.glob("*/*.png"))
    labels = np.array([int(path.parent.name) for path in training])
    places, _ = hold_out(labels, share, 0)
    x, _ = as_input(people)
    classes = np.unique(labels[places], return_inverse=True)[1]
    exported = (out / "deploy.prototxt", out / "model.caffemodel", out / "head.safetensors")
    for when, files in (("before", (NET, WEIGHTS, tmp_path / "head.safetensors")), ("best", exported)):
        with torch.no_grad():
            feature = caffeport.load(*files[:2]).to_torch()(torch.from_numpy(x[places]))
        scores = feature @ load_file(files[2])["weight"].T
        expected = float(torch.nn.functional.cross_entropy(scores, torch.from_numpy(classes)))
        model = summary[when] or summary["last"]
        assert model["training_loss"] == pytest.approx(expected, rel=1e-4)
        assert f"{model['training_loss']:.4g}" in shown
    assert ("best, chosen on these people (step" in shown) == (share > 0)
    assert f"training loss on {len(places)} training images" in shown and "last (step 6)" in shown
    assert "after" not in shown


@pytest.mark.slow
def test_only_images_that_could_be_read_are_counted_as_compared(people, strangers, tmp_path, capsys):
    data = tmp_path / "strangers"
    shutil.copytree(strangers, data)
    for path in [*sorted(data.glob("7/*.png"))[:5], *sorted(data.glob("8/*.png"))[:11]]:
        path.write_bytes(b"junk")
    more = ["--val", data, "--on-bad-image", "skip", "--steps", 2, "--json"]
    assert main(flags(people, tmp_path / "out", *more)) == 0
    genuine = 7 * 6 // 2 + 12 * 11 // 2
    assert json.loads(capsys.readouterr().out)["held_out"] == {
        "pictures": 20, "identities": 3, "genuine_pairs": genuine, "impostor_pairs": 190 - genuine,
        "impostors_accepted": 0,
    }  # fmt: skip


@pytest.mark.slow
def test_steps_without_an_image_do_not_lower_the_loss(people, tmp_path):
    """The mean over the steps between two lines is over the images that were there."""
    data = tmp_path / "data"
    shutil.copytree(people, data)
    for path in sorted(data.glob("*/*.png"))[::2]:
        path.write_bytes(b"junk")
    more = ["--val-share", 0, "--on-bad-image", "skip", "--batch-size", 1, "--loss", "softmax", "--lr", 1e-12]
    more += ["--head-init", "random", "--warmup", 0, "--schedule", "constant", "--weight-decay", 0, "--steps", 168]
    assert main(flags(data, tmp_path / "out", *more, "--log-every", 168)) == 0
    (row,) = rows_of(tmp_path / "out")
    # Every image once, of a model that stays: the mean over them is the model's loss on all.
    assert float(row["loss"]) == pytest.approx(float(row["training_loss"]), rel=1e-5)


def head_file(path: Path, classes: int, bias: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    state = {"weight": 0.1 * torch.randn(classes, 32, generator=generator)}
    if bias:
        state["bias"] = torch.zeros(classes)
    save_file(state, path)
    return state


@pytest.mark.slow
def test_a_step_is_that_of_caffes_rates(people, tmp_path):
    """One step of SGD on all images: w -= lr lr_mult (dL/dw + decay decay_mult w), by autograd."""
    state = head_file(tmp_path / "head.safetensors", 7)
    out = tmp_path / "out"
    more = ["--loss", "softmax", "--steps", 1, "--batch-size", 168, "--lr", 0.01, "--head-lr-mult", 5, "--val-share", 0]
    more += ["--warmup", 0, "--weight-decay", 0.02, "--head", tmp_path / "head.safetensors", "--schedule", "constant"]
    assert main(flags(people, out, *more)) == 0

    x, labels = as_input(people)
    net = caffeport.load(NET, WEIGHTS)
    module = net.to_torch()
    weight = state["weight"].clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(x)) @ weight.T, torch.from_numpy(labels))
    loss.backward()
    assert float(rows_of(out)[0]["loss"]) == pytest.approx(loss.item(), rel=1e-5)
    expected = weight.detach() - 0.05 * (weight.grad + 0.02 * weight.detach())
    # the batch is summed in another order
    torch.testing.assert_close(load_file(out / "head.safetensors")["weight"], expected, rtol=1e-5, atol=1e-6)
    found = blobs_of(out)
    for layer, (rates, decays) in {"conv1a": ((1, 2), (1, 0)), "relu2": ((1,), (0,)), "fc5": ((1, 2), (1, 0))}.items():
        parameters = [module.get_submodule(layer)._parameters[spec.name] for spec in net.layer(layer).specs]
        for index, (parameter, rate, decay) in enumerate(zip(parameters, rates, decays, strict=True)):
            w = parameter.detach()
            moved = w - 0.01 * rate * (parameter.grad + 0.02 * decay * w)
            torch.testing.assert_close(torch.from_numpy(found[layer][index].copy()), moved, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_two_batches_make_the_step_of_one_twice_as_large(people, tmp_path):
    head_file(tmp_path / "head.safetensors", 7)
    more = ["--loss", "softmax", "--steps", 2, "--val-share", 0, "--head", tmp_path / "head.safetensors"]
    for name, batch, accumulate in (("one", 32, 1), ("two", 16, 2)):
        assert main(flags(people, tmp_path / name, *more, "--batch-size", batch, "--accumulate", accumulate)) == 0
    for layer, blobs in blobs_of(tmp_path / "one").items():
        for mine, other in zip(blobs, blobs_of(tmp_path / "two")[layer], strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)  # sums in another order


@pytest.mark.slow
def test_a_frozen_part_is_as_good_as_rates_of_zero(people, tmp_path):
    """The kept features train the rest to what the whole net does with lr_mult 0 on the frozen layers."""
    head_file(tmp_path / "head.safetensors", 7)
    before, name, last = NET.read_text().partition('name: "fc5"')
    (tmp_path / "zero.prototxt").write_text(re.sub("lr_mult: [12]", "lr_mult: 0", before) + name + last)
    more = ["--loss", "softmax", "--steps", 5, "--val-share", 0, "--batch-size", 32, "--lr", 0.01]
    more += ["--head", tmp_path / "head.safetensors", "--mirror"]
    assert main(flags(people, tmp_path / "kept", *more, "--freeze-to", "pool2")) == 0
    assert main(flags(people, tmp_path / "zero", *more, "--net", tmp_path / "zero.prototxt")) == 0
    one, two, before = blobs_of(tmp_path / "kept"), blobs_of(tmp_path / "zero"), caffeport.load(NET, WEIGHTS)
    for layer, blobs in one.items():
        for index, blob in enumerate(blobs):
            np.testing.assert_allclose(blob, two[layer][index], rtol=1e-5, atol=1e-6)  # batches of other sizes
            assert np.array_equal(blob, before.layer(layer).blobs[index]) == (layer != "fc5")


@pytest.mark.slow
def test_new_layers_on_a_frozen_net(people, tmp_path, capsys):
    out = tmp_path / "out"
    more = ["--freeze-backbone", "--new-embedding", "24-8", "--normalize", "--steps", 4, "--json", "--lr", 0.05]
    assert main(flags(people, out, *more)) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["ok"] and summary["embedding"] == "embedding"
    net = caffeport.load(out / "deploy.prototxt", out / "model.caffemodel")
    x, _ = as_input(people)
    with torch.no_grad():
        unit = net.to_torch()(torch.from_numpy(x[:5]))
        feature = net.to_torch(outputs=["embedding"])(torch.from_numpy(x[:5]))
    assert unit.shape == (5, 8)
    # Normalize has 1e-6 under its root
    torch.testing.assert_close(unit, feature / (feature.square().sum(1, keepdim=True) + 1e-6).sqrt())
    for layer in caffeport.load(NET, WEIGHTS).layers:
        for mine, theirs in zip(net.layer(layer.name).blobs, layer.blobs, strict=True):
            np.testing.assert_array_equal(mine, theirs)

    # and a second stage, which goes on from the first one's files
    again = [*("--net", out / "deploy.prototxt", "--weights", out / "model.caffemodel", "--embedding", "embedding")]
    more = [
        *again,
        "--head",
        out / "head.safetensors",
        "--freeze-to",
        "fc5",
        "--steps",
        2,
        "--loss",
        "normalized-softmax",
    ]
    assert main(flags(people, tmp_path / "second", *more)) == 0
    assert "new_fc2" in blobs_of(tmp_path / "second")


@pytest.mark.slow
def test_kept_features_serve_the_next_run(people, tmp_path, capsys):
    """From the folder they come without a look at the images; other images, nets or mirroring make new ones."""
    more = ["--freeze-to", "pool2", "--steps", 3, "--feature-cache", tmp_path / "kept", "--mirror"]
    data = tmp_path / "data"
    shutil.copytree(people, data)
    assert main(flags(data, tmp_path / "one", *more)) == 0
    stored = sorted((tmp_path / "kept").iterdir())
    assert len(stored) == 2  # of the training and of the held-out images
    for path in data.glob("*/*.png"):  # a few stay, for the proof of the exported files
        if path.parent.name != "0" or path.stem > "0020":
            path.write_bytes(b"")
    more += ["--on-bad-image", "skip"]
    assert main(flags(data, tmp_path / "two", *more)) == 0
    for name in ("model.caffemodel", "metrics.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert main(flags(people, tmp_path / "three", *more, "--no-mirror")) == 0
    assert len(sorted((tmp_path / "kept").iterdir())) == 4
    for path in stored:
        path.write_bytes(b"spoilt")
    capsys.readouterr()
    assert main(flags(data, tmp_path / "four", *more)) == 2
    assert "is damaged; remove it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_wholly_frozen_net_trains_its_head_alone(people, tmp_path):
    assert main(flags(people, tmp_path / "out", "--freeze-backbone", "--steps", 3)) == 0
    for name, blobs in blobs_of(tmp_path / "out").items():
        for mine, theirs in zip(blobs, caffeport.load(NET, WEIGHTS).layer(name).blobs, strict=True):
            np.testing.assert_array_equal(mine, theirs)


BATCH_NORM = """
name: "WithStatistics"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "feature" pooling_param { pool: AVE global_pooling: true } }
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["frozen", "train"])
def test_batch_normalisation(people, tmp_path, mode):
    """Frozen statistics stay to the last bit, its scale and shift train; trained ones move. The feature is Nx4x1x1."""
    net = tmp_path / "net.prototxt"
    net.write_text(BATCH_NORM)
    start = caffeport.load(net).with_weights({"bn": [np.ones(4), np.full(4, 2.0), np.ones(1)]})
    start.save(tmp_path / "net.caffemodel")
    more = ["--net", net, "--weights", tmp_path / "net.caffemodel", "--embedding", "feature", "--batch-norm", mode]
    assert main(flags(people, tmp_path / "out", *more, "--steps", 3, "--batch-size", 8)) == 0
    found = blobs_of(tmp_path / "out")
    kept = [np.array_equal(a, b) for a, b in zip(found["bn"], start.layer("bn").blobs, strict=True)]
    assert kept == [mode == "frozen"] * 3
    assert not np.array_equal(found["scale"][0], start.layer("scale").blobs[0])


def test_global_statistics_in_the_text_cannot_be_trained(people, tmp_path, capsys):
    net = tmp_path / "net.prototxt"
    net.write_text(BATCH_NORM.replace('top: "conv" }', 'top: "conv" batch_norm_param { use_global_stats: true } }', 1))
    caffeport.load(net).save(tmp_path / "net.caffemodel")
    more = ["--net", net, "--weights", tmp_path / "net.caffemodel", "--embedding", "feature", "--batch-norm", "train"]
    assert main(flags(people, tmp_path / "out", *more)) == 2
    assert "use_global_stats" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("loss", [*LOSSES, "softmax+0.01*c-contrastive", "softmax+0.008*center"])
def test_every_loss_trains(people, tmp_path, loss):
    out = tmp_path / "out"
    more = ["--loss", loss, "--steps", 8, "--log-every", 1, "--val-share", 0, "--head-init", "random"]
    assert main(flags(people, out, *more)) == 0
    losses = [float(row["loss"]) for row in rows_of(out)]
    # A pull to the centers starts from random ones far away; a margin loss rises while its lambda anneals.
    assert np.isfinite(losses).all()
    assert len(losses) == 8 and len(set(losses)) == 8
    if loss in ("softmax", "normalized-softmax", "l2-softmax", "arcface", "c-triplet"):
        assert losses[-1] < losses[0]


@pytest.mark.slow
def test_options_of_a_loss_reach_it(people, tmp_path):
    out = tmp_path / "out"
    more = ["--loss", "normalized-softmax", "--loss-option", "scale=7.5", "--steps", 2, "--log-every", 1]
    assert main(flags(people, out, *more)) == 0
    assert {row["scale"] for row in rows_of(out) if row["scale"]} == {"7.5"}
    more = ["--loss", "l2-softmax+0.1*center", "--loss-option", "alpha=16", "center-step=fork", "--steps", 1]
    assert main(flags(people, tmp_path / "sum", *more)) == 0
    assert {row["scale"] for row in rows_of(tmp_path / "sum") if row["scale"]} == {"16.0"}


@pytest.mark.slow
@pytest.mark.parametrize("most", [None, 5])
def test_class_means_start_the_head_where_the_classes_are(people, tmp_path, most):
    """Of all images, or of so many of each class: the mean is then that of some five of its 24."""
    out = tmp_path / "out"
    limit = [] if most is None else ["--head-init-images", most]
    more = ["--loss", "softmax+0.01*center", "--steps", 1, "--lr", 1e-9, "--center-lr", 1e-9, "--val-share", 0]
    assert main(flags(people, out, *more, *limit)) == 0
    x, labels = as_input(people)
    if most is not None:
        chosen = some_of_each(np.asarray(labels), most, seed=0)
        x, labels = x[chosen], labels[chosen]
        assert len(labels) == 7 * most
    with torch.no_grad():
        feature = caffeport.load(NET, WEIGHTS).to_torch()(torch.from_numpy(x))
    unit = feature / feature.norm(dim=1, keepdim=True)
    head = load_file(out / "head.safetensors")
    weight, centers = head["losses.0.weight"], head["losses.1.weight"]
    for digit in range(7):
        mean = unit[labels == digit].mean(0)
        # and a step of 1e-8
        torch.testing.assert_close(weight[digit] / weight[digit].norm(), mean / mean.norm(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(centers[digit], feature[labels == digit].mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("more", [["--precision", "bf16-mixed"], ["--optimizer", "adamw"], ["--clip-norm", "0.5"]])
def test_other_arithmetic(people, tmp_path, more):
    out = tmp_path / "out"
    more = [*more, "--head-init", "random", "--steps", 12, "--log-every", 3, "--val-share", 0, "--lr", 0.002]
    assert main(flags(people, out, *more)) == 0
    losses = [float(row["loss"]) for row in rows_of(out)]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_balanced_and_mirrored(people, tmp_path):
    more = ["--sampling", "balanced", "--per-identity", 4, "--mirror", "--batch-size", 16, "--steps", 3]
    assert main(flags(people, tmp_path / "out", *more)) == 0


def as_zip(people: Path, folder: Path) -> Path:
    path = folder / "people.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for image in sorted(people.glob("*/*.png")):
            archive.write(image, image.relative_to(people))
    return path


def as_list(people: Path, folder: Path) -> Path:
    path = folder / "people.txt"
    lines = [f"{p.relative_to(people)} {p.parent.name}\n" for p in sorted(people.glob("*/*.png"))]
    path.write_text("".join(lines))
    return path


def as_lmdb(people: Path, folder: Path) -> Path:
    paths = sorted(people.glob("*/*.png"))
    planes = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[None] for path in paths]
    values = [datum(plane, int(path.parent.name)) for path, plane in zip(paths, planes, strict=True)]
    return write_lmdb(folder / "people_lmdb", values)


def as_recordio(people: Path, folder: Path) -> Path:
    paths = enumerate(sorted(people.glob("*/*.png")))
    records = [image_record(int(path.parent.name), number, path.read_bytes()) for number, path in paths]
    return write_recordio(folder / "people.rec", records)


@pytest.mark.slow
def test_every_form_of_data_trains_to_the_same(people, tmp_path):
    more = ["--steps", 2, "--val-share", 0.3]
    assert main(flags(people, tmp_path / "folder", *more)) == 0
    expected = (tmp_path / "folder" / "model.caffemodel").read_bytes()
    for form, root in ((as_zip, []), (as_list, ["--root", people]), (as_lmdb, []), (as_recordio, [])):
        out = tmp_path / form.__name__
        assert main(flags(form(people, tmp_path), out, *root, *more)) == 0
        assert (out / "model.caffemodel").read_bytes() == expected


@pytest.mark.slow
def test_patience(people, strangers, tmp_path, capsys):
    """With a rate that changes nothing the first validation stays the best."""
    out = tmp_path / "out"
    more = ["--val", strangers, "--lr", 1e-12, "--steps", 50, "--validate-every", 2, "--patience", 3, "--json"]
    assert main(flags(people, out, *more)) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["steps"], summary["best_step"]) == (8, 2)
    assert summary["stopped"] == "no better for 3 validations"


@pytest.mark.slow
def test_config_toml_reproduces_the_run(people, tmp_path):
    more = ["--steps", 3, "--loss", "am-softmax", "--loss-option", "margin=0.2", "--sampling", "balanced", "--seed", 7]
    assert main(flags(people, tmp_path / "one", *more)) == 0
    again = ["finetune", "--config", str(tmp_path / "one" / "config.toml"), "--out", str(tmp_path / "two")]
    assert main(again) == 0
    for name in ("model.caffemodel", "head.safetensors", "metrics.csv", "model.onnx"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.slow
def test_from_python_with_tensorboard_and_a_figure(people, tmp_path):
    pytest.importorskip("tensorboard")
    pytest.importorskip("matplotlib")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "out"
    config = Config(
        net=str(NET), weights=str(WEIGHTS), data=str(people), embedding="fc5", mean=(8.0,), scale=0.125, out=str(out),
        steps=4, log_every=2, device="cpu", val_share=0.3,
    )  # fmt: skip
    result = finetune(config)
    assert result.ok and result.steps == 4
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("training/loss")] == [2, 4]
    logged = [float(row["loss"]) for row in rows_of(out) if row["loss"]]
    assert [event.value for event in events.Scalars("training/loss")] == pytest.approx(logged, rel=1e-6)
    shutil.rmtree(out)
