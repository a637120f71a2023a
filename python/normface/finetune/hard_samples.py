"""The training images that the model finds least like their own identity: hard ones, and wrong labels (--hard-samples).

An image's cosine is that to the mean direction of its identity's *other* images, so that a wrong label does not stand
by itself; beside it the identity that it is most like. Identities of one image have no others, and are left out.
"""

from __future__ import annotations

import contextlib
import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from caffeport.files import replacing

from ..errors import DataError
from ..reading import printable
from . import contact_sheet
from .run import Run
from .validation import embed

CSV, SHEET = "hard_samples.csv", "hard_samples.png"
COLUMNS = ("image", "identity", "images", "cosine", "nearest", "nearest_cosine")
MOST_SHOWN = 64
_ROWS = 256


@dataclass(frozen=True)
class Hard:
    """One image: its place in the training list, its identity's number of images, and the two cosines."""

    place: int
    label: int
    images: int
    cosine: float
    nearest: int
    nearest_cosine: float


def hardest(features: np.ndarray, labels: np.ndarray, number: int) -> list[Hard]:
    """Return the ``number`` images of features (N, D), labels (N,) from 0, with the lowest cosine, the lowest first."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    units = np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)
    counts = np.bincount(labels)
    sums = np.zeros((len(counts), features.shape[1]), np.float64)
    np.add.at(sums, labels, units)
    others = sums[labels] - units
    cosines = np.einsum("nd,nd->n", _unit(others), units)
    cosines[counts[labels] < 2] = np.inf
    order = np.argsort(cosines, kind="stable")[:number]
    order = order[np.isfinite(cosines[order])]
    means = _unit(sums)
    hard = []
    for start in range(0, len(order), _ROWS):
        rows = order[start : start + _ROWS]
        scores = units[rows] @ means.T
        scores[np.arange(len(rows)), labels[rows]] = -np.inf
        for row, near, score in zip(rows.tolist(), scores.argmax(1).tolist(), scores.max(1).tolist(), strict=True):
            label = int(labels[row])
            hard.append(Hard(row, label, int(counts[label]), float(cosines[row]), near, float(score)))
    return hard


def write(run: Run, folder: Path, number: int, device: torch.device) -> list[dict[str, object]]:
    """Write the list and the sheet of the model as it is; returns the list's rows."""
    size, readers = run.config.batch_size, run.config.readers
    features, readable = embed(run.trunk.to(device), run.source, len(run.labels), size, readers, device)
    places = np.flatnonzero(readable)
    names = _identities(run)
    rows: list[dict[str, object]] = []
    cells: list[tuple[np.ndarray, str]] = []
    for hard in hardest(features.numpy(), run.labels[readable], number):
        index = int(run.image_source.places[places[hard.place]])
        values = (
            run.images.names[index],
            names[hard.label],
            hard.images,
            hard.cosine,
            names[hard.nearest],
            hard.nearest_cosine,
        )
        rows.append(dict(zip(COLUMNS, values, strict=True)))
        if len(cells) < MOST_SHOWN:
            own, other = _short(names[hard.label]), _short(names[hard.nearest])
            words = f"{own} {hard.cosine:.2f}\n{other} {hard.nearest_cosine:.2f}"
            with contextlib.suppress(DataError):  # features may be of an image that was there
                cells.append((run.images.read(index), words))
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(folder / CSV) as stream:
        stream.write(text.getvalue().encode("utf-8", "surrogateescape"))
    title = "least like their own identity: its name and cosine, and those of the nearest other one"
    contact_sheet.save(folder / SHEET, cells, columns=8, title=title)
    return rows


def _identities(run: Run) -> list[str]:
    """Return the name of each training class."""
    assert run.images.labels is not None
    stored = np.unique(run.images.labels[run.image_source.places])
    return [run.images.identities[int(label)] for label in stored]


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows, np.float64), where=lengths > 1e-12)


def _short(name: str, most: int = 18) -> str:
    return printable(name, most)
