"""The published texts train the same losses in BVLC's Caffe, in an SSD fork, and in normface.Solver.

Nets of NormFace, caffe-face, AM-Softmax and others with their own solvers, from one start, on made samples in place of
their databases. test_published_nets.py has all texts, in BVLC's Caffe alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import caffeport
import normface
import numpy as np
import pytest
import torch
from support import caffe_trees, nets
from support.caffe_jobs import run_jobs
from support.published_models import MODELS, needs_models

pytestmark = [pytest.mark.slow, needs_models]

STEPS = 4
PLAIN = "base_lr: 0.001\nlr_policy: 'fixed'\nmomentum: 0.9\nweight_decay: 0.0005\nmax_iter: 100\n"
"""For texts that were published without a solver."""


@dataclass(frozen=True)
class Text:
    """A published net: its solver if it has one, a batch of its inputs, and its classes."""

    net: str
    solver: str | None
    inputs: dict[str, tuple[int, ...]]
    classes: int
    base_lr: str = ""
    """In place of the solver's: at 0.1 the face nets diverge on four random images, in Caffe as in ours."""


DIGITS, FACES = {"data": (4, 1, 28, 28)}, {"data": (4, 3, 112, 96)}
EMBEDDING = {"last_ip_layer": (4, 512), "norm1": (4, 512)}

TEXTS = [
    Text("normface/lenet_train_test", "normface/lenet_solver", DIGITS, 10),
    Text("normface/lenet_NCA_nonorm", "normface/lenet_solver", DIGITS, 10),
    Text("normface/normalize_layer", None, {"data": (200, 3, 1, 1)}, 2),
    Text("normface/normalized_Euclidean_contrastive", None, EMBEDDING, 500),
    Text("normface/normalized_Euclidean_triplet", None, EMBEDDING, 500),
    Text("normface/scaled_cosine_softmax", None, EMBEDDING, 500),
    Text("normface/combine_softmax_contrastive", None, EMBEDDING, 500),
    Text("center_face/mnist_train_test", "center_face/mnist_solver", DIGITS, 10),
    Text("center_face/face_train_test", "center_face/face_solver", FACES, 500, base_lr="0.001"),
    Text("am_softmax/face_train_test", "am_softmax/face_solver", FACES, 500, base_lr="0.001"),
    Text("am_softmax/face_train_test_wo_fn", "am_softmax/face_solver", FACES, 500, base_lr="0.001"),
    Text("wild/cifar_h5_zj/net", None, {"data": (4, 3, 32, 32)}, 10),
    Text("wild/parking_32x40_1/net", None, {"data1": (4, 3, 32, 40)}, 2),
]


def solver_text(text: Text) -> str:
    """Return the solver without its net, its tests and snapshots, and where it computes."""
    if text.solver is None:
        return PLAIN
    published = (MODELS / f"{text.solver}.prototxt").read_text()
    if text.base_lr:
        published = published.replace("base_lr: 0.1\n", f"base_lr: {text.base_lr}\n")
    return re.sub(r"^(net|test_\w+|snapshot\w*|solver_mode|display)\s*:.*$", "", published, flags=re.MULTILINE)


def samples(text: Text) -> dict[str, np.ndarray]:
    """Return {input: (STEPS, batch, ...)}; norm1, which some texts begin with, are unit vectors."""
    random = np.random.default_rng(7)
    arrays = {name: random.normal(size=(STEPS, *shape)).astype(np.float32) for name, shape in text.inputs.items()}
    if "norm1" in arrays:
        arrays["norm1"] /= np.linalg.norm(arrays["norm1"], axis=-1, keepdims=True)
    first = next(iter(text.inputs.values()))
    shape = (STEPS, first[0], 1, 1, 1) if text.net == "normface/normalize_layer" else (STEPS, first[0])
    arrays["label"] = random.integers(0, text.classes, shape).astype(np.float32)
    return arrays


def group(result: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    return {key.partition("/")[2]: array for key, array in result.items() if key.startswith(f"{kind}/")}


def by_layer(blobs: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    layers: dict[str, list[np.ndarray]] = {}
    for key, array in blobs.items():
        layers.setdefault(key.rpartition("/")[0], []).append(array)
    return layers


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("text", TEXTS, ids=[text.net.replace("/", "-") for text in TEXTS])
def test_published_text_trains_alike(text, tmp_path, one_thread):
    trees = [caffe_trees.require(name) for name in caffe_trees.VERSIONS]
    arrays, solver = samples(text), solver_text(text)
    job = {"kind": "published", "net": (MODELS / f"{text.net}.prototxt").read_text(), "solver": solver, "start": True}
    job |= {f"input/{name}": array for name, array in arrays.items()}
    results = []
    for tree in trees:
        results += run_jobs(tree, tmp_path, {tree.name: job}).values()
        job |= {f"weight/{key}": array for key, array in group(results[0], "start").items()}
        for archive in tmp_path.glob("*.npz"):  # hundreds of megabytes of 10,572 classes
            archive.unlink()
    expected, others = results[0], results[1:]
    losses = {name: values for name, values in group(expected, "loss").items() if "accuracy" not in name}
    assert any("loss" in name for name in losses) and all(np.isfinite(values).all() for values in losses.values())

    for other in others:  # the same arithmetic, compiled twice
        for name, values in losses.items():
            np.testing.assert_allclose(other[f"loss/{name}"], values, rtol=1e-6, err_msg=name)
        for key, blob in group(expected, "blob").items():
            np.testing.assert_allclose(other[f"blob/{key}"], blob, rtol=1e-5, atol=1e-6, err_msg=key)

    start = group(expected, "start")
    net = nets.write(tmp_path, str(expected["net"]), "train.prototxt")
    weights = tmp_path / "start.caffemodel"
    caffeport.load(net, phase="train").with_weights(by_layer(start)).save(weights)
    ours = normface.Solver(nets.write(tmp_path, solver, "solver.prototxt"), net=net, weights=weights)
    weights.unlink()
    for step in range(STEPS):
        ours.step({name: array[step] for name, array in arrays.items() if name in ours.train_net.inputs})
        for name, values in losses.items():
            # Of the first pass sums in another order alone; then a rounding may turn a maximum or a PReLU over.
            rtol = 1e-6 if step == 0 else 1e-4
            found = ours.outputs[name].detach().numpy().reshape(values[step].shape)
            np.testing.assert_allclose(found, values[step], rtol=rtol, atol=1e-9, err_msg=f"{name}, step {step}")
    # What the weights moved by, since a loss hardly tells a wrong step of a blob with a small gradient.
    trained = by_layer(group(expected, "blob"))
    blobs = {layer.name: layer.blobs for layer in ours.net().layers if layer.blobs}
    assert blobs.keys() >= trained.keys()
    for name, arrays_of_layer in trained.items():
        for index, blob in enumerate(arrays_of_layer):
            moved = np.abs(blob - start[f"{name}/{index}"]).max()
            apart = np.abs(np.asarray(blobs[name][index]).reshape(blob.shape) - blob).max()
            assert apart <= 0.05 * moved + 3e-7 * np.abs(blob).max(), f"{name}/{index}: {apart} of {moved}"
