"""The rooms that the toy's experiments share: nets as text, training, measures."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
from caffeport.formats import prototxt
from normface.errors import DataError, TrainingError
from support.toy_digits import small_digits

from experiments import toy_geometry, toy_nets
from experiments.result import Options
from experiments.toy_heads import HEADS
from experiments.toy_nets import Plan, Recipe
from experiments.toy_training import RUNS, network_input, train_all

pytestmark = pytest.mark.slow

OPTIONS = {
    "positive-scale": (("positive", 0.75), ("scale", 15.0)),
    "am-softmax": (("margin", 0.1), ("scale", 30.0)),
    "arcface": (("margin", 8.0), ("scale", 30.0)),
    "sphereface": (("base", 100.0), ("lambda_min", 1.0)),
    "large-margin": (("base", 100.0), ("lambda_min", 1.0)),
    "center": (("weight", 0.1),),
}
SHORT = Plan(side=7, batch=20, start=6, iterations=4, finetuning_rate=0.002, clip=3.5)


@pytest.fixture(scope="module")
def digits():
    return tuple(part.first(20) for part in small_digits())


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_makes_a_net_and_a_solver(head, size):
    recipe = Recipe(head, size, OPTIONS.get(head, ()), digits=(0, 1, 2, 3, 4, 5, 6))
    net = prototxt.parse(toy_nets.net_text(recipe, SHORT))
    layers = {layer.text("name"): layer for layer in net.messages("layer")}
    shipped = prototxt.load(toy_nets.nets_folder() / f"softmax_{size}d_train_test.prototxt")
    backbone = [str(layer) for layer in shipped.messages("layer")][2:-3]  # between the data layers and the head
    assert [str(layer) for layer in net.messages("layer")][2 : 2 + len(backbone)] == backbone
    assert layers["softmax_loss"].text("type") == "SoftmaxWithLoss"
    assert "batch_size: 20" in str(net) and "new_height: 7" in str(net)
    solver = prototxt.parse(toy_nets.solver_text(recipe, SHORT))
    assert (solver.text("max_iter"), solver.texts("stepvalue")) == ("4", ["2", "3"])  # half and 0.8 of the way
    assert [solver.text(name) for name in ("base_lr", "clip_gradients", "momentum")] == ["0.002", "3.5", "0.9"]
    start = prototxt.parse(toy_nets.solver_text(recipe.start(), SHORT))
    assert (start.text("base_lr"), start.text("max_iter"), start.texts("clip_gradients")) == ("0.01", "6", [])


def test_shipped_heads_are_the_shipped_text():
    """But for the data layers' sizes."""
    for head, file in (("softmax", "softmax"), ("normalized", "normalized_softmax")):
        made = prototxt.parse(toy_nets.net_text(Recipe(head), Plan(side=28, batch=128)))
        shipped = prototxt.load(toy_nets.nets_folder() / f"{file}_2d_train_test.prototxt")
        assert [str(layer) for layer in made.messages("layer")][2:] == [
            str(layer) for layer in shipped.messages("layer")
        ][2:]


def test_unknown_head():
    with pytest.raises(TrainingError, match="no head 'tanh'; there are softmax, normalized"):
        toy_nets.net_text(Recipe("tanh"), SHORT)


@pytest.mark.slow
def test_training_leaves_a_folder_that_loads(digits, tmp_path):
    """The stored features are what the stored weights give, the class weights those of the file."""
    recipe = Recipe("normalized", 3, seed=5, digits=(1, 4, 7))
    (trained,) = train_all([recipe], Options(out=tmp_path), SHORT, digits)
    assert trained.features.shape == (len(digits[1]) + 7 * 20, 3)  # test images, and training ones of the others
    assert (len(trained.losses), len(trained.scales), trained.weights.shape) == (4, 4, (3, 3))
    assert set(trained.seen[1]) == {1, 4, 7} and not set(trained.unseen[1]) & {1, 4, 7}
    np.testing.assert_allclose(np.linalg.norm(trained.weights, axis=1), 1, rtol=1e-6)
    folders = {folder.name.split("-")[0]: folder for folder in (tmp_path / RUNS).iterdir()}
    assert set(folders) == {"softmax", "normalized"}
    folder = folders["normalized"]
    assert {path.name for path in folder.iterdir()} == {
        "train_test.prototxt", "solver.prototxt", "deploy.prototxt", "start.caffemodel", "trained.caffemodel",
        "features.npz",
    }  # fmt: skip
    images = network_input(digits[1], 7)
    deploy = toy_nets.nets_folder() / "deploy_3d.prototxt"
    net = caffeport.load(deploy, folder / "trained.caffemodel", input_shapes={"data": images.shape})
    import torch

    with torch.inference_mode():
        features = net.to_torch().eval()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(trained.features[: len(images)], features, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_it_starts_from_the_softmax_net(digits, tmp_path):
    recipe = Recipe("am-softmax", 2, OPTIONS["am-softmax"])
    train_all([recipe], Options(out=tmp_path), SHORT, digits)
    folders = {folder.name.split("-")[0]: folder for folder in (tmp_path / RUNS).iterdir()}
    before = caffeport.load(folders["softmax"] / "train_test.prototxt", folders["softmax"] / "trained.caffemodel",
                            phase="train")  # fmt: skip
    after = caffeport.load(folders["am"] / "train_test.prototxt", folders["am"] / "start.caffemodel", phase="train")
    held = {layer.name: layer.blobs for layer in before.layers if layer.blobs}
    given = {layer.name: layer.blobs for layer in after.layers if layer.blobs}
    rows, turned = held.pop("ip2")[0], given["weight"][0]  # of one length, since only their direction counts
    np.testing.assert_allclose(rows / np.hypot(*rows.T)[:, None], turned / np.hypot(*turned.T)[:, None], rtol=1e-5)
    np.testing.assert_allclose(np.hypot(*turned.T), 3, rtol=1e-5)
    for name, blobs in held.items():
        for mine, other in zip(blobs, given[name], strict=True):
            np.testing.assert_array_equal(mine, other, err_msg=name)


@pytest.mark.slow
def test_the_same_numbers_for_the_same_seed(digits, tmp_path):
    """Whatever else is trained beside it, and without reading what an earlier run left."""
    recipe, other = Recipe("normalized", seed=3), Recipe("unit-weights", seed=3)
    (first,) = train_all([recipe], Options(out=tmp_path / "a"), SHORT, digits)
    (_, second) = train_all([other, recipe], Options(out=tmp_path / "b"), SHORT, digits)
    (different,) = train_all([Recipe("normalized", seed=4)], Options(out=tmp_path / "a"), SHORT, digits)
    np.testing.assert_array_equal(first.features, second.features)
    np.testing.assert_array_equal(first.losses, second.losses)
    assert (first.losses != different.losses).any()


def test_what_is_there_is_not_trained_again(digits, tmp_path, monkeypatch):
    recipe = Recipe("softmax", from_softmax=False)
    (first,) = train_all([recipe], Options(out=tmp_path), SHORT, digits)
    monkeypatch.setattr("experiments.toy_training.Solver", None)
    (again,) = train_all([recipe], Options(out=tmp_path), SHORT, digits)
    np.testing.assert_array_equal(first.features, again.features)


@pytest.mark.slow
def test_a_broken_result_is_made_anew(digits, tmp_path):
    recipe = Recipe("softmax", from_softmax=False)
    (first,) = train_all([recipe], Options(out=tmp_path), SHORT, digits)
    (file,) = (tmp_path / RUNS).glob("*/features.npz")
    file.write_bytes(file.read_bytes()[:200])
    (again,) = train_all([recipe], Options(out=tmp_path), SHORT, digits)
    np.testing.assert_array_equal(first.features, again.features)
    assert not list((tmp_path / RUNS).glob(".*"))


def test_too_few_images(digits, tmp_path):
    few = digits[0].first(1), digits[1]
    with pytest.raises(DataError, match="expected 20 images or more"):
        train_all([Recipe("softmax")], Options(out=tmp_path), SHORT, few)
    assert not list((tmp_path / RUNS).iterdir())


def test_network_input_is_the_mean_of_blocks():
    from experiments.mnist import Digits

    images = np.zeros((1, 28, 28), np.uint8)
    images[0, :2, :2] = [[0, 100], [200, 255]]
    small = network_input(Digits(images, np.array([0])), 14)
    assert small.shape == (1, 1, 14, 14)
    assert small[0, 0, 0, 0] == pytest.approx((555 / 4 - 127.5) / 128, abs=1e-6)
    assert small[0, 0, 0, 1] == pytest.approx(-127.5 / 128)


# Measures, on features whose numbers are known.


def ray(angle: float, lengths: np.ndarray) -> np.ndarray:
    return lengths[:, None] * [math.cos(math.radians(angle)), math.sin(math.radians(angle))]


def test_spread_of_rays_and_of_rings():
    lengths = np.linspace(1, 3, 101)
    rays = np.concatenate([ray(0, lengths), ray(90, lengths)])
    labels = np.repeat([0, 1], 101)
    found = toy_geometry.spread(rays, labels)
    assert found.radial == pytest.approx(1.8 / 2)  # from 1.1 to 2.9, median 2
    assert found.sideways == pytest.approx(0, abs=1e-6)
    arcs = np.concatenate([ray(a, np.ones(1)) for a in np.linspace(-20, 20, 101)])
    found = toy_geometry.spread(arcs, np.zeros(101, int))
    assert found.radial == pytest.approx(0, abs=1e-9)
    assert found.sideways == pytest.approx(2 * math.sin(math.radians(18)), rel=0.02)  # 90 % of the 40 degrees: 36


def test_separation_of_two_arcs():
    """Classes from 0 to 10 and from 50 to 70 degrees; percentiles 0 and 100 would be span 10, 20, gap 40."""
    one = np.concatenate([ray(a, np.ones(1)) for a in np.linspace(0, 10, 60)])
    two = np.concatenate([ray(a, np.full(1, 5.0)) for a in np.linspace(50, 70, 60)])
    found = toy_geometry.separation(np.concatenate([one, two]), np.repeat([3, 8], 60))
    differences = np.abs(np.subtract.outer(np.linspace(0, 10, 60), np.linspace(0, 10, 60)))
    assert found.spans == pytest.approx(
        [np.percentile(differences[np.triu_indices(60, 1)], 95) * factor for factor in (1, 2)], abs=1e-4
    )
    between = np.subtract.outer(np.linspace(50, 70, 60), np.linspace(0, 10, 60))
    assert found.gaps == pytest.approx([np.percentile(between, 5)] * 2, abs=1e-4)
    assert found.apart == 1


@pytest.mark.parametrize("score", toy_geometry.SCORES)
def test_scores_against_one_pair_at_a_time(score):
    random = np.random.default_rng(0)
    a, b = random.standard_normal((4, 3)), random.standard_normal((5, 3))
    formula = {
        "Euclidean distance": lambda x, y: -math.dist(x, y),
        "inner product": np.dot,
        "cosine": lambda x, y: np.dot(x, y) / math.hypot(*x) / math.hypot(*y),
    }[score]
    expected = [[formula(x, y) for y in b] for x in a]
    np.testing.assert_allclose(toy_geometry.SCORES[score](a, b), expected, rtol=1e-9)
