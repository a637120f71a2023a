"""Caffe's recorded cases (tests/golden, made by real Caffe; see its README) as nets to test with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import caffeport
import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"


def cases(folder: str) -> list[str]:
    """Return the names of a folder's cases; an empty folder is a broken checkout, not a test that passes."""
    names = sorted(path.stem for path in (GOLDEN / folder).glob("*.npz"))
    assert names, f"{GOLDEN / folder} holds no cases"
    return names


def of_the_fork(text: str) -> str:
    """The recorded text, with the field that names NormFace's fork where the default is another step of the centers."""
    return re.sub(r"(center_loss_param\s*\{)", r"\1 center_step: FORK ", text)


@dataclass
class Case:
    """One recording: the net with the recorded weights, and the arrays by the recording's keys."""

    net: caffeport.Net
    arrays: dict[str, np.ndarray]

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """{the rest of the key: array} of the keys ``prefix/...``."""
        return {key[len(prefix) + 1 :]: array for key, array in self.arrays.items() if key.startswith(prefix + "/")}

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        return {name: self.arrays[f"data/{name}"] for name in self.net.inputs}


def load(folder: str, name: str, tmp_path: Path, phase: str) -> Case:
    """Load a recorded case; weights come from the file Caffe wrote, else from the blobs before forward."""
    with np.load(GOLDEN / folder / f"{name}.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    prototxt = tmp_path / f"{name}.prototxt"
    arrays["prototxt"] = np.array(of_the_fork(str(arrays["prototxt"])))
    prototxt.write_text(str(arrays["prototxt"]))
    weights = None
    if "caffemodel" in arrays:
        weights = tmp_path / f"{name}.caffemodel"
        weights.write_bytes(arrays["caffemodel"].tobytes())
    net = caffeport.load(prototxt, weights, phase=phase)
    case = Case(net, arrays)
    before: dict[str, list[np.ndarray]] = {}
    for key, array in sorted(case.group("blob_before").items()):
        before.setdefault(key.rpartition("/")[0], []).append(array)
    if before:
        case.net = net.with_weights(before)
    return case
