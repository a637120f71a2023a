"""What is measured of features: how they spread, how far classes lie apart, how well pairs are told apart.

features (N, D), labels (N,). Angles are in degrees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from normface.evaluate.roc import Verification, verification

MOST_EACH = 150
"""Features of a class that pairs are made of: the first so many. 1,500 make 1.1 million pairs."""
OUTER = 95
"""Percentile that stands for "the largest", its counterpart for "the smallest": single images decide nothing."""
LEAST_EACH = 3
LEAST_LENGTH = 1e-12


@dataclass(frozen=True)
class Spread:
    """Means over the classes. radial: of the features' lengths within a class, 95th less 5th percentile, by their
    median. sideways: the same of the distances from the class's ray, in which a feature's length has no part.

    ``ratio`` is above 1 where a class is a ray rather than a cloud.
    """

    radial: float
    sideways: float

    @property
    def ratio(self) -> float:
        return self.radial / max(self.sideways, LEAST_LENGTH)


@dataclass(frozen=True)
class Separation:
    """spans (C,): 95th percentile of the angles between two features of a class. gaps (C,): the 5th percentile of
    those between a feature of the class and one of another, the nearest class counting.

    Classes with fewer than LEAST_EACH features are left out; where fewer than two are left, the span is 180 and the
    gap 0. Where a gap is larger than the span, any two of the class are nearer to each other than to strangers.
    """

    spans: np.ndarray
    gaps: np.ndarray

    @property
    def span(self) -> float:
        return float(self.spans.mean())

    @property
    def gap(self) -> float:
        return float(self.gaps.mean())

    @property
    def apart(self) -> float:
        """Share of classes whose gap is larger than their span."""
        return float(np.mean(self.gaps > self.spans))


def spread(features: np.ndarray, labels: np.ndarray) -> Spread:
    radial, sideways = [], []
    for label in np.unique(labels):
        of_class = features[labels == label]
        lengths = np.linalg.norm(of_class, axis=1)
        direction = unit(unit(of_class).mean(0, keepdims=True))[0]
        median = max(float(np.median(lengths)), LEAST_LENGTH)
        # At the median length, so that a long feature is not wider for its length.
        off = unit(of_class) - (unit(of_class) @ direction)[:, None] * direction
        low, high = np.percentile(lengths, [100 - OUTER, OUTER])
        radial.append((high - low) / median)
        # Both sides of the ray: in a plane the distance has a sign, beyond it twice the distance is the width.
        sideways.append(2 * np.percentile(np.linalg.norm(off, axis=1), 2 * OUTER - 100))
    return Spread(float(np.mean(radial)), float(np.mean(sideways)))


def separation(features: np.ndarray, labels: np.ndarray) -> Separation:
    if not len(labels):
        return Separation(np.array([180.0]), np.zeros(1))
    features, labels = some_of_each(features, labels)
    angles = np.degrees(np.arccos(np.clip(unit(features) @ unit(features).T, -1, 1)))
    classes = [own for label in np.unique(labels) if np.count_nonzero(own := labels == label) >= LEAST_EACH]
    if len(classes) < 2:
        return Separation(np.array([180.0]), np.zeros(1))
    spans = np.array([np.percentile(_pairs(angles[np.ix_(own, own)]), OUTER) for own in classes])
    nearest = np.array(
        [
            [np.inf if own is other else np.percentile(angles[np.ix_(own, other)], 100 - OUTER) for other in classes]
            for own in classes
        ]
    )
    return Separation(spans, nearest.min(1))


def euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, D), (M, D) -> (N, M), less the distance: higher is more alike, as for the others."""
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return -np.sqrt(np.maximum(squared, 0))


def inner_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a @ b.T


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return unit(a) @ unit(b).T


SCORES = {"Euclidean distance": euclidean, "inner product": inner_product, "cosine": cosine}


def verified(features: np.ndarray, labels: np.ndarray, score: str = "cosine") -> Verification:
    """Every pair of (some of) the features, each counted once."""
    features, labels = some_of_each(features.astype(np.float64), labels)
    scores, same = SCORES[score](features, features), labels[:, None] == labels[None]
    return verification(_pairs(scores), _pairs(same))


def some_of_each(features: np.ndarray, labels: np.ndarray, most: int = MOST_EACH) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == label)[:most] for label in np.unique(labels)]))
    return features[chosen], labels[chosen]


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), LEAST_LENGTH)


def _pairs(square: np.ndarray) -> np.ndarray:
    """The part above the diagonal."""
    return square[np.triu_indices(len(square), 1)]
