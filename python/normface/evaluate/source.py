"""The features of a protocol, from a features file, or images and a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .names import ImageRows
from .ytf import video_of


@dataclass(frozen=True)
class Chosen:
    """Some of a source's images, itself such a source."""

    images: Any
    rows: np.ndarray
    labels: None = None

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def names(self) -> list[str]:
        names = self.images.names
        return [names[row] for row in self.rows]

    def read(self, i: int) -> np.ndarray:
        return self.images.read(int(self.rows[i]))


def finder(images: Any) -> Callable[[str], np.ndarray]:
    """name -> image: of that name, as ImageRows understands it, or the first frame of a video of that name."""
    named = ImageRows(images.names)
    exact = {name: row for row, name in enumerate(images.names)}
    frames: dict[str, int] = {}
    for row, name in enumerate(images.names):
        frames.setdefault(video_of(name), row)

    def read(name: str) -> np.ndarray:
        row = exact.get(name, frames.get(name))
        if row is None:
            row = int(named.find_files([name], "the images")[0])
        return images.read(row)

    return read


def mirror_note(settings: dict[str, Any], protocol_mirror: str, protocol: str) -> str | None:
    """Return what to know where the features' mirror merge is another than the protocol's published pipeline uses."""
    mirror = settings.get("mirror")
    if mirror is None or mirror == protocol_mirror:
        return None
    return f"the features are merged by mirror {mirror}; {protocol} as published merges by {protocol_mirror}"
