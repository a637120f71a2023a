"""Any pairs of images verified: a list of them, or all pairs of some people's images. With intervals over people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import ProtocolError
from . import roc
from .folds import FoldResult, verify_in_folds
from .pair_lists import ListedPairs, people_of, with_folds
from .protocols import FoldProtocol, protocol_named
from .resampled_people import drawn_figures, drawn_tars, interval
from .similarity import both_sides, checked_metric

Interval = tuple[float, float]


@dataclass(frozen=True)
class PairsResult:
    """The figures of scored pairs.

    folds: those of a list in folds; None of all pairs. people: how many there are. thresholds: FAR -> score, of
    roc.tar_at_far. tar_intervals: FAR -> 95 % of draws of people; accuracy_interval: the same of the accuracy in folds.
    Intervals are None where too few draws have pairs of both kinds.
    """

    title: str
    scores: np.ndarray
    same: np.ndarray
    people: int
    verification: roc.Verification
    thresholds: dict[float, float]
    tar_intervals: dict[float, Interval | None]
    accuracy_interval: Interval | None = None
    folds: FoldResult | None = None


def evaluate_pairs(
    features: np.ndarray,
    names: Sequence[str],
    pairs: ListedPairs,
    protocol: str | FoldProtocol = "plain",
    *,
    labels: np.ndarray | None = None,
    fars: Sequence[float] = roc.FARS,
    seed: int = 0,
) -> PairsResult:
    """Verify listed pairs by their features (N, D) of images of these names, in the list's folds or ten of our own.

    labels (N,): whose images they are, where that is known beyond the list. Raises ProtocolError where an image of the
    list has no features, or the list contradicts itself.
    """
    chosen = protocol_named(protocol) if isinstance(protocol, str) else protocol
    pairs = with_folds(pairs)
    assert pairs.fold is not None
    rows = pairs.rows_of(names)
    left, right = rows.reshape(2, -1)
    features = np.asarray(features)
    folds = verify_in_folds(features[left], features[right], pairs.same, pairs.fold, chosen, fars)
    folds = replace(folds, names=([names[row] for row in left], [names[row] for row in right]))
    people = people_of(pairs, rows, labels)
    tars, accuracies = drawn_figures(folds.scores, folds.right, (people[left], people[right]), fars, seed=[seed, 17])
    return PairsResult(
        chosen.name,
        folds.scores,
        pairs.same,
        len(np.unique(people[rows])),
        folds.pooled,
        folds.pooled_thresholds,
        {far: interval(values) for far, values in tars.items()},
        interval(accuracies),
        folds,
    )


def evaluate_all_pairs(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    metric: str = "cosine",
    fars: Sequence[float] = roc.FARS,
    seed: int = 0,
) -> PairsResult:
    """Verify every pair of the images whose features (N, D) these are; labels (N,) say whose image each is."""
    labels = np.unique(labels, return_inverse=True)[1].reshape(-1)
    one, other = both_sides(np.asarray(features), checked_metric(metric))
    first, second = np.triu_indices(len(labels), 1)
    scores, same = (one @ other.T)[first, second], labels[first] == labels[second]
    if not same.any() or same.all():
        kind = "two images of one person" if not same.any() else "images of two people"
        raise ProtocolError(f"all pairs of {len(labels)} images: needs {kind}")
    found = roc.verification(scores, same, fars)
    return PairsResult(
        f"all pairs, {metric}",
        scores,
        same,
        int(labels.max()) + 1,
        found,
        {far: roc.tar_at_far(scores[same], scores[~same], far)[1] for far in fars},
        {far: interval(drawn_tars(scores, labels, far, seed=[seed, 17])) for far in fars},
    )


def pairs_figures(result: PairsResult, comparable: bool) -> dict[str, Any]:
    """Return what ``--json`` prints; rates are shares between 0 and 1, intervals hold 95 % of draws of people.

    comparable: as report.fold_figures has it.
    """
    figures: dict[str, Any] = {
        "protocol": result.title,
        "pairs": len(result.same),
        "genuine_pairs": int(result.same.sum()),
        "impostor_pairs": int((~result.same).sum()),
        "people": result.people,
        "auc": result.verification.auc,
        "eer": result.verification.eer,
        "tar_at_far": {f"{far:g}": tar for far, tar in result.verification.tar.items()},
        "tar_intervals": {f"{far:g}": between for far, between in result.tar_intervals.items()},
        "best_accuracy": result.verification.accuracy,
        "best_threshold": result.verification.threshold,
    }
    if result.folds is not None:
        folds = result.folds
        figures |= {"accuracy": folds.accuracy, "std": folds.std, "std_kind": folds.std_kind}
        figures |= {"accuracy_interval": result.accuracy_interval, "folds": len(folds.accuracies)}
        figures |= {"fold_accuracies": folds.accuracies.tolist(), "fold_thresholds": folds.thresholds.tolist()}
    if comparable:
        figures["thresholds"] = {f"{far:g}": threshold for far, threshold in result.thresholds.items()}
    return figures


def pairs_rows(result: PairsResult) -> list[tuple[str, str, str, str]]:
    """(figure, value, 95 % of draws of people, threshold), in per cent."""
    rows = []
    if result.folds is not None:
        folds = result.folds
        name = f"accuracy in {len(folds.accuracies)} folds"
        between = _between(result.accuracy_interval)
        rows.append((name, f"{100 * folds.accuracy:.2f} %", between, f"{folds.thresholds.mean():.4f} (mean)"))
    best = result.verification
    rows.append(("accuracy, threshold of these pairs", f"{100 * best.accuracy:.2f} %", "", f"{best.threshold:.4f}"))
    for far, tar in best.tar.items():
        between = _between(result.tar_intervals[far])
        rows.append((f"TAR at FAR {far:g}", f"{100 * tar:.2f} %", between, f"{result.thresholds[far]:.4f}"))
    rows += [("EER", f"{100 * best.eer:.2f} %", "", ""), ("AUC", f"{best.auc:.6f}", "", "")]
    return rows


def _between(limits: Interval | None) -> str:
    return "" if limits is None else f"{100 * limits[0]:.2f} to {100 * limits[1]:.2f} %"
