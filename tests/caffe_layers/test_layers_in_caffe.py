"""The layers' own C++ tests, in the trees that were built: gradient checks and all the rest, by ctest."""

from __future__ import annotations

import re

import numpy as np
from support import caffe_trees, golden_cases
from support.caffe_jobs import run_jobs


def test_ctest(caffe_tree):
    result = caffe_trees.run(["ctest", "--test-dir", str(caffe_tree.folder), "--output-on-failure", "-L", "cpu"])
    assert result.returncode == 0, caffe_trees.tail(result.stdout, 60)
    passed = re.findall(r"Test +#\d+: (\w+)_layer\.cpu .*Passed", result.stdout)
    sources = {path.stem[5:-6] for path in (caffe_trees.REPOSITORY / "tests/caffe_layers").glob("test_*_layer.cpp")}
    assert set(passed) == sources


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
