"""The texts that NormFace, caffe-face and AM-Softmax published, as they stand, in the built Caffe."""

from __future__ import annotations

import numpy as np
import pytest
from support import caffe_trees
from support.caffe_jobs import run_jobs

MODELS = caffe_trees.REPOSITORY.parent / "shared" / "models"
FOLDERS = ("normface", "center_face", "am_softmax")
NETS = sorted(
    f"{folder}/{path.name}" for folder in FOLDERS for path in (MODELS / folder).glob("*.prototxt")
    if "solver" not in path.name
)  # fmt: skip
BATCH, STEPS = 4, 3

SOLVER = "base_lr: {rate}\nlr_policy: 'fixed'\nmomentum: 0.9\nweight_decay: 0.0005\nmax_iter: 100\ndisplay: 0\n"


def inputs(name: str) -> dict[str, np.ndarray]:
    """Synthetic samples for every input that the texts have: random images, each class of its own kind."""
    random = np.random.default_rng(7)
    digits = "mnist" in name or "lenet" in name
    classes = 10 if digits else 500
    label = random.integers(0, classes, (STEPS, BATCH))
    if "normalize_layer" in name:  # a net of its own: 200 points in 3-D, two classes
        return {
            "data": random.normal(size=(STEPS, 200, 3, 1, 1)),
            "label": random.integers(0, 2, (STEPS, 200, 1, 1, 1)),
        }
    shape = (1, 28, 28) if digits else (3, 112, 96)
    return {
        "label": label,
        "data": random.normal(size=(STEPS, BATCH, *shape)) * 0.3,
        "last_ip_layer": random.normal(size=(STEPS, BATCH, 512)),
        "norm1": random.normal(size=(STEPS, BATCH, 512)) / 512**0.5,
        "res4_3": random.normal(size=(STEPS, BATCH, 512, 7, 6)),
    }


@pytest.fixture(scope="module")
def runs(pycaffe, tmp_path_factory):
    if not NETS:
        pytest.skip(f"{MODELS} is not here: the published texts are not part of this project")
    jobs = {}
    for name in NETS:
        solver = SOLVER.format(rate=1e-4 if "lenet" in name or "mnist" in name else 1e-3)
        job = {"kind": "published", "net": (MODELS / name).read_text(), "solver": solver}
        jobs[name.replace("/", "-")] = job | {f"input/{key}": array for key, array in inputs(name).items()}
    return run_jobs(pycaffe, tmp_path_factory.mktemp("published"), jobs)


@pytest.mark.parametrize("name", NETS or ["none"])
def test_published_net_trains(runs, name):
    result = runs[name.replace("/", "-")]
    for key, array in result.items():
        assert np.isfinite(array).all(), f"{name}: {key}"
    losses = {key: array for key, array in result.items() if key.startswith("loss/") and "loss" in key[5:]}
    trains = "train_test" in name or any(
        word in name for word in ("softmax.", "contrastive", "triplet", "lenet_", "normalize_layer")
    )
    if not trains:
        return
    assert losses, f"{name} has no loss"
    for key, values in losses.items():
        values = values.reshape(len(values), -1)
        assert len(values) == STEPS and (values[1:] != values[:-1]).all(), f"{name}: {key} does not move: {values}"
