"""The toy's texts in real Caffe: it trains them as normface.Solver does, and the images agree in kind."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
from caffeport.formats import prototxt
from caffeport.formats.prototxt import Message
from normface import Solver
from support import caffe_trees
from support.caffe_jobs import run_jobs
from support.toy_digits import TINY, small_digits

from experiments import toy, toy_nets
from experiments.toy_geometry import spread
from experiments.toy_nets import Recipe
from experiments.toy_training import Trained, network_input

pytestmark = pytest.mark.slow

STEPS = 12
TRAINED = Recipe("softmax", 2, from_softmax=False)
CASES = {f"{recipe.head}-{recipe.size}d": recipe for size in (2, 3) for recipe in toy.recipes(0, size)}


def handed_over(text: str) -> str:
    """The net's text with inputs in place of its images, and without what is of the TEST phase."""
    net = prototxt.parse(text)
    layers = [f for f in net.fields if f.name == "layer" and f.value.text("type") not in ("ImageData", "Accuracy")]
    inputs = prototxt.parse(
        f'layer {{ name: "data" type: "Input" top: "data" top: "label" input_param {{ '
        f"shape {{ dim: {TINY.batch} dim: 1 dim: {TINY.side} dim: {TINY.side} }} shape {{ dim: {TINY.batch} }} }} }}"
    )
    return str(Message([*net.named("name"), *inputs.fields, *layers]))


def fixed_rate(recipe: Recipe) -> str:
    """The solver's text without what needs files."""
    solver = prototxt.parse(toy_nets.solver_text(recipe, TINY))
    solver.remove("net", "test_iter", "test_interval", "snapshot", "snapshot_prefix", "solver_mode", "display")
    return str(solver)


def batches(steps: int) -> dict[str, np.ndarray]:
    train, _ = small_digits()
    chosen = np.random.default_rng(5).integers(0, len(train), (steps, TINY.batch))
    return {"data": network_input(train, TINY.side)[chosen], "label": train.labels[chosen].astype(np.float32)}


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """{name: (Caffe's result, the Solver's losses, the Solver)}: the same start, the same batches."""
    tree = caffe_trees.require("bvlc")
    folder = tmp_path_factory.mktemp("toy_caffe")
    jobs, ours = {}, {}
    for name, recipe in {**CASES, "trained": TRAINED}.items():
        fed = batches(TINY.start if recipe is TRAINED else STEPS)
        net, solver_path = folder / f"{name}.prototxt", folder / f"{name}_solver.prototxt"
        net.write_text(handed_over(toy_nets.net_text(recipe, TINY)))
        solver_path.write_text(fixed_rate(recipe))
        solver = Solver(solver_path, net=net)
        start = {
            f"weight/{layer.name}/{i}": blob for layer in solver.net().layers for i, blob in enumerate(layer.blobs)
        }
        jobs[name] = {"kind": "train", "net": net.read_text(), "solver": fixed_rate(recipe), **start} | {
            f"input/{key}": array for key, array in fed.items()
        }
        losses = []
        for step in range(len(fed["data"])):
            solver.step({key: array[step] for key, array in fed.items()})
            losses.append(solver.loss)
        ours[name] = (np.array(losses), solver)
    results = run_jobs(tree, folder, jobs)
    return {name: (results[name], *ours[name]) for name in jobs}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_caffe_trains_it_the_same(name, trainings):
    """Loss by loss; rounding grows with each iteration."""
    result, losses, _ = trainings[name]
    np.testing.assert_allclose(result["loss/softmax_loss"].ravel(), losses, rtol=2e-3)
    assert np.ptp(losses) > 1e-3  # they move


@pytest.mark.slow
def test_images_agree_in_kind(trainings):
    """After a whole training: rays in both, and as many digits right."""
    result, _, solver = trainings["trained"]
    caffes = result["loss/softmax_loss"].ravel()
    assert caffes[-30:].mean() < 0.5 * caffes[:30].mean()
    blobs = [[result[f"blob/{layer.name}/{i}"] for i in range(len(layer.blobs))] for layer in solver.net().layers]
    of_caffe = {layer.name: arrays for layer, arrays in zip(solver.net().layers, blobs, strict=True) if arrays}
    of_ours = {layer.name: list(layer.blobs) for layer in solver.net().layers if layer.blobs}
    found = {}
    for who, arrays in (("Caffe", of_caffe), ("Solver", of_ours)):
        one = shown(arrays)
        found[who] = (one.accuracy, spread(*one.right).ratio)
    assert min(ratio for _, ratio in found.values()) > 1.3, found
    assert min(accuracy for accuracy, _ in found.values()) > 0.6, found
    assert abs(found["Caffe"][0] - found["Solver"][0]) < 0.15, found  # trainings part by rounding


def shown(arrays: dict[str, list[np.ndarray]]) -> Trained:
    """The test images' features, by the shipped deploy net with these blobs."""
    import torch

    _, test = small_digits()
    images = network_input(test, TINY.side)
    net = caffeport.load(toy_nets.nets_folder() / "deploy_2d.prototxt", input_shapes={"data": images.shape})
    own = {layer.name for layer in net.layers if layer.params}
    model = net.with_weights({name: blobs for name, blobs in arrays.items() if name in own}).to_torch().eval()
    with torch.inference_mode():
        features = model(torch.from_numpy(images)).numpy()
    none = np.zeros(0, np.float32)
    return Trained(TRAINED, features, test.labels, arrays["ip2"][0], np.zeros(10, np.float32), none, none)
