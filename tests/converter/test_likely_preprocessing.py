"""``check --input photo.jpg`` without a preprocessing: which of the usual ones a net expects, by what photos give.

The nets are made so that it is known: their BatchNorm holds the statistics that NumPy computes of one preprocessing.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import caffeport
import cv2
import numpy as np
import pytest
from caffeport.cli.main import main
from caffeport.parity.likely_preprocessing import suggest
from support import nets

SIZE = 16
IMAGENET = (104.0, 117.0, 123.0)
WAYS = {
    "x": (0.0, 1.0),
    "x * 0.003921569": (0.0, 1 / 255),
    "x - 127.5": (127.5, 1.0),
    "(x - 127.5) * 0.0078125": (127.5, 1 / 128),
    "(x - 127.5) * 0.00390625": (127.5, 1 / 256),
    "x - (104, 117, 123)": (IMAGENET, 1.0),
    "(x - (104, 117, 123)) * 0.017": (IMAGENET, 0.017),
}
BATCH_NORM = (
    nets.inputs(data=(1, 3, SIZE, SIZE))
    + nets.conv("data", "conv", 24, "kernel_size: 1")
    + nets.layer("BatchNorm", "conv", "conv", name="norm")
    + nets.layer("ReLU", "conv", "conv", name="relu")
)


def photos(count: int, seed: int = 0) -> np.ndarray:
    """uint8 (count, 3, SIZE, SIZE) in BGR, each of a light of its own; red is the brightest, as in skin."""
    random = np.random.default_rng(seed)
    light = random.normal(0, 12, (count, 1, 1, 1)) + np.reshape([80, 105, 150], (3, 1, 1))
    return np.clip(light + random.normal(0, 35, (count, 3, SIZE, SIZE)), 0, 255).round().astype(np.uint8)


def as_trained(pixels: np.ndarray, formula: str, order: str) -> np.ndarray:
    """float64: what the net of a test was trained on."""
    mean, scale = WAYS[formula]
    array = pixels.astype(np.float64) - np.reshape(mean, (-1, 1, 1))
    return (array[:, ::-1] if order == "RGB" else array) * scale


def trained(folder: Path, formula: str, order: str, factor: float = 2.0) -> caffeport.Net:
    """A net whose statistics are those of many photos, as Caffe stores them: sums, and what they are divided by."""
    net = nets.load(folder, BATCH_NORM)
    weight, bias = (param.data for param in net.layer("conv").params)
    made = np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], as_trained(photos(200, 1), formula, order))
    made += bias[:, None, None]
    mean, variance = made.mean((0, 2, 3)), made.var((0, 2, 3))
    given = {"conv": [weight, bias], "norm": [mean * factor, variance * factor, np.array([factor])]}
    return net.with_weights({name: [np.asarray(blob, np.float32) for blob in blobs] for name, blobs in given.items()})


@pytest.mark.parametrize("order", ["BGR", "RGB"])
@pytest.mark.parametrize("formula", WAYS)
def test_what_the_statistics_were_made_with_is_never_ruled_out(formula, order, tmp_path):
    net = trained(tmp_path, formula, order)
    for count in (1, 2, 3, 8):
        suggestion = suggest(net, "data", photos(count, 2 + count).astype(np.float32))
        assert formula in suggestion.likely, suggestion.verdict
        assert suggestion.order in (order, "")
    scale = WAYS[formula][1]
    others = [way for way in WAYS if WAYS[way][1] > 50 * scale or WAYS[way][1] < scale / 50]
    assert not set(others) & set(suggestion.likely)  # a scale that is 50 times another is not to be mistaken


def test_the_verdict_and_its_numbers(tmp_path):
    net = trained(tmp_path, "(x - 127.5) * 0.0078125", "RGB")
    given = photos(3, 5).astype(np.float32)
    suggestion = suggest(net, "data", given)
    assert suggestion.verdict == "likely (x - 127.5) * 0.0078125, RGB"
    assert (suggestion.likely, suggestion.order, suggestion.photos) == (["(x - 127.5) * 0.0078125"], "RGB", 3)
    assert len(suggestion.candidates) == 14
    nearest = min(suggestion.candidates, key=lambda way: way.batch_norm)
    assert (nearest.mean, nearest.scale, nearest.order, nearest.ruled_out) == ((127.5,), 1 / 128, "RGB", "")
    weight, bias = (param.data for param in net.layer("conv").params)
    mean, variance, factor = (param.data for param in net.layer("norm").params)
    for way in suggestion.candidates:  # the divergence, in float64
        array = given[:, ::-1] if way.order == "RGB" else given
        x = (array.astype(np.float64) - np.reshape(way.mean, (-1, 1, 1))) * way.scale
        made = np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], x) + bias[:, None, None]
        y = (made - (mean / factor)[:, None, None]) / np.sqrt(variance / factor + 1e-5)[:, None, None]
        m, v = y.mean((0, 2, 3)), y.var((0, 2, 3))
        assert way.batch_norm == pytest.approx(np.mean(v + m * m - 1 - np.log(v)) / 2, rel=1e-3)
        assert way.ruled_out == ("" if way.formula == "(x - 127.5) * 0.0078125" else "BatchNorm")


def test_one_photo_may_have_a_contrast_of_its_own(tmp_path):
    net = trained(tmp_path, "(x - 127.5) * 0.0078125", "BGR")
    usual = photos(1, 5).astype(np.float32)
    strong = np.clip((usual - usual.mean()) * 1.7 + usual.mean(), 0, 255)
    suggestion = suggest(net, "data", strong)
    assert {"(x - 127.5) * 0.0078125", "(x - 127.5) * 0.00390625"} <= set(suggestion.likely), suggestion
    assert suggestion.verdict.startswith("undecided between ") and "with one photo" in suggestion.reasons[0]


def test_photos_of_another_kind_rule_nothing_out(tmp_path):
    net = trained(tmp_path, "(x - 127.5) * 0.0078125", "BGR")
    flat = np.full((3, 3, SIZE, SIZE), 255, np.float32)
    suggestion = suggest(net, "data", flat)
    assert suggestion.verdict == "undecided: nothing that was measured tells the usual ways apart"
    assert "nothing is ruled out" in suggestion.reasons[0]


def test_dead_channels_and_unused_statistics_have_no_say(tmp_path):
    net = trained(tmp_path, "x - 127.5", "BGR")
    before = suggest(net, "data", photos(3, 5).astype(np.float32))
    blobs = {layer.name: [blob.copy() for blob in layer.blobs] for layer in net.layers if layer.params}
    blobs["norm"][0][:4], blobs["norm"][1][:4] = 0, 0
    after = suggest(net.with_weights(blobs), "data", photos(3, 5).astype(np.float32))
    assert after.verdict == before.verdict
    blobs["norm"][2][:] = 0
    none = suggest(net.with_weights(blobs), "data", photos(3, 5).astype(np.float32))
    assert none.verdict == "not judged: the net has no BatchNorm and no class probabilities to judge by"


def test_made_up_weights_expect_nothing(tmp_path):
    suggestion = suggest(nets.load(tmp_path, BATCH_NORM), "data", photos(3).astype(np.float32))
    assert suggestion.verdict == "not judged: the net's weights are made up, and expect nothing"


def embedding_net(folder: Path, scale: float) -> caffeport.Net:
    """Rows of tanh(scale' * pixels' sums): near 0 for a scale that is too small, all 1 or -1 for one too large."""
    text = nets.inputs(data=(1, 3, SIZE, SIZE)) + nets.inner_product("data", "sum", 64)
    net = nets.load(folder, text + nets.layer("TanH", "sum", "fc5"))
    random = np.random.default_rng(0)
    weight = random.normal(0, 1, (64, 3 * SIZE * SIZE))
    weight -= weight.mean(1, keepdims=True)  # whatever the mean, so that the scale alone decides
    bias = np.full(64, 2.0)  # that all photos share, and drowns what is too small
    weight *= 2 / (scale * 40 * np.sqrt(3 * SIZE * SIZE))
    return net.with_weights({"sum": [weight.astype(np.float32), bias.astype(np.float32)]})


def test_a_pair_rules_out_where_people_are_alike(tmp_path):
    net = embedding_net(tmp_path, 1.0)
    first, other = photos(2, 3).astype(np.float32)
    again = np.clip(first + np.random.default_rng(4).normal(0, 4, first.shape), 0, 255).astype(np.float32)
    suggestion = suggest(net, "data", np.stack([first, again, other]), pair=True)
    assert set(suggestion.likely) == {"x", "x - 127.5", "x - (104, 117, 123)"}, suggestion.verdict
    assert {way.ruled_out for way in suggestion.candidates} == {"", "the pair"}
    for way in suggestion.candidates:
        if way.scale < 0.1:
            assert way.same == pytest.approx(way.different, abs=0.1)
    strangers = suggest(net, "data", photos(3, 3).astype(np.float32), pair=True)
    assert strangers.verdict == "undecided: nothing that was measured tells the usual ways apart"
    assert "too little between them" in strangers.reasons[0]
    alone = suggest(net, "data", np.stack([first, again, other]))
    assert alone.verdict.endswith("; a face net can be judged by a pair")


def test_a_pair_that_cannot_be_one_is_told(tmp_path):
    net = embedding_net(tmp_path, 1.0)
    with pytest.raises(caffeport.CaffeportError, match=r"one person and one of another, 3 or more; got 2"):
        suggest(net, "data", photos(2).astype(np.float32), pair=True)
    with pytest.raises(caffeport.CaffeportError, match=r"whose one output is an embedding; this one's are conv"):
        suggest(trained(tmp_path, "x", "BGR"), "data", photos(3).astype(np.float32), pair=True)


def test_answers_that_are_guesses_rule_out(tmp_path):
    text = nets.inputs(data=(1, 1, SIZE, SIZE)) + nets.inner_product("data", "fc", 10)
    net = nets.load(tmp_path, text + nets.layer("Softmax", "fc", "prob"))
    weight = np.random.default_rng(0).normal(0, 0.01, (10, SIZE * SIZE)).astype(np.float32)
    net = net.with_weights({"fc": [weight, np.zeros(10, np.float32)]})
    suggestion = suggest(net, "data", photos(2)[:, :1].astype(np.float32))
    assert suggestion.likely == ["x", "x - 127.5"] and suggestion.order == "grey"
    assert suggestion.verdict == "undecided between x and x - 127.5"
    logits = photos(2)[:, :1].reshape(2, -1) @ weight.T.astype(np.float64)
    mirrored = photos(2)[:, :1, :, ::-1].reshape(2, -1) @ weight.T.astype(np.float64)
    shares = np.exp([*logits, *mirrored])
    shares /= shares.sum(1, keepdims=True)
    entropy = (-shares * np.log(shares)).sum(1).min() / math.log(10)
    assert suggestion.candidates[0].entropy == pytest.approx(entropy, abs=1e-5)  # float32's shares near 1


@pytest.fixture
def files(tmp_path) -> tuple[list[str], list[str]]:
    """NET and WEIGHTS; options for three images."""
    net = trained(tmp_path, "(x - 127.5) * 0.0078125", "RGB")
    net.save(tmp_path / "net.caffemodel", prototxt=tmp_path / "deploy.prototxt")
    options = []
    for number, photo in enumerate(photos(3, 5)):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), photo.transpose(1, 2, 0))
        options += ["--input", str(path)]
    return [str(tmp_path / "deploy.prototxt"), str(tmp_path / "net.caffemodel")], options


def test_the_command_tells_it(files, capsys):
    model, images = files
    assert main(["check", *model, *images]) == 0
    out = capsys.readouterr().out
    assert "preprocessing: none was given; likely (x - 127.5) * 0.0078125, RGB\n" in out
    assert "ruled out by" in out and "ok: 3 of 3 blobs compared" in out
    assert main(["check", *model, *images, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["preprocessing"]
    assert said["verdict"] == "likely (x - 127.5) * 0.0078125, RGB" and said["photos"] == 3 and said["order"] == "RGB"
    assert len(said["candidates"]) == 14 and said["candidates"][0]["formula"] == "x"


@pytest.mark.parametrize("given", ["--mean 127.5", "--scale 1", "--rgb", "--preset mobilefacenet"])
def test_with_a_preprocessing_nothing_is_tried(given, files, capsys):
    model, images = files
    assert main(["check", *model, *images, *given.split(), "--json"]) == 0
    assert "preprocessing" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("--pair --input 0.png --scale 1", r"--pair is for images of --input without any preprocessing"),
        ("--pair", r"--pair is for images of --input without any preprocessing"),
        ("--pair --input a.npz", r"--pair is for images of --input without any preprocessing"),
        ("--pair --input 0.png --input 1.png", r"--pair takes two images of one person .*; got 2"),
        ("--pair --input 0.png --input 1.png --input 2.png", r"whose one output is an embedding; this one's are conv"),
        ("--input 0.png --input a.npz", r"--input: one \.npz or \.npy, or images; several of them are one batch"),
        ("--input 0.png --input absent.png", r"absent\.png: No such file"),
    ],
)
def test_odd_wishes_are_told(words, problem, files, tmp_path, monkeypatch, capsys):
    model, _ = files
    monkeypatch.chdir(tmp_path)
    assert main(["check", *model, *words.split()]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and re.search(problem, error)


def test_images_for_a_net_with_labels(tmp_path, capsys, monkeypatch):
    """A net as it was tested with: the labels are made up, one an image."""
    monkeypatch.chdir(tmp_path)
    text = nets.inputs(data=(5, 3, 8, 8), label=(5,)) + nets.inner_product("data", "fc", 4)
    text += nets.layer("SoftmaxWithLoss", "fc label", "loss") + nets.layer("Accuracy", "fc label", "accuracy")
    nets.load(tmp_path, text).save("net.caffemodel")
    for name in ("a.png", "b.png"):
        cv2.imwrite(name, np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8))
    assert (
        main(["check", "net.prototxt", "net.caffemodel", "--input", "a.png", "--input", "b.png", "--scale", "0.1"]) == 0
    )
    said = capsys.readouterr().out
    assert "2x4" in said and "ok: " in said
    both = nets.inputs(data=(1, 3, 8, 8), other=(1, 3, 8, 8)) + nets.layer("Eltwise", "data other", "sum")
    nets.load(tmp_path, both).save("net.caffemodel")
    assert main(["check", "net.prototxt", "net.caffemodel", "--input", "a.png"]) == 2
    assert "an image fits a net with one image input; this one reads data, other: give .npz" in capsys.readouterr().err


def test_a_preprocessing_of_nothing_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nets.load(tmp_path, nets.inputs(data=(1, 3, 8, 8)) + nets.inner_product("data", "fc", 4)).save("net.caffemodel")
    assert main(["check", "net.prototxt", "net.caffemodel", "--mean", "127.5", "--backends", "torch,onnx"]) == 0
    assert "neither is given, so that they change nothing" in capsys.readouterr().err
    cv2.imwrite("a.png", np.zeros((8, 8, 3), np.uint8))
    assert main(["check", "net.prototxt", "net.caffemodel", "--mean", "127.5", "--input", "a.png"]) == 0
    assert "change nothing" not in capsys.readouterr().err
