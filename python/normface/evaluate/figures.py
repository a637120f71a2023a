"""PNG files for people who would rather look: the ROC, the spread of scores, the pairs that come out most wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from caffeport.files import replacing

from ..errors import DataError, MissingDependencyError
from .blufr import BlufrResult
from .folds import FoldResult
from .roc import roc_curve

GENUINE, IMPOSTOR = "#2a6fbb", "#d1603d"
SHOWN = 8
"""Pairs of either kind on the image of the most wrong ones."""


def figure(width: float, height: float) -> Any:
    """A matplotlib Figure without pyplot, whose windows and state a library should leave alone."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            f"figures need matplotlib ({error}): pip install matplotlib, or leave out --out"
        ) from error
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def save_fold_figures(
    folder: Path, result: FoldResult, title: str, read: Callable[[str], np.ndarray] | None = None
) -> None:
    """roc.png and scores.png and, where there is a way from an image's name to the image, wrong_pairs.png."""
    far, tar, _ = roc_curve(result.scores, result.same)
    save_roc(folder / "roc.png", {f"{result.protocol}, accuracy {100 * result.accuracy:.2f} %": (far, tar)}, title)
    genuine, impostor = result.scores[result.same], result.scores[~result.same]
    thresholds = {"threshold (mean of the folds)": float(result.thresholds.mean())}
    save_histogram(folder / "scores.png", genuine, impostor, thresholds, title)
    if read is not None:
        wrong = int(np.count_nonzero(~result.right))
        save_wrong_pairs(folder / "wrong_pairs.png", result, read, f"{title}: the most wrong of {wrong} wrong pairs")


def save_roc(path: str | Path, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str) -> None:
    """Curves: label -> (far, tar), shares. The FAR on a logarithmic axis: what matters lies at its low end."""
    drawn = figure(5.2, 4.2)
    axes = drawn.add_subplot()
    lowest = 1.0
    for label, (far, tar) in curves.items():
        axes.plot(far, 100 * np.asarray(tar), drawstyle="steps-post", label=label, linewidth=1.6)
        lowest = min(lowest, *far[far > 0])
    axes.set_xscale("log")
    axes.set_xlim(lowest, 1)
    missed = 1 - min(tar[np.searchsorted(far, lowest, "right") - 1] for far, tar in curves.values())
    axes.set_ylim(100 * (1 - 1.15 * missed) - 0.1, 100 * (1 + 0.05 * missed) + 0.1)
    axes.set(xlabel="false accept rate", ylabel="true accept rate, %", title=title)
    axes.grid(which="major", alpha=0.4)
    axes.grid(which="minor", alpha=0.12)
    axes.legend(loc="lower right")
    _save(path, drawn)


def save_blufr_rates(path: str | Path, result: BlufrResult, title: str) -> None:
    """Both rates against their FARs: the mean over the trials as a line, a standard deviation to either side shaded."""
    drawn = figure(5.2, 4.2)
    axes = drawn.add_subplot()
    kinds = ((result.vr, GENUINE, "VR"), (result.dir, IMPOSTOR, f"DIR, rank {result.rank}"))
    for rates, colour, label in kinds:
        fars = sorted(rates)
        mean = np.array([100 * rates[far].mean for far in fars])
        std = np.array([100 * rates[far].std for far in fars])
        axes.fill_between(fars, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
        axes.plot(fars, mean, color=colour, marker="o", markersize=4, label=f"{label} (mean ± std)")
    axes.set_xscale("log")
    axes.set(xlabel="false accept rate", ylabel="rate, %", title=title)
    axes.grid(which="major", alpha=0.4)
    axes.legend(loc="lower right")
    _save(path, drawn)


def save_histogram(
    path: str | Path, genuine: np.ndarray, impostor: np.ndarray, thresholds: Mapping[str, float], title: str
) -> None:
    """Draw how the scores of both kinds of pair spread, each kind adding up to one; thresholds: label -> score."""
    drawn = figure(5.2, 3.6)
    axes = drawn.add_subplot()
    both = np.concatenate([genuine, impostor])
    bins = np.linspace(both.min(), both.max(), 101)
    for scores, colour, label in ((impostor, IMPOSTOR, "different people"), (genuine, GENUINE, "same person")):
        shares = np.full(len(scores), 100 / len(scores))
        axes.hist(scores, bins, weights=shares, color=colour, alpha=0.65, label=f"{label} ({len(scores)} pairs)")
    for (label, score), style in zip(thresholds.items(), ("-", "--", ":", "-.") * len(thresholds), strict=False):
        axes.axvline(score, color="black", linewidth=1, linestyle=style, label=f"{label}: {score:.3f}")
    axes.set(xlabel="score", ylabel="% of the pairs", title=title)
    axes.set_ylim(top=1.35 * axes.get_ylim()[1])  # room for the legend
    axes.legend(fontsize=8, loc="upper center", ncols=2)
    _save(path, drawn)


def save_wrong_pairs(
    path: str | Path, result: FoldResult, read: Callable[[str], np.ndarray], title: str, shown: int = SHOWN
) -> int:
    """The wrong pairs furthest from their folds' thresholds side by side; returns how many are shown.

    read: an image's name -> uint8 (H, W, 3) BGR. Left half: one person taken for two; right half: two for one. Beside
    each pair stand its score and the threshold of its fold.
    """
    if result.names is None:
        raise DataError("the pairs have no names by which to find their images")
    columns = [most_wrong(result, same, shown) for same in (True, False)]
    rows = max(1, *map(len, columns))
    drawn = figure(7.2, 0.5 + 1.55 * rows)
    drawn.suptitle(title)
    halves = drawn.subfigures(1, 2)
    heads = ("same person, taken for two", "different people, taken for one")
    for half, pairs, head in zip(halves, columns, heads, strict=True):
        half.suptitle(head if pairs else f"{head}: none", fontsize=9)
        cells = half.subplots(rows, 2, squeeze=False)
        for row, (left, right) in enumerate(cells):
            left.axis("off")
            right.axis("off")
            if row < len(pairs):
                pair = pairs[row]
                for cell, side in ((left, 0), (right, 1)):
                    cell.imshow(_rgb(read(result.names[side][pair])))
                    cell.set_title(_short(result.names[side][pair]), fontsize=5.5, pad=2)
                right.text(1.04, 0.5, score_text(result, pair), transform=right.transAxes, fontsize=7, va="center")
    _save(path, drawn)
    return sum(map(len, columns))


def score_text(result: FoldResult, pair: int) -> str:
    """A pair's score, and the threshold of its own fold on the side of which it is wrong."""
    score = f"{result.scores[pair]:.3f}"
    if result.folds is None:
        return score
    threshold = result.thresholds[result.folds[pair]]
    sign = "<" if result.scores[pair] < threshold else ">" if result.scores[pair] > threshold else "="
    return f"{score}\n{sign} {threshold:.3f}"


def most_wrong(result: FoldResult, same: bool, count: int) -> list[int]:
    """Wrong pairs of one kind: genuine ones from the lowest score up, impostor ones from the highest down."""
    wrong = np.flatnonzero(~result.right & (result.same == same))
    order = np.argsort(result.scores[wrong] if same else -result.scores[wrong], kind="stable")
    return wrong[order[:count]].tolist()


def _rgb(image: np.ndarray) -> np.ndarray:
    return image[..., ::-1] if image.shape[-1] == 3 else np.repeat(image, 3, axis=-1)


def _short(name: str, most: int = 26) -> str:
    last: Sequence[str] = name.replace("\\", "/").split("/")
    stem = last[-1].rsplit(".", 1)[0]
    # Dollar signs would start a formula.
    return (stem if len(stem) <= most else f"…{stem[1 - most :]}").replace("$", r"\$")


def _save(path: str | Path, drawn: Any) -> None:
    with replacing(path) as stream:
        drawn.savefig(stream, format="png")
