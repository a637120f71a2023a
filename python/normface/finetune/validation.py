"""Verification of people that training never sees: every pair of their images, by the cosine of the features."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import NotFiniteError, TrainingError
from ..evaluate.resampled_people import drawn_tars, interval
from ..evaluate.roc import verification
from .feeding import Source, ahead, in_order
from .sampling import Chosen


@dataclass(frozen=True)
class Score:
    """tar: share of genuine pairs accepted at the false accept rate; the rest as normface.evaluate.roc defines it.

    tar_low, tar_high: the middle 95 % of the same for people drawn anew, with replacement; None where these are too
    few people for that.
    """

    tar: float
    accuracy: float
    auc: float
    eer: float
    tar_low: float | None = None
    tar_high: float | None = None


NotFinite = NotFiniteError
"""The name that it had before."""


class Validation:
    """``labels`` (N,) belong to the images of ``source``; ``far`` is the false accept rate.

    seed: of the people drawn for the interval. name, without: what the images are for, and the way to do without.
    Raises TrainingError where the images make no genuine pair, or none of different people.
    """

    def __init__(
        self, source: Source, labels: np.ndarray, far: float, batch_size: int, readers: int, *, seed: int = 0,
        name: str = "validation", without: str = "--val-share 0 trains without",
    ) -> None:  # fmt: skip
        self.source, self.labels, self.far, self.seed = source, labels, far, seed
        self._batch_size, self._readers, self._name, self._without = batch_size, readers, name, without
        self._count(labels)

    def _count(self, labels: np.ndarray) -> None:
        """Return in words what is compared: images, people and pairs."""
        counts = np.bincount(labels)
        self.images, self.identities = len(labels), int(np.count_nonzero(counts))
        self.genuine = int(sum(math.comb(int(count), 2) for count in counts))
        self.impostor = math.comb(len(labels), 2) - self.genuine
        if not self.genuine or not self.impostor:
            raise TrainingError(
                f"{self._name} needs two images of one person and images of two people; got {self.images} images "
                f"of {self.identities} identities ({self._without})"
            )

    def run(self, trunk: nn.Module, device: torch.device) -> Score:
        """The score of the model as it is, in float32 and without mirroring. Leaves the trunk in its mode."""
        return self.run_with_draws(trunk, device)[0]

    def run_with_draws(self, trunk: nn.Module, device: torch.device) -> tuple[Score, np.ndarray]:
        """The score, and the true accepts of each draw of people: the same people for every model."""
        features, readable = embed(trunk, self.source, len(self.labels), self._batch_size, self._readers, device)
        self._count(self.labels[readable])  # those that could be read
        return score_and_draws(features, self.labels[readable], self.far, self.seed)


def embed(
    trunk: nn.Module, source: Source, images: int, batch_size: int, readers: int, device: torch.device, bar: Any = None,
    *, mirrored: bool = False,
) -> tuple[Tensor, np.ndarray]:  # fmt: skip
    """(features (n, D) on the CPU, which images they belong to (N,) bool), in eval mode, float32."""
    rows: list[Tensor] = []
    kept_all = np.zeros(images, bool)
    for places, features in embedded(trunk, source, in_order(images, batch_size, mirrored), readers, device, bar):
        kept_all[places] = True
        rows.append(features)
    if not rows:
        raise TrainingError("not one of the images could be read")
    return torch.cat(rows), kept_all


def embedded(
    trunk: nn.Module, source: Source, batches: Iterable[Chosen], readers: int, device: torch.device, bar: Any = None
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """(places (n,), features (n, D) on the CPU) of each batch's readable images, in eval mode, float32."""
    mode = trunk.training
    trunk.eval()
    try:
        with torch.no_grad(), closing(ahead(source, batches, readers)) as loaded:
            for chosen, inputs, kept in loaded:
                if kept.any():
                    yield chosen.places[kept], trunk(inputs.to(device)).float().flatten(1).cpu()
                if bar is not None:
                    bar.advance(len(kept))
    finally:
        trunk.train(mode)


def score(features: Tensor, labels: np.ndarray, far: float, seed: int = 0) -> Score:
    """Score all pairs i < j: s = <x_i, x_j> / (|x_i| |x_j|), a zero vector scoring 0."""
    return score_and_draws(features, labels, far, seed)[0]


def score_and_draws(features: Tensor, labels: np.ndarray, far: float, seed: int) -> tuple[Score, np.ndarray]:
    """The same, and the true accepts of each draw of people."""
    if not torch.isfinite(features).all():
        raise NotFiniteError("the features of the validation images are no numbers (NaN or infinite)")
    units = torch.nn.functional.normalize(features.float())
    first, second = np.triu_indices(len(labels), 1)
    scores = (units @ units.T).numpy()[first, second]
    figures = verification(scores, labels[first] == labels[second], fars=(far,))
    draws = drawn_tars(scores, labels, far, seed=[seed, 13])
    between = interval(draws) or (None, None)
    return Score(figures.tar[far], figures.accuracy, figures.auc, figures.eer, *between), draws
