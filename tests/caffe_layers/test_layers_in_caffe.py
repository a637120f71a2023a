"""The layers' own C++ tests, in the trees that were built: gradient checks and all the rest, by ctest."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support import caffe_trees, golden_cases
from support.caffe_jobs import run_jobs

TESTS = {path.stem[5:-6] for path in (caffe_trees.REPOSITORY / "tests/caffe_layers").glob("test_*_layer.cpp")}


def passed(tree: caffe_trees.Tree) -> set[str]:
    result = caffe_trees.run(["ctest", "--test-dir", str(tree.folder), "--output-on-failure", "-L", "cpu"])
    assert result.returncode == 0, caffe_trees.tail(result.stdout, 60)
    return set(re.findall(r"Test +#\d+: (\w+)_layer\.cpu .*Passed", result.stdout))


def test_ctest(caffe_tree):
    assert passed(caffe_tree) == TESTS


def test_ctest_in_your_tree():
    """All but the tests of layers that the tree has of its own, which stay out of it."""
    if not caffe_trees.YOURS:
        pytest.skip("NORMFACE_CAFFE_ROOT names no Caffe tree")
    tree = caffe_trees.require("yours")
    put_in = {name for name in TESTS if (tree.copy / f"src/caffe/test/test_{name}_layer.cpp").exists()}
    assert passed(tree) == put_in != set()


SSD_NORMALIZE = [name for name in golden_cases.cases("ssd") if "normalize" in name]


def test_ssd_normalize_beside_ours(tmp_path):
    """In an SSD fork the type Normalize serves norm_param too; these are its recordings."""
    tree = caffe_trees.require("ssd")
    assert len(SSD_NORMALIZE) == 3
    jobs, recorded = {}, {}
    for name in SSD_NORMALIZE:
        case = recorded[name] = golden_cases.load("ssd", name, tmp_path, "test")
        jobs[name] = {"kind": "once", "net": case.arrays["prototxt"], "phase": "test", "backward": False}
        jobs[name] |= {f"input/{key}": array for key, array in case.inputs.items()}
        jobs[name] |= {f"weight/{key}": array for key, array in case.group("blob").items()}
    for name, found in run_jobs(tree, tmp_path, jobs).items():
        for key, array in recorded[name].group("data").items():
            np.testing.assert_allclose(found[f"data/{key}"], array, rtol=1e-5, atol=1e-6, err_msg=f"{name} {key}")
