"""YouTube Faces: pairs of videos in ten folds, by the mean cosine of their frames or by how those cosines spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import MissingDependencyError, ProtocolError
from ..reading import printable
from .folds import FoldResult, verify_scores
from .protocols import FoldProtocol
from .similarity import unit
from .textfile import read_lines, whole_number
from .thresholds import MostAccurate, ThresholdRule

BINS = 100
METHODS = ("mean", "histogram")
_MISSING_NAMED = 5
_MOST_PAIRS = 300_000
_FRAMES = 512  # of one video against another's, in memory at once
_ROWS = 16  # of the kernel; what is added to stays in the processor's cache


@dataclass(frozen=True)
class VideoPairs:
    """Videos are named "Person/number", folds from 1 as in the file."""

    left: list[str]
    right: list[str]
    same: np.ndarray
    fold: np.ndarray
    source: str = "the pairs"
    """The name that messages have for it."""


@dataclass(frozen=True)
class SvmSign(ThresholdRule):
    """Scores are a classifier's decision values, whose threshold is 0."""

    def choose(self, scores: np.ndarray, same: np.ndarray) -> float:
        return 0.0

    def right(self, scores: np.ndarray, same: np.ndarray, threshold: float) -> np.ndarray:
        return (scores >= threshold) == same


PROTOCOLS = {
    "mean": FoldProtocol("mean", "the mean cosine over all pairs of frames", rule=MostAccurate()),
    "histogram": FoldProtocol(
        "histogram",
        "NormFace (Wang et al. 2017): a 100-bin histogram of the cosines of all pairs of frames, and an SVM with the "
        "histogram intersection kernel trained on the other folds",
        rule=SvmSign(),
    ),
}


def read_splits(path: str | Path) -> VideoPairs:
    """Read splits.txt, with or without its first line: "fold, number, video, video, 1 or 0", and more ignored."""
    path = Path(path)
    rows: list[tuple[str, str, bool, int]] = []
    for number, fields in read_lines(path, ","):
        in_fold = whole_number(fields[0]) if fields else None
        if number == 1 and in_fold is None:
            continue  # the header of splits.txt
        if len(fields) < 5 or in_fold is None or fields[4] not in ("0", "1"):
            raise ProtocolError(
                f'{path}:{number}: expected "fold, number, person/video, person/video, 0 or 1", '
                f'got "{printable(", ".join(fields))}"'
            )
        if len(rows) == _MOST_PAIRS:
            raise ProtocolError(
                f"{path}:{number}: has more than {_MOST_PAIRS} pairs of videos; YouTube Faces has 5,000"
            )
        rows.append((fields[2], fields[3], fields[4] == "1", in_fold))
    if not rows:
        raise ProtocolError(f"{path}: has no pairs of videos")
    left, right, same, fold = zip(*rows, strict=True)
    return VideoPairs(list(left), list(right), np.array(same), np.array(fold), str(path))


def video_of(name: str) -> str:
    """ "Person/number" of a frame "…/Person/number/frame.jpg"."""
    return "/".join(name.replace("\\", "/").split("/")[:-1][-2:])


def evaluate_ytf(
    features: np.ndarray,
    names: Sequence[str],
    splits: str | Path | VideoPairs,
    method: str = "mean",
    *,
    centre: bool = False,
    cost: float = 1.0,
    told: Callable[[], None] = lambda: None,
) -> FoldResult:
    """Features (N, D) of frames named ".../Person/number/frame.jpg".

    method: "mean" or "histogram" (needs scikit-learn; ``cost`` is its SVM's C).
    centre: subtract the mean of the other folds' videos first, each video's mean counted as often as it is in a pair.
    ``told`` is called once a fold. Raises ProtocolError where a video of the pairs has no frames.
    """
    if method not in METHODS:
        raise ProtocolError(f'method "{method}" is unknown; known: {", ".join(METHODS)}')
    checked_cost(cost)
    listed = splits if isinstance(splits, VideoPairs) else read_splits(splits)
    rows = _rows(listed, names)
    features = np.asarray(features)
    videos = {name: features[found] for name, found in rows.items()}
    known: dict[bytes, np.ndarray] = {}

    def described(mean: np.ndarray | None) -> np.ndarray:
        """Return (P,) mean cosines, or the (P, P) kernel of histograms; once where nothing depends on the fold."""
        key = b"" if mean is None else mean.tobytes()
        if key not in known:
            known.clear()
            frames = {name: unit(rows if mean is None else rows - mean) for name, rows in videos.items()}
            pairs = [(frames[a], frames[b]) for a, b in zip(listed.left, listed.right, strict=True)]
            if method == "mean":
                known[key] = np.array([float(a.mean(axis=0) @ b.mean(axis=0)) for a, b in pairs])
            else:
                known[key] = intersection_kernel(np.stack([cosine_histogram(a, b) for a, b in pairs]))
        return known[key]

    def scored(held_out: int) -> np.ndarray:
        train = np.flatnonzero(listed.fold != held_out)
        mean = _mean_of_videos(videos, listed, train) if centre else None
        scores = described(mean)
        if method == "histogram":
            scores = _svm_scores(scores, listed.same, train, cost)
        told()
        return scores

    protocol = PROTOCOLS[method]
    if centre:
        protocol = replace(protocol, name=f"{protocol.name}, centred", centre=True)
    result = verify_scores(scored, listed.same, listed.fold, protocol)
    return replace(result, names=(listed.left, listed.right))


def checked_cost(cost: float) -> float:
    if not (cost > 0 and np.isfinite(cost)):
        raise ProtocolError(f"the SVM's cost is to be above 0, got {cost}")
    return cost


def cosine_histogram(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(BINS,) shares of the cosines of all pairs of unit rows; the bins part -1 to 1 evenly."""
    counts = np.zeros(BINS)
    for start in range(0, len(left), _FRAMES):
        cosines = left[start : start + _FRAMES] @ right.T
        bins = np.clip(np.floor((cosines + 1) * (BINS / 2)), 0, BINS - 1).astype(np.intp)
        counts += np.bincount(bins.reshape(-1), minlength=BINS)
    return counts / counts.sum()


def intersection_kernel(histograms: np.ndarray) -> np.ndarray:
    """(P, P): the sum over bins of the smaller of two histograms' shares."""
    kernel = np.zeros((len(histograms), len(histograms)))
    bins = np.ascontiguousarray(histograms.T)
    for start in range(0, len(histograms), _ROWS):
        block = slice(start, start + _ROWS)
        for shares in bins:
            if shares[block].any():
                kernel[block] += np.minimum.outer(shares[block], shares)
    return kernel


def frames_of(pairs: VideoPairs, names: Sequence[str]) -> np.ndarray:
    """Rows of ``names`` that are frames of the pairs' videos. Raises ProtocolError that names videos without any."""
    return np.array(sorted(row for rows in _rows(pairs, names).values() for row in rows), np.intp)


def _svm_scores(kernel: np.ndarray, same: np.ndarray, train: np.ndarray, cost: float) -> np.ndarray:
    try:
        from sklearn.svm import SVC
    except ImportError as error:
        raise MissingDependencyError(
            f"the histogram method needs scikit-learn ({error}): pip install scikit-learn, or choose method mean"
        ) from error
    if len(np.unique(same[train])) < 2:
        raise ProtocolError("the other folds have pairs of one kind only; the SVM needs both")
    machine = SVC(C=cost, kernel="precomputed").fit(kernel[np.ix_(train, train)], same[train])
    return machine.decision_function(kernel[:, train])


def _rows(pairs: VideoPairs, names: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {name: [] for name in (*pairs.left, *pairs.right)}
    for row, name in enumerate(names):
        video = rows.get(video_of(name))
        if video is not None:
            video.append(row)
    absent = sorted(name for name, frames in rows.items() if not frames)
    if absent:
        more = f" and {len(absent) - _MISSING_NAMED} more" if len(absent) > _MISSING_NAMED else ""
        example = f'; the features have names such as "{names[0]}"' if len(names) else ""
        raise ProtocolError(f"{pairs.source}: no frames of {', '.join(absent[:_MISSING_NAMED])}{more}{example}")
    return rows


def _mean_of_videos(videos: dict[str, np.ndarray], listed: VideoPairs, train: np.ndarray) -> np.ndarray:
    means = {name: rows.mean(axis=0, dtype=np.float64) for name, rows in videos.items()}
    used = [means[side[pair]] for side in (listed.left, listed.right) for pair in train]
    return np.mean(used, axis=0).astype(next(iter(videos.values())).dtype)
