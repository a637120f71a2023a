"""The networks and solvers of prototxt/: read in both phases, trained, and held against the papers' formulas."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import caffeport
import normface
import normface.cli.main
import numpy as np
import pytest
import torch
from normface.solver import parameters

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "prototxt"
DIGITS = REPOSITORY / "examples" / "digits"
MODELS = REPOSITORY.parent / "shared" / "models"

TEXTS = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.glob("*/*.prototxt"))
SOLVERS = [name for name in TEXTS if name.endswith("solver")]
NETS = [name for name in TEXTS if name not in SOLVERS]
TRAINED = [name for name in NETS if name.endswith("train_test")]
DEPLOYED = [name for name in NETS if name not in TRAINED]
MIRRORED = [name for name in NETS if "mirror" in name]
BATCH = 2


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(name: str, phase: str = "test", batch: int | None = None) -> caffeport.Net:
    """``batch`` in place of the text's own."""
    path = FOLDER / f"{name}.prototxt"
    net = caffeport.load(path, phase=phase)
    if batch is None:
        return net
    shapes = {blob: (batch, *net.blob_shapes[blob][1:]) for blob in net.inputs}
    return caffeport.load(path, phase=phase, input_shapes=shapes)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def with_labels(net: caffeport.Net) -> tuple[torch.Tensor, torch.Tensor]:
    shape = net.blob_shapes["data"]
    return torch.tensor(0.3 * numbers(*shape)), 2 * torch.arange(float(shape[0]))


def test_the_files_are_what_their_source_says():
    result = subprocess.run(
        [sys.executable, str(FOLDER / "write.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(SOLVERS) == len(TRAINED) == 12 and len(NETS) == 22


@pytest.mark.parametrize("phase", ["train", "test"])
@pytest.mark.parametrize("name", NETS)
def test_every_net_is_read_without_a_warning(name, phase):
    """A CaffeportWarning is an error in these tests: nothing is guessed, all shapes are stated."""
    net = load(name, phase)
    trains = name in TRAINED
    assert net.inputs == (["data", "label"] if trains else ["data"])
    assert any("loss" in output for output in net.outputs) == trains
    assert ("accuracy" in net.outputs) == (trains and phase == "test")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_two_iterations_of_training(name):
    """Every blob that learns gets a gradient, and two small steps against it lower the loss."""
    net = load(name, "train", BATCH)
    model = net.to_torch()
    blobs = {f"{layer.name}.{param.spec.name}": param for layer in net.layers for param in layer.params}
    parameters = dict(model.named_parameters())
    assert set(parameters) == set(blobs)
    data, label = with_labels(net)
    losses = []
    for _ in range(3):
        model.zero_grad()
        loss = model.loss(model(data, label))
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            for key, parameter in parameters.items():
                assert parameter.grad is not None and parameter.grad.isfinite().all(), key
                if blobs[key].lr_mult:
                    assert parameter.grad.abs().max() > 0, key
                    parameter -= 1e-4 * blobs[key].lr_mult * parameter.grad
    assert np.isfinite(losses).all()
    assert losses[2] < losses[1] < losses[0], losses


# What each head computes, from the feature f (N, D), in the papers' words and without any of the layers.


def unit(x):
    return x / np.sqrt((x**2).sum(1, keepdims=True) + 1e-6)


def cross_entropy(logits, label):
    top = logits.max(1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(1, keepdims=True)) + top
    return float((log_sum[:, 0] - logits[np.arange(len(label)), label]).mean())


def squared_distances(f, agents):
    """Of unit vectors (N, D) and (C, D): 2 - 2 cosine."""
    return 2 - 2 * unit(f) @ unit(agents).T


def contrastive(f, agents, label):
    """NormFace, the C-contrastive loss with margin 1."""
    d = squared_distances(f, agents)
    own = d[np.arange(len(f)), label]
    others = np.maximum(0, 1 - d)
    others[np.arange(len(f)), label] = 0
    return float((own + others.sum(1)).mean())


def triplet(f, agents, label):
    """NormFace, the C-triplet loss with margin 0.8, of the nearest other agent."""
    d = squared_distances(f, agents)
    own = d[np.arange(len(f)), label].copy()
    d[np.arange(len(f)), label] = np.inf
    return float(np.maximum(0, own + 0.8 - d.min(1)).mean())


def cosines(f, w):
    return unit(f) @ unit(w).T


def margin(cosine, label):
    """AM-Softmax: 30 (cosine - 0.35 at the label)."""
    cosine = cosine.copy()
    cosine[np.arange(len(label)), label] -= 0.35
    return 30 * cosine


def center(f, centers, label):
    """Wen et al. 2016, equation 2, over the batch's size."""
    return float(((f - centers[label]) ** 2).sum() / (2 * len(f)))


# The class vectors' layers, and the loss of the feature, the labels and those vectors.
FORMULAS = {
    "center_face/train_test": (
        ["fc6", "center_loss"],
        lambda f, y, w, c: cross_entropy(f @ w.T, y) + 0.008 * center(f, c, y),
    ),
    "normface/scaled_cosine_softmax_train_test": (["cosine"], lambda f, y, w: cross_entropy(10 * cosines(f, w), y)),
    "normface/c_contrastive_train_test": (["distance"], lambda f, y, a: contrastive(f, a, y)),
    "normface/c_triplet_train_test": (["agent"], lambda f, y, a: triplet(f, a, y)),
    "normface/softmax_c_contrastive_train_test": (
        ["weight", "agent"],
        lambda f, y, w, a: cross_entropy(4 * cosines(f, w), y) + 0.01 * contrastive(f, a, y),
    ),
    "am_softmax/train_test": (["fc6_l2"], lambda f, y, w: cross_entropy(margin(cosines(f, w), y), y)),
    "mnist/softmax_2d_train_test": (["ip2"], lambda f, y, w: cross_entropy(f @ w.T, y)),
    "mnist/normalized_softmax_3d_train_test": (["weight"], lambda f, y, w: cross_entropy(10 * cosines(f, w), y)),
    "digits/center_train_test": (
        ["fc6", "center_loss"],
        lambda f, y, w, c: cross_entropy(f @ w.T, y) + 0.008 * center(f, c, y),
    ),
    "digits/normalized_softmax_train_test": (["cosine"], lambda f, y, w: cross_entropy(10 * cosines(f, w), y)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMULAS)
def test_the_loss_is_the_papers(name):
    net = load(name, "train", BATCH)
    feature = "ip1" if name.startswith("mnist") else "fc5"
    data, label = with_labels(net)
    y = label.numpy().astype(int)
    with torch.no_grad():
        f = net.to_torch().blobs(data, label)[feature].numpy()
    layers, formula = FORMULAS[name]
    vectors = {}
    for seed, layer in enumerate(layers):
        stored = net.layer(layer).blobs
        rows = numbers(*stored[0].shape, seed=seed)
        length = np.linalg.norm(f, axis=1, keepdims=True)
        rows *= length.mean() / np.linalg.norm(rows, axis=1, keepdims=True)
        rows[y] += 1.5 * f  # near enough to its samples that margins and clamps have something to do
        vectors[layer] = [rows, *stored[1:]]
    model = net.with_weights(vectors).to_torch()
    with torch.no_grad():
        found = model.loss(model(data, label)).item()
    wanted = formula(f.astype(float), y, *(blobs[0].astype(float) for blobs in vectors.values()))
    # float32 sums over some ten thousand classes; Normalize's 1e-6 inside the root is in unit().
    assert found == pytest.approx(wanted, rel=2e-5)


@pytest.mark.parametrize("name", DEPLOYED)
def test_a_deploy_net_takes_what_its_training_gives(name):
    def shapes(net):
        return {layer.name: [param.shape for param in layer.params] for layer in net.layers if layer.params}

    folder, stem = name.split("/")
    size = stem.removeprefix("deploy_") if folder == "mnist" else ""
    trained = [other for other in TRAINED if other.startswith(f"{folder}/") and size in other]
    assert trained
    for other in trained:
        assert shapes(load(name)).items() <= shapes(load(other, "train")).items()


def described(net: caffeport.Net) -> list[tuple]:
    """All that decides whether weights fit and training goes alike, layer by layer."""
    return [
        (layer.name, layer.type, layer.bottoms, layer.tops, [learned(param) for param in layer.params])
        for layer in net.layers
        if layer.type not in ("Input", "ImageData")
    ]


def learned(param: caffeport.Param) -> tuple:
    return param.shape, param.lr_mult, param.decay_mult, param.spec.filler


@pytest.mark.parametrize("phase", ["train", "test"])
@pytest.mark.parametrize("kind", ["deploy", "train_test"])
def test_center_face_is_the_published_network(kind, phase):
    path = MODELS / "center_face" / f"face_{kind}.prototxt"
    if not path.exists():
        pytest.skip("caffe-face's own text (../shared/models/center_face) is not here")
    shapes = {"data": (2, 3, 112, 96), "label": (2,)} if kind == "train_test" else {}
    published = {layer[0]: layer for layer in described(caffeport.load(path, phase=phase, input_shapes=shapes))}
    ours = {layer[0]: layer for layer in described(load(f"center_face/{kind}", phase))}
    ours.pop("accuracy", None)  # which the published one does not report
    assert list(ours.values()) == list(published.values())


def test_am_softmax_takes_the_weights_of_the_published_network():
    path = MODELS / "am_softmax" / "face_train_test.prototxt"
    if not path.exists():
        pytest.skip("AM-Softmax's own text (../shared/models/am_softmax) is not here")
    shapes = {"data": (1, 3, 112, 96), "label": (1,)}
    published = caffeport.load(path, phase="train", input_shapes=shapes)

    ours = load("am_softmax/train_test", "train", 1)
    blobs = [{layer[0]: layer[4] for layer in described(net) if layer[4]} for net in (ours, published)]
    assert blobs[0] == blobs[1]


def test_the_digits_network_is_the_recorded_one():
    recorded = np.load(DIGITS / "digits_center_blobs.npz")
    net = caffeport.load(FOLDER / "digits/deploy.prototxt", DIGITS / "digits_center.caffemodel")
    with torch.no_grad():
        found = net.to_torch()(torch.tensor(recorded["data"])).numpy()
    np.testing.assert_allclose(found, recorded["fc5"], 1e-4, 1e-5)
    for ours, other in [("deploy", "deploy"), ("center_train_test", "train")]:
        assert described(load(f"digits/{ours}", "train")) == described(
            caffeport.load(DIGITS / f"{other}.prototxt", phase="train")
        )


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_names_its_net_and_no_field_that_caffe_lacks(name):
    text = parameters.read(FOLDER / f"{name}.prototxt")
    net = name.removesuffix("solver") + "train_test"
    assert text.fields.net == f"{Path(net).name}.prototxt" and net in TRAINED
    assert text.fields.max_iter >= text.fields.snapshot > 0
    assert all(0 < step < text.fields.max_iter for step in text.fields.stepvalue)


@pytest.mark.parametrize("name", [name for name in SOLVERS if name.startswith(("mnist", "digits"))])
def test_a_solver_runs(name):
    """Those of the small nets, as they stand, from their fillers' weights."""
    solver = normface.Solver(FOLDER / f"{name}.prototxt")
    shape = load(name.removesuffix("solver") + "train_test").blob_shapes["data"]
    batch = {"data": 0.3 * numbers(8, *shape[1:]), "label": np.arange(8) % 7}
    losses = []
    for _ in range(3):
        solver.step(batch)
        losses.append(solver.loss)
    assert losses[2] < losses[0], losses


@pytest.mark.slow
def test_the_digits_are_learned_from_the_disk(tmp_path, monkeypatch, capsys):
    """As a user would: the images that the demo writes, the solver in its folder, ``normface train``."""
    monkeypatch.syspath_prepend(str(DIGITS))
    digits = importlib.import_module("digits")
    for name in ("center_solver", "center_train_test"):
        text = (FOLDER / f"digits/{name}.prototxt").read_text()
        text = text.replace("max_iter: 700", "max_iter: 60").replace("test_interval: 100", "test_interval: 60")
        (tmp_path / f"{name}.prototxt").write_text(text)
    digits.write_images(tmp_path / "data")
    assert len((tmp_path / "data/val.txt").read_text().splitlines()) == 4 * 35  # test_iter batches of the TEST phase
    monkeypatch.chdir(tmp_path)
    assert normface.cli.main.main(["train", "--solver", "center_solver.prototxt"]) == 0
    before, after = map(float, re.findall(r"accuracy = ([0-9.]+)", capsys.readouterr().out))
    assert before < 0.4 and after > 0.9  # of seven classes: chance, and most of them
    trained = caffeport.load(FOLDER / "digits/deploy.prototxt", tmp_path / "digits_center_iter_60.caffemodel")
    assert trained.outputs == ["fc5"]


@pytest.mark.slow
@pytest.mark.parametrize("name", MIRRORED)
def test_a_mirrored_feature_is_made_of_two_plain_ones(name):
    plain = load(f"{name.split('/')[0]}/deploy")
    net = load(name)
    weights = {layer.name: layer.blobs for layer in plain.layers if layer.params}
    net, model = net.with_weights(weights), plain.to_torch(outputs=["fc5"])
    x = 0.3 * numbers(2, *plain.blob_shapes["data"][1:], seed=3)
    with torch.no_grad():
        front, mirrored = (model(torch.tensor(np.ascontiguousarray(image))).numpy() for image in (x, x[..., ::-1]))
        found = net.to_torch()(torch.tensor(x)).flatten(1).numpy()  # the layer gives (N, C, 1, 1)
    merged = {
        "sum": front + mirrored, "max": np.maximum(front, mirrored), "concat": np.hstack([front, mirrored])
    }[name.rsplit("_")[-1]]  # fmt: skip
    np.testing.assert_allclose(found, unit(merged), 1e-4, 1e-6)
    report = net.check(x, rtol=1e-4, atol=1e-6)  # the ONNX file too, with another batch than the text's
    assert report.ok, report.summary
