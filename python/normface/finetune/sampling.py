"""The choice of each batch's images: a pure function of the seed and the batch's number.

A resumed run therefore needs no state to go on exactly where the killed one stood, and two machines agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..data.order import WINDOW, shard_order


@dataclass(frozen=True, eq=False)
class Chosen:
    """``places`` (B,) in the list of images, and which of them are ``mirrored`` (B,) bool.

    draws: (B,) uint64, what an augmentation makes of each; None for images as they are.
    """

    places: np.ndarray
    mirrored: np.ndarray
    draws: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.places)

    def share(self, part: slice) -> Chosen:
        """Return a part of the batch."""
        return Chosen(self.places[part], self.mirrored[part], None if self.draws is None else self.draws[part])


class Sampler:
    """Endless batches. ``labels`` (N,) are the training images' classes, 0 to C-1.

    plain: the images in a new order every epoch; a batch runs across the end of one, as in Caffe.
    balanced: batch_size / per_identity identities, in a new order each round, with per_identity images each
        (all of them more than once where an identity has fewer).
    augment: every image of every batch comes with a draw of its own.
    units: (U,) how many images lie together in a sharded source, of which ``window`` are mixed at a time; see
        normface.data.order. Of plain batches alone: balanced ones want images of one person, wherever they lie.
    """

    def __init__(
        self, labels: np.ndarray, batch_size: int, *, seed: int, mirror: bool, balanced: bool, per_identity: int = 1,
        augment: bool = False, units: np.ndarray | None = None, window: int = WINDOW,
    ) -> None:  # fmt: skip
        self.batch_size, self.seed, self.mirror, self.augment = batch_size, seed, mirror, augment
        self.images = len(labels)
        self._units, self._window = units, window
        self.per_identity = per_identity if balanced else 0
        order = np.argsort(labels, kind="stable")
        self._members = np.split(order, np.cumsum(np.bincount(labels))[:-1]) if balanced else []
        self._order: Callable[[int, int], np.ndarray] = lru_cache(maxsize=4)(self._shuffled)

    @property
    def batches_per_epoch(self) -> int:
        return math.ceil(self.images / self.batch_size)

    def batch(self, number: int) -> Chosen:
        """The ``number``-th batch, from 0."""
        random = np.random.default_rng([self.seed, 1, number])
        if self.per_identity:
            chosen = self._balanced(number, random)
        else:
            chosen = self._next(self.images, self.batch_size, number)
        mirrored = random.random(self.batch_size) < 0.5 if self.mirror else np.zeros(self.batch_size, bool)
        draws = np.random.SeedSequence([self.seed, 6, number]).generate_state(self.batch_size, np.uint64)
        return Chosen(chosen, mirrored, draws if self.augment else None)

    def _balanced(self, number: int, random: np.random.Generator) -> np.ndarray:
        k = self.per_identity
        identities = self._next(len(self._members), self.batch_size // k, number)
        picked = [np.resize(random.permutation(self._members[identity]), k) for identity in identities]
        return np.concatenate(picked)

    def _next(self, total: int, size: int, number: int) -> np.ndarray:
        """``size`` of ``total`` things, going round and round in a new order each time."""
        places = number * size + np.arange(size, dtype=np.int64)
        rounds = places // total
        return np.concatenate([self._order(total, int(r))[places[rounds == r] % total] for r in np.unique(rounds)])

    def _shuffled(self, total: int, round_number: int) -> np.ndarray:
        if self._units is not None and not self.per_identity:
            return shard_order(self._units, self.seed, round_number, self._window)
        return np.random.default_rng([self.seed, 2, round_number]).permutation(total)


def hold_out(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(training, held out) places of images; ``share`` of the identities is held out, whole.

    Only identities with two images or more are held out: the others make no genuine pair. At least two are, and
    at least two stay; both lists are in the images' order. Nothing is held out where that cannot be.
    """
    counts = np.bincount(labels)
    able = np.flatnonzero(counts >= 2)
    wanted = max(2, round(share * len(counts)))
    number = min(wanted, len(able), len(counts) - 2)
    if share <= 0 or number < 2:
        return np.arange(len(labels)), np.empty(0, np.int64)
    chosen = np.random.default_rng([seed, 3]).permutation(able)[:number]
    held = np.isin(labels, chosen)
    return np.flatnonzero(~held), np.flatnonzero(held)


def units_of(units: np.ndarray | None, places: np.ndarray) -> np.ndarray | None:
    """Return how many of some images (places, ascending) each unit has; None where images lie one by one."""
    if units is None:
        return None
    return np.bincount(np.searchsorted(np.cumsum(units), places, side="right"), minlength=len(units))


def some_of_each(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Places of at most ``most`` images of every class, drawn at random, in their order."""
    shuffled = np.random.default_rng([seed, 14]).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    number = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)  # of each image within its class
    return np.sort(order[number < most])


def fewer(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Places of at most about ``most`` images: whole identities, in a seeded order, until they are reached."""
    if len(labels) <= most:
        return np.arange(len(labels))
    counts = np.bincount(labels)
    order = np.random.default_rng([seed, 4]).permutation(len(counts))
    people = order[: max(2, int(np.searchsorted(np.cumsum(counts[order]), most, side="right")))]
    return np.flatnonzero(np.isin(labels, people))
