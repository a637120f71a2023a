"""The built Caffe against the numbers that the layers' own fork recorded (tests/golden, see its origin there)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from support import golden_cases
from support.caffe_jobs import run_jobs

CASES = golden_cases.cases("face_layers")


def recorded(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        arrays = {key: stored[key] for key in stored.files}
    for text in ("prototxt", "net"):
        if text in arrays:
            arrays[text] = np.array(golden_cases.of_the_fork(str(arrays[text])))
    return arrays


def group(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key[len(prefix) + 1 :]: array for key, array in arrays.items() if key.startswith(prefix + "/")}


def once_job(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    inputs = set(re.findall(r'type: "Input" top: "(\w+)"', str(arrays["prototxt"])))
    job = {"kind": "once", "net": arrays["prototxt"], "phase": "train", "backward": any("diff/" in k for k in arrays)}
    job |= {f"input/{name}": array for name, array in group(arrays, "data").items() if name in inputs}
    job |= {f"weight/{name}": array for name, array in group(arrays, "blob_before").items()}
    return job | {f"top_diff/{name}": array for name, array in group(arrays, "top_diff").items()}


@pytest.fixture(scope="module")
def passes(caffe_tree, tmp_path_factory):
    """Of every recorded case: (what was recorded, what this Caffe gives)."""
    arrays = {name: recorded(golden_cases.GOLDEN / "face_layers" / f"{name}.npz") for name in CASES}
    jobs = {name: once_job(case) for name, case in arrays.items()}
    results = run_jobs(caffe_tree, tmp_path_factory.mktemp("golden"), jobs)
    return {name: (arrays[name], results[name]) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_recorded_case(passes, name):
    """The texts as they stand, but for center_step: FORK: no other option is needed for the fork's numbers."""
    expected, found = passes[name]
    compared = {"data": "data", "diff": "diff", "blob_after": "blob", "blob_diff": "blob_diff"}
    keys = [(key, key.replace(prefix, ours, 1)) for prefix, ours in compared.items()
            for key in expected if key.startswith(prefix + "/")]  # fmt: skip
    assert len(keys) >= 3
    for theirs, ours in keys:
        assert found[ours].shape == expected[theirs].shape, theirs
        np.testing.assert_allclose(found[ours], expected[theirs], rtol=1e-5, atol=1e-6, err_msg=theirs)


TRAJECTORIES = sorted(path.stem for path in (golden_cases.GOLDEN / "trajectories").glob("*.npz"))
assert TRAJECTORIES


@pytest.fixture(scope="module")
def trained(caffe_tree, tmp_path_factory):
    arrays = {name: recorded(golden_cases.GOLDEN / "trajectories" / f"{name}.npz") for name in TRAJECTORIES}
    jobs = {}
    for name, case in arrays.items():
        jobs[name] = {
            "kind": "train", "net": case["net"], "solver": case["solver"],
            "input/data": case["batches"], "input/label": case["labels"],
        }  # fmt: skip
        jobs[name] |= {f"weight/{key}": array for key, array in group(case, "init").items()}
    results = run_jobs(caffe_tree, tmp_path_factory.mktemp("trajectories"), jobs)
    return {name: (arrays[name], results[name]) for name in TRAJECTORIES}


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_recorded_training(trained, name):
    """Forty iterations of the solver: the losses, and the weights at the end."""
    expected, found = trained[name]
    for loss, values in group(expected, "loss").items():
        ours = found[f"loss/{loss}"].reshape(len(values), -1)[:, 0]
        np.testing.assert_allclose(ours[:10], values[:10], rtol=1e-4, err_msg=loss)
        np.testing.assert_allclose(ours, values, rtol=1e-3, err_msg=loss)
    for key, weight in group(expected, "final").items():
        apart = np.linalg.norm(found[f"blob/{key}"] - weight)
        assert apart <= 1e-3 * np.linalg.norm(weight), key
