"""BLUFR's protocol file, written as the benchmark has it."""

from __future__ import annotations

import numpy as np
import pytest


def write_config(path, images, labels, trials):
    """As the benchmark's file: columns, cells, indices from 1. trials: (train, test, gallery, probes), rows from 0."""

    def cells(arrays):
        made = np.empty((len(arrays), 1), object)
        for i, array in enumerate(arrays):
            made[i, 0] = array
        return made

    def indices(part):
        return cells([(np.array(trial[part]) + 1).astype(np.uint16).reshape(-1, 1) for trial in trials])

    content = {"imageList": cells(images), "labels": np.array(labels, np.uint16).reshape(-1, 1)}
    names = ("trainIndex", "testIndex", "galIndex", "probIndex")
    pytest.importorskip("scipy.io").savemat(path, content | {name: indices(part) for part, name in enumerate(names)})
    return path
