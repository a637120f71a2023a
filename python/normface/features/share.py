"""A rank's share of the images, where ``extract`` runs under torchrun: a file of its own for each rank."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data import Reader
from ..errors import NormfaceError


@dataclass(frozen=True)
class Place:
    """This process among those that work: ``rank`` of ``size``; ``local_rank`` of ``local_size`` on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    def file(self, path: Path) -> Path:
        """Return the rank's own file: ``F.npz`` of one, else ``F-00002-of-00008.npz``."""
        return (
            path if self.size == 1 else path.with_name(f"{path.stem}-{self.rank:05d}-of-{self.size:05d}{path.suffix}")
        )

    def part(self, images: int) -> range:
        """Return the images that are this rank's: neighbours, so that each reads few shards; sizes differ by one."""
        return range(images * self.rank // self.size, images * (self.rank + 1) // self.size)


def place_of(environment: Mapping[str, str] = os.environ) -> Place:
    """Return the place that torchrun (or SLURM's torchrun) tells by RANK and WORLD_SIZE; without it, the only one.

    Raises NormfaceError where the variables do not make a place.
    """
    if "RANK" not in environment and "WORLD_SIZE" not in environment:
        return Place()
    try:
        rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        local_rank, local_size = int(environment.get("LOCAL_RANK", 0)), int(environment.get("LOCAL_WORLD_SIZE", 1))
    except (KeyError, ValueError):
        rank, size, local_rank, local_size = -1, 0, 0, 1
    if not 0 <= rank < size or not 0 <= local_rank < local_size:
        told = ", ".join(f"{name}={environment.get(name, '')}" for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        raise NormfaceError(f"{told}: is no place of a process among several; start them by torchrun, or unset these")
    return Place(rank, size, local_rank, local_size)


class Share:
    """Some neighbouring images of a reader, as an extraction takes them."""

    def __init__(self, images: Reader, part: range) -> None:
        self._images, self._part = images, part
        self.path = images.path
        self.names = images.names[part.start : part.stop]
        self.labels: np.ndarray | None = None
        self.identities: list[str] = []
        if images.labels is not None:
            people, self.labels = np.unique(images.labels[part.start : part.stop], return_inverse=True)
            self.identities = [images.identities[number] for number in people.tolist()]

    def __len__(self) -> int:
        return len(self._part)

    def title(self, index: int) -> str:
        return self._images.title(self._part[index])

    def read(self, index: int) -> np.ndarray:
        return self._images.read(self._part[index])
