"""Where a protocol's features come from: a features file, or pictures and a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .names import PictureRows
from .ytf import video_of


@dataclass(frozen=True)
class Chosen:
    """Some of a source's pictures, itself such a source."""

    pictures: Any
    rows: np.ndarray
    labels: None = None

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def names(self) -> list[str]:
        names = self.pictures.names
        return [names[row] for row in self.rows]

    def read(self, i: int) -> np.ndarray:
        return self.pictures.read(int(self.rows[i]))


def finder(pictures: Any) -> Callable[[str], np.ndarray]:
    """name -> picture: of that name, as PictureRows understands it, or the first frame of a video of that name."""
    named = PictureRows(pictures.names)
    exact = {name: row for row, name in enumerate(pictures.names)}
    frames: dict[str, int] = {}
    for row, name in enumerate(pictures.names):
        frames.setdefault(video_of(name), row)

    def read(name: str) -> np.ndarray:
        row = exact.get(name, frames.get(name))
        if row is None:
            row = int(named.find_files([name], "the pictures")[0])
        return pictures.read(row)

    return read


def mirror_note(settings: dict[str, Any], protocol_mirror: str, protocol: str) -> str | None:
    """What to know where the features' mirror merge is another than the protocol's published pipeline uses."""
    mirror = settings.get("mirror")
    if mirror is None or mirror == protocol_mirror:
        return None
    return f"the features are merged by mirror {mirror}; {protocol} as published merges by {protocol_mirror}"
