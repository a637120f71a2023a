"""A data set in several files of one kind, its shards: WebDataset's tars, RecordIO, or Parquet."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ...errors import DataError
from .base import Reader
from .parquet_file import ParquetReader
from .recordio import RecordReader
from .tar_file import TarReader

OPENERS = 8
"""Shards that are opened at the same time."""
_DIGITS = re.compile(r"\d+")

Opener = Callable[[Path, bool | None, bool], Reader]
KINDS: dict[str, Opener] = {
    ".tar": lambda path, color, labelled: TarReader(path, color, labelled, shard=True),
    ".parquet": lambda path, color, labelled: ParquetReader(path, color, labelled, shard=True),
    ".rec": lambda path, color, labelled: RecordReader(path, color, shard=True),
}
"""How one of several is opened, by its ending."""


class ShardedReader(Reader):
    """The images of all shards, one behind the other; labels are numbered over all of them.

    Names are ``SHARD/NAME``. units: (U,) int64, how many images lie together: a shard's, or a group's of a table.
    """

    def __init__(self, path: Path, shards: Sequence[Path], color: bool | None, labelled: bool) -> None:
        opener = KINDS[shards[0].suffix.lower()]
        with ThreadPoolExecutor(OPENERS) as pool:
            self.shards = list(pool.map(lambda shard: opener(shard, color, labelled), shards))
        names = [f"{shard.path.name}/{name}" for shard in self.shards for name in shard.names]
        super().__init__(path, names, color)
        self._ends = np.cumsum([len(shard) for shard in self.shards])
        self.units = np.concatenate([
            np.array([len(shard)]) if shard.units is None else shard.units for shard in self.shards
        ])  # fmt: skip
        self.strays = tuple(f"{shard.path.name}/{name}" for shard in self.shards for name in shard.strays)
        self._label()

    def title(self, index: int) -> str:
        shard, own = self._place(index)
        return shard.title(own)

    def raw(self, index: int) -> bytes:
        shard, own = self._place(index)
        return shard.raw(own)

    def _place(self, index: int) -> tuple[Reader, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.shards[number], index - (int(self._ends[number - 1]) if number else 0)

    def _label(self) -> None:
        """Number the labels that the shards store, or the people that they name."""
        kinds = ["numbers" if shard.labels is not None else "people" if _people(shard) else "" for shard in self.shards]
        other = next((number for number, kind in enumerate(kinds) if kind != kinds[0]), None)
        if other is not None:
            words = {"numbers": "labels that are numbers", "people": "people's names", "": "no labels"}
            raise DataError(
                f"{self.shards[other].path}: has {words[kinds[other]]}, and {self.shards[0].path.name} "
                f"{words[kinds[0]]}; label all shards in one way"
            )
        if kinds[0] == "people":
            self.take_folders([person for shard in self.shards for person in _people(shard)])
        elif kinds[0] == "numbers":
            self.take_labels(np.concatenate([shard.labels for shard in self.shards if shard.labels is not None]))


def find_shards(path: Path) -> list[Path]:
    """The shards in a folder that holds nothing else, or those that a pattern (``train-*.tar``) names; [] if none.

    Raises DataError where a folder has shards of two names, which may not belong together: train and val, say.
    """
    if not os.path.isdir(path):
        found = sorted(Path(one) for one in glob.glob(str(path))) if "*" in path.name else []
        if len({one.suffix.lower() for one in found}) > 1 or any(one.suffix.lower() not in KINDS for one in found):
            raise DataError(f"{path}: names files of several kinds; expected one of {', '.join(KINDS)}")
        return found
    with os.scandir(path) as entries:
        files = sorted(Path(entry.path) for entry in entries if not entry.name.startswith("."))
    found = [file for file in files if file.suffix.lower() in KINDS]
    if len(found) < 2 and not (found and found[0].suffix.lower() != ".rec"):
        return []
    if any(file.is_dir() for file in files):
        return []
    patterns = sorted({_DIGITS.sub("*", file.name) for file in found})
    if len(patterns) > 1:
        what = f"{len(found)} RecordIO files" if found[0].suffix.lower() == ".rec" else f"{len(found)} shards"
        first = found[0].name if found[0].suffix.lower() == ".rec" else f"{path / patterns[0]}"
        raise DataError(f"{path}: holds {what}; name one of them ({first}, …)")
    return found


def _people(shard: Reader) -> list[str]:
    return getattr(shard, "people", [])
