"""The features that an index is built of: several files, read one at a time, and samples of their rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...features import Features, load_features
from ...features.features import SUFFIXES, count_features
from ...features.identity import ModelIdentity
from ..gallery import other_settings
from .engine import units

SAMPLED = 64
"""Files that samples are taken from, at most: a hundred million features are not read twice for them."""


class Shards:
    """Features files, or folders of them (in the order of their names).

    counts: the features of each, as it declares them. Raises DataError, which names the path, for a path that is
    missing and a folder without any.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = [file for path in paths for file in _files(Path(path))]
        twice = [path for number, path in enumerate(self.paths) if path in self.paths[:number]]
        if not self.paths or twice:
            raise DataError(f"{twice[0]}: is named twice" if twice else "no features files were named")
        self.counts = [count_features(path) for path in self.paths]
        first = self.read(0)
        self.dimension, self.settings = first.features.shape[1], first.settings

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def rows(self) -> int:
        return sum(self.counts)

    def read(self, number: int) -> Features:
        """Raises DataError where a file is damaged, or its features are not like those of the first."""
        path = self.paths[number]
        known = load_features(path)
        if len(known) != self.counts[number]:
            raise DataError(f"{path}: has {len(known)} features; there were {self.counts[number]} a moment ago")
        if number == 0:
            return known
        if known.features.shape[1] != self.dimension:
            width = known.features.shape[1]
            raise DataError(f"{path}: its features have {width} numbers, those of {self.paths[0]} {self.dimension}")
        differences = other_settings(self.settings, known.settings, str(path), lambda: _weights(known))
        if differences:
            raise DataError(f"{path}: its features were made differently than those of {self.paths[0]}: {differences}")
        return known

    def samples(self, wanted: Sequence[int], seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """(unit rows (n, D) float32, their numbers (n,)) of several samples, without a row in two of them.

        wanted: the rows of each, at most; fewer where there are no more. They are drawn from SAMPLED files at random.
        """
        random = np.random.default_rng([seed, len(self)])
        files = np.sort(random.permutation(len(self))[:SAMPLED])
        counts = np.array(self.counts)[files]
        drawn = random.permutation(int(counts.sum()))[: sum(wanted)]
        own = np.split(drawn, np.cumsum(wanted)[:-1])
        ends = np.cumsum(counts)
        firsts = np.cumsum([0, *self.counts])
        rows = [np.empty((len(one), self.dimension), np.float32) for one in own]
        numbers = [np.empty(len(one), np.int64) for one in own]
        for place, number in enumerate(files.tolist()):
            start, end = int(ends[place] - counts[place]), int(ends[place])
            inside = [(one >= start) & (one < end) for one in own]
            if not any(mask.any() for mask in inside):
                continue
            features = self.read(number).features
            for sample, mask in enumerate(inside):
                chosen = own[sample][mask] - start
                rows[sample][mask] = units(features[chosen])
                numbers[sample][mask] = chosen + firsts[number]
        return list(zip(rows, numbers, strict=True))

    def state(self) -> str:
        """Return what changes with the files: their names, sizes and times."""
        digest = hashlib.sha256()
        for path in self.paths:
            status = os.stat(path)
            digest.update(os.fsencode(path.resolve()) + f"\0{status.st_size} {status.st_mtime_ns}\0".encode())
        return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise DataError(f"{path}: holds no features files ({' or '.join(SUFFIXES)})")
    yield from files


def _weights(known: Features) -> Sequence[str]:
    return ModelIdentity.from_dict(known.settings["identity"]).weights if "identity" in known.settings else ()
