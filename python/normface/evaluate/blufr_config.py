"""BLUFR's protocol file, blufr_lfw_config.mat (Liao et al. 2014): MATLAB's, so all indices in it count from 1."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ProtocolError
from ..reading import parsing, read_file
from .matfile import NewerFormatError, read_mat

VARIABLES = ("imageList", "labels", "trainIndex", "testIndex", "galIndex", "probIndex")


@dataclass(frozen=True)
class Trial:
    """Rows of the image list, from 0. Gallery and probes are what identification looks at, all of the test set.

    The training set is for whatever a user fits, here PCA; a file without trainIndex has empty ones.
    """

    train: np.ndarray
    test: np.ndarray
    gallery: np.ndarray
    probes: np.ndarray


@dataclass(frozen=True)
class BlufrConfig:
    images: list[str]
    """Names such as "Aaron_Eckhart_0001.jpg"."""
    labels: np.ndarray
    """(N,) int64: who is on each."""
    trials: list[Trial]
    source: str = "BLUFR"
    """The name that messages have for it."""


def read_config(path: str | Path) -> BlufrConfig:
    """Raises ProtocolError that names the file and the variable that is missing or does not fit."""
    path = Path(path)
    content = _load(path)
    images = [_text(cell) for cell in _variable(path, content, "imageList").reshape(-1)]
    labels = _integers(path, "labels", _variable(path, content, "labels"))
    if len(labels) != len(images):
        raise ProtocolError(f"{path}: labels has {len(labels)} numbers for {len(images)} images in imageList")
    cells = {name: _cells(path, content, name) for name in ("testIndex", "galIndex", "probIndex")}
    if "trainIndex" in content:
        cells["trainIndex"] = _cells(path, content, "trainIndex")
    counts = {name: len(cell) for name, cell in cells.items()}
    if len(set(counts.values())) != 1 or not counts["testIndex"]:
        sizes = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ProtocolError(f"{path}: the trials differ in number or there are none: {sizes}")
    trials = []
    for number in range(counts["testIndex"]):
        rows = {name: _rows(path, f"{name}{{{number + 1}}}", cell[number], len(images)) for name, cell in cells.items()}
        trials.append(
            Trial(rows.get("trainIndex", np.empty(0, np.int64)), rows["testIndex"], rows["galIndex"], rows["probIndex"])
        )
    return BlufrConfig(images, labels, trials, str(path))


def _load(path: Path) -> dict[str, Any]:
    if not os.path.isfile(path):
        raise ProtocolError(f"{path}: no such file; it is blufr_lfw_config.mat of the BLUFR benchmark")
    raw = read_file(path, error=ProtocolError)
    with parsing(path, "is no MATLAB file that can be read", ProtocolError):
        try:
            return read_mat(raw, VARIABLES)
        except NewerFormatError as error:
            raise ProtocolError(f"{path}: is MATLAB 7.3 (HDF5); save it with save -v7 for older readers") from error


def _variable(path: Path, content: dict[str, Any], name: str) -> np.ndarray:
    if name not in content:
        known = ", ".join(key for key in content if not key.startswith("__")) or "none of BLUFR's variables"
        raise ProtocolError(f"{path}: has no {name}; it has {known}")
    return np.asarray(content[name])


def _cells(path: Path, content: dict[str, Any], name: str) -> list[np.ndarray]:
    variable = _variable(path, content, name)
    if variable.dtype != object:
        raise ProtocolError(f"{path}: {name} is an array of {variable.dtype}; expected a cell a trial")
    return [np.asarray(cell) for cell in variable.reshape(-1)]


def _text(cell: Any) -> str:
    array = np.asarray(cell).reshape(-1)
    return str(array[0]).strip() if array.size else ""


def _rows(path: Path, name: str, indices: np.ndarray, images: int) -> np.ndarray:
    rows = _integers(path, name, indices) - 1
    if not rows.size:
        return rows
    if rows.min() < 0 or rows.max() >= images:
        raise ProtocolError(
            f"{path}: {name} runs from {rows.min() + 1} to {rows.max() + 1}; expected 1 to {images}, the images"
        )
    if len(np.unique(rows)) < len(rows):
        raise ProtocolError(f"{path}: {name} names an image twice")
    return rows


def _integers(path: Path, name: str, numbers: np.ndarray) -> np.ndarray:
    numbers = np.asarray(numbers).reshape(-1)
    if numbers.dtype.kind not in "iuf" or not np.array_equal(numbers, np.round(numbers)):
        raise ProtocolError(f"{path}: {name} is {numbers.dtype}; expected whole numbers")
    return numbers.astype(np.int64)
