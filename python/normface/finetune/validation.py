"""Verification of people that training never sees: every pair of their images, by the cosine of the features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import NotFiniteError, TrainingError
from ..evaluate.roc import verification
from .backbone import Trunk
from .feeding import Source, ahead, in_order


@dataclass(frozen=True)
class Score:
    """tar: share of genuine pairs accepted at the false accept rate; the rest as normface.evaluate.roc defines it."""

    tar: float
    accuracy: float
    auc: float
    eer: float


NotFinite = NotFiniteError
"""The name that it had before."""


class Validation:
    """``labels`` (N,) belong to the images of ``source``; ``far`` is the false accept rate.

    Raises TrainingError where the images make no genuine pair, or none of different people.
    """

    def __init__(self, source: Source, labels: np.ndarray, far: float, batch_size: int, readers: int) -> None:
        self.source, self.labels, self.far = source, labels, far
        self._batch_size, self._readers = batch_size, readers
        self._count(labels)

    def _count(self, labels: np.ndarray) -> None:
        """Return in words what is compared: images, people and pairs."""
        counts = np.bincount(labels)
        self.images, self.identities = len(labels), int(np.count_nonzero(counts))
        self.genuine = int(sum(math.comb(int(count), 2) for count in counts))
        self.impostor = math.comb(len(labels), 2) - self.genuine
        if not self.genuine or not self.impostor:
            raise TrainingError(
                f"validation needs two images of one person and images of two people; got {self.images} images "
                f"of {self.identities} identities (--val-share 0 trains without)"
            )

    def run(self, trunk: Trunk, device: torch.device) -> Score:
        """The score of the model as it is, in float32 and without mirroring. Leaves the trunk in its mode."""
        features, readable = self.features(trunk, device)
        self._count(self.labels[readable])  # those that could be read
        return score(features, self.labels[readable], self.far)

    def features(self, trunk: Trunk, device: torch.device) -> tuple[Tensor, np.ndarray]:
        return embed(trunk, self.source, len(self.labels), self._batch_size, self._readers, device)


def embed(
    trunk: Trunk, source: Source, images: int, batch_size: int, readers: int, device: torch.device, bar: Any = None
) -> tuple[Tensor, np.ndarray]:
    """(features (n, D) on the CPU, which images they belong to (N,) bool), in eval mode, float32."""
    mode = trunk.training
    trunk.eval()
    rows: list[Tensor] = []
    kept_all = np.zeros(images, bool)
    try:
        with torch.no_grad():
            for chosen, inputs, kept in ahead(source, in_order(images, batch_size), readers):
                kept_all[chosen[0]] = kept
                if kept.any():
                    rows.append(trunk(inputs.to(device)).float().cpu())
                if bar is not None:
                    bar.advance(len(kept))
    finally:
        trunk.train(mode)
    if not rows:
        raise TrainingError("not one of the images could be read")
    return torch.cat(rows), kept_all


def score(features: Tensor, labels: np.ndarray, far: float) -> Score:
    """Score all pairs i < j: s = <x_i, x_j> / (|x_i| |x_j|), a zero vector scoring 0."""
    if not torch.isfinite(features).all():
        raise NotFiniteError("the features of the validation images are no numbers (NaN or infinite)")
    units = torch.nn.functional.normalize(features.float())
    first, second = np.triu_indices(len(labels), 1)
    scores = (units @ units.T).numpy()[first, second]
    figures = verification(scores, labels[first] == labels[second], fars=(far,))
    return Score(figures.tar[far], figures.accuracy, figures.auc, figures.eer)
