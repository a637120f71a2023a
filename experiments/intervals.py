"""What several seeds show of a difference: its mean, and the interval that the seeds leave open.

One training decides nothing: another processor rounds another way, and after a few hundred steps that is another
training. A claim is therefore judged by differences over seeds, paired where both sides start from the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """The mean of some differences, and Student's two-sided interval around it."""

    mean: float
    low: float
    high: float

    def __neg__(self) -> Interval:
        return Interval(-self.mean, -self.high, -self.low)

    def __str__(self) -> str:
        digits = 3 if max(abs(self.low), abs(self.high)) < 1 else 1
        return f"{self.mean:+.{digits}f} ({self.low:+.{digits}f} to {self.high:+.{digits}f})"


def interval(differences: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the mean of ``differences`` and its two-sided interval by Student's t, which one value leaves open."""
    values = np.asarray(differences, np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, -float("inf"), float("inf"))
    half = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half)


def paired(
    of: Sequence[dict[str, float]], against: Sequence[dict[str, float]], keys: Iterable[str]
) -> dict[str, Interval]:
    """Return, for each key, the interval of ``of[i][key] - against[i][key]`` over the seeds i."""
    return {key: interval([a[key] - b[key] for a, b in zip(of, against, strict=True)]) for key in keys}


def verdict(in_favour: Iterable[Interval]) -> bool | None:
    """Judge a claim that asks for every one of these differences to be above zero.

    True where all intervals lie above zero, False where one lies below it, None where the seeds leave it open.
    """
    intervals = list(in_favour)
    if any(one.high < 0 for one in intervals):
        return False
    return True if all(one.low > 0 for one in intervals) else None


def plain(intervals: Mapping[str, Interval]) -> dict[str, dict[str, float | None]]:
    """Return the intervals as results.json has them, an open end as null."""
    return {
        key: {name: value if math.isfinite(value) else None for name, value in asdict(one).items()}
        for key, one in intervals.items()
    }
