"""An interactive sphere of 3-D features: one HTML page with its own small script, nothing fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import numpy as np
from caffeport.json_text import to_json
from normface.errors import TrainingError

from .style import COLOURS, class_colour


@dataclass(frozen=True)
class Cloud:
    """points (N, 3), of any length; labels (N,) whole numbers from 0; agents (C, 3): the class weights, or None."""

    points: np.ndarray
    labels: np.ndarray
    agents: np.ndarray | None = None


def sphere_page(title: str, clouds: Mapping[str, Cloud], classes: Sequence[str]) -> str:
    """The page: a cloud is chosen by its name, turned by mouse, touch or keys, and shown with its lengths or without.

    Lengths are shown in the cloud's 99th percentile. Raises TrainingError for clouds that are not 3-D and finite, or
    have a label without a class.
    """
    if not clouds:
        raise TrainingError("a sphere needs a cloud of points")
    data = {
        "clouds": [_cloud(name, cloud, len(classes)) for name, cloud in clouds.items()],
        "classes": [
            {"name": name, "colour": class_colour(i), "shape": i // len(COLOURS) % 3} for i, name in enumerate(classes)
        ],
    }
    # "<" must not end the script element, whatever the names are.
    text = to_json(data, indent=None).replace("<", "\\u003c")
    page = files(__package__).joinpath("sphere_page.html").read_text(encoding="utf-8")
    return page.replace("@TITLE@", escape(title)).replace("@DATA@", text)


def _cloud(name: str, cloud: Cloud, classes: int) -> dict[str, object]:
    points, labels = np.asarray(cloud.points, np.float64), np.asarray(cloud.labels)
    agents = np.zeros((0, 3)) if cloud.agents is None else np.asarray(cloud.agents, np.float64)
    for what, array in (("points", points), ("agents", agents)):
        if array.ndim != 2 or array.shape[1] != 3 or not np.isfinite(array).all():
            raise TrainingError(f"{name}: expected {what} (N, 3), all finite, got {array.shape}")
    if labels.shape != points.shape[:1] or not len(labels):
        raise TrainingError(f"{name}: expected a label for each of {len(points)} points, got {labels.shape}")
    if labels.min() < 0 or labels.max() >= classes:
        raise TrainingError(f"{name}: expected labels from 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
    size = float(np.percentile(np.linalg.norm(points, axis=1), 99)) or 1.0
    rounded = [[round(float(x), 3) for x in row] for row in points / size]
    directions = agents / np.maximum(np.linalg.norm(agents, axis=1, keepdims=True), 1e-12)
    return {
        "name": name,
        "points": rounded,
        "labels": labels.astype(int).tolist(),
        "agents": [[round(float(x), 3) for x in row] for row in directions],
    }
