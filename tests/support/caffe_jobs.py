"""Hand jobs to real Caffe (tests/support/pycaffe_jobs.py says what a job is) and collect what it computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from support import caffe_trees


def run_jobs(tree: caffe_trees.Tree, folder: Path, jobs: dict[str, dict[str, Any]]) -> dict[str, dict[str, np.ndarray]]:
    """Run all of them in one process of real Caffe."""
    for name, job in jobs.items():
        np.savez(folder / f"{name}.job.npz", **job)
    script = Path(__file__).with_name("pycaffe_jobs.py")
    result = caffe_trees.run([tree.interpreter, str(script), str(folder)], env=tree.environment())
    assert result.returncode == 0, caffe_trees.tail(result.stdout, 30)
    results = {}
    for name in jobs:
        with np.load(folder / f"{name}.result.npz") as stored:
            results[name] = {key: stored[key] for key in stored.files}
    return results
