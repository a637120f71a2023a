"""The ways in which protocols choose a threshold on the training folds, and call a pair right."""

from __future__ import annotations

import typing
from dataclasses import dataclass

import numpy as np

from . import roc


class ThresholdRule(typing.Protocol):
    """Chooses a threshold, a score, on pairs of which it is known who is who."""

    def choose(self, scores: np.ndarray, same: np.ndarray) -> float: ...

    def right(self, scores: np.ndarray, same: np.ndarray, threshold: float) -> np.ndarray:
        """(P,) bool: which pairs come out right."""


@dataclass(frozen=True)
class MostAccurate:
    """The best of all thresholds, between two scores; accepts scores >= it."""

    def choose(self, scores: np.ndarray, same: np.ndarray) -> float:
        return roc.best_threshold(scores, same)

    def right(self, scores: np.ndarray, same: np.ndarray, threshold: float) -> np.ndarray:
        return (scores >= threshold) == same


@dataclass(frozen=True)
class CosineGrid:
    """SphereFace: of -1, -1 + 1/steps, … 1 the mean of all that do best; a score equal to it is wrong either way."""

    steps: int = 10_000

    def choose(self, scores: np.ndarray, same: np.ndarray) -> float:
        thresholds = np.arange(-self.steps, self.steps + 1) / self.steps
        genuine, impostor = np.sort(scores[same]), np.sort(scores[~same])
        right = len(genuine) - np.searchsorted(genuine, thresholds, "right")
        right += np.searchsorted(impostor, thresholds, "left")
        return float(thresholds[right == right.max()].mean())

    def right(self, scores: np.ndarray, same: np.ndarray, threshold: float) -> np.ndarray:
        return np.where(same, scores > threshold, scores < threshold)


@dataclass(frozen=True)
class DistanceGrid:
    """InsightFace: of the squared distances 0, step, … below 4 the first that does best; accepts distances < it.

    Scores are minus squared distances, and so is the threshold returned.
    """

    step: float = 0.01
    far_step: float = 0.001

    def choose(self, scores: np.ndarray, same: np.ndarray) -> float:
        thresholds = np.arange(0, 4, self.step)
        genuine, impostor = np.sort(-scores[same]), np.sort(-scores[~same])
        right = np.searchsorted(genuine, thresholds, "left")
        right += len(impostor) - np.searchsorted(impostor, thresholds, "left")
        return -float(thresholds[np.argmax(right)])

    def right(self, scores: np.ndarray, same: np.ndarray, threshold: float) -> np.ndarray:
        return (scores > threshold) == same

    def at_far(self, impostor: np.ndarray, far: float) -> float:
        """The score whose FAR on these impostor pairs is ``far``, between grid points on straight lines.

        Where the FAR stays at exactly ``far`` over several grid points, the largest distance of them counts; where it
        never gets that high, nothing is accepted (threshold 0, as there).
        """
        thresholds = np.arange(0, 4, self.far_step)
        fars = np.searchsorted(np.sort(-impostor), thresholds, "left") / len(impostor)
        return -float(np.interp(far, fars, thresholds)) if fars.max() >= far else -0.0
