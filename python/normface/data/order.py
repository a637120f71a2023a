"""An order of a sharded data set: random, and yet read from few places at a time.

A pure function of the seed and the epoch: whoever reads, and how many read, it is the same. Rank r of W takes the
places r, r + W, r + 2 W ... of each batch, and a run that stopped goes on at its step's place on any other number of
ranks.
"""

from __future__ import annotations

import numpy as np

WINDOW = 16
"""Units that are mixed at a time."""


def shard_order(units: np.ndarray, seed: int, epoch: int, window: int = WINDOW) -> np.ndarray:
    """Return every image's number once, (N,) int64, in the order of an epoch.

    units: (U,), how many images lie together: a shard's, or a row group's. They come in a new order every epoch, and
    ``window`` of them at a time are mixed image by image; 0 mixes all, as if each lay by itself.
    """
    ends = np.cumsum(units, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    random = np.random.default_rng([seed, 2, epoch])
    if not window or window >= len(units):
        return random.permutation(total)
    order = random.permutation(len(units))
    places = np.empty(total, np.int64)
    start = 0
    for number, first in enumerate(range(0, len(order), window)):
        mixed = np.concatenate(
            [np.arange(ends[unit] - units[unit], ends[unit]) for unit in order[first : first + window]]
        )
        np.random.default_rng([seed, 2, epoch, number]).shuffle(mixed)
        places[start : start + len(mixed)] = mixed
        start += len(mixed)
    return places
