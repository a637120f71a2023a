"""The classic metric losses on pairs and triplets of features, and how their images and pairs are drawn.

d_ij = |x_i - x_j|^2 of unit features, as in the losses with class agents. A batch has about as many images whatever
the sampling, so that losses can be compared by the images that went through the network.
"""

from __future__ import annotations

import numpy as np
import torch
from normface.heads import unit
from torch import Tensor

CONTRASTIVE_MARGIN, TRIPLET_MARGIN = 1.0, 0.2
"""C-contrastive's, for the same distance; FaceNet's."""


def distances(features: Tensor) -> Tensor:
    """(N, D) -> (N, N), squared, of unit features."""
    x = unit(features)
    return 2 - 2 * (x @ x.t())


def contrastive(d: Tensor, same: Tensor, margin: float = CONTRASTIVE_MARGIN) -> Tensor:
    """Mean over the pairs of d where they are the ``same``, max(0, margin - d) where not: Hadsell et al. 2006.

    As in NormFace the distances are squared ones, and the hinge is not squared again.
    """
    return torch.where(same, d, (margin - d).relu()).mean()


def triplet(positive: Tensor, negative: Tensor, margin: float = TRIPLET_MARGIN) -> Tensor:
    """Mean of max(0, d_ap + margin - d_an): Schroff et al. 2015."""
    return (positive + margin - negative).relu().mean()


class Sampler:
    """Draws the rows of a batch by the labels (N,), from its own random numbers."""

    def __init__(self, labels: Tensor, seed: int) -> None:
        self.labels = labels.numpy()
        self.random = np.random.default_rng(seed)
        self.rows = [np.flatnonzero(self.labels == label) for label in range(int(self.labels.max()) + 1)]

    def any(self, count: int) -> np.ndarray:
        """Images without regard to whose they are."""
        return self.random.choice(len(self.labels), count, replace=False)

    def people(self, people: int, each: int) -> np.ndarray:
        """``each`` images of so many people, side by side."""
        people = min(people, len(self.rows))
        chosen = self.random.choice(len(self.rows), people, replace=False)
        return np.concatenate([self.of(label, each) for label in chosen])

    def of(self, label: int, each: int) -> np.ndarray:
        rows = self.rows[label]
        return self.random.choice(rows, each, replace=len(rows) < each)

    def pairs(self, count: int, positive: float | None) -> np.ndarray:
        """(count, 2): any two images, or a share of ``positive`` that are of one person."""
        if positive is None:
            return self.any(2 * count).reshape(count, 2)
        of_one = round(positive * count)
        ones = [self.of(label, 2) for label in self.random.integers(len(self.rows), size=of_one)]
        return np.array([*ones, *(self.two_people() for _ in range(count - of_one))])

    def two_people(self) -> list[int]:
        one, other = self.random.choice(len(self.rows), 2, replace=False)
        return [int(self.of(one, 1)[0]), int(self.of(other, 1)[0])]

    def triplets(self, count: int) -> np.ndarray:
        """(count, 3): anchor, positive, negative."""
        drawn = []
        for _ in range(count):
            one, other = self.random.choice(len(self.rows), 2, replace=False)
            drawn.append([*self.of(one, 2), *self.of(other, 1)])
        return np.array(drawn)


def all_pairs(d: Tensor, labels: Tensor) -> Tensor:
    """The contrastive loss on all pairs of a batch."""
    one, other = torch.triu_indices(len(labels), len(labels), 1)
    return contrastive(d[one, other], labels[one] == labels[other])


def all_triplets(d: Tensor, labels: Tensor) -> Tensor:
    """The triplet loss on all triplets of a batch that break the margin (their mean: most others are zero)."""
    same = labels[:, None] == labels
    positive = same & ~torch.eye(len(labels), dtype=torch.bool)
    valid = positive[:, :, None] & ~same[:, None, :]
    hinge = (d[:, :, None] + TRIPLET_MARGIN - d[:, None, :]).relu() * valid
    return hinge.sum() / (hinge > 0).sum().clamp_min(1)


def hardest_triplets(d: Tensor, labels: Tensor) -> Tensor:
    """Of every anchor the furthest positive and the nearest negative of the batch: Hermans et al. 2017."""
    same = labels[:, None] == labels
    furthest = torch.where(same, d, -1.0).amax(1)
    nearest = torch.where(same, 5.0, d).amin(1)
    return triplet(furthest, nearest)
