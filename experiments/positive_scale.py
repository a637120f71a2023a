"""``positive-scale``: the label's cosine times a number below 1, and the scale s beside it."""

from __future__ import annotations

import math

from . import style, toy_figures, toy_nets
from .intervals import Interval, paired, plain, verdict
from .mnist import Digits
from .result import Figure, Options, Result
from .scale import SIZE
from .toy_geometry import separation, verified
from .toy_nets import Plan, Recipe, steady_rate
from .toy_training import Trained, train_all

CLAIM = (
    "The label's score times 0.75 at s = 15 acts as a margin: faces verify a little better (LFW 99.19 to 99.25 %, "
    "BLUFR 95.83 to 96.49 %, by the slides)."
)
POSITIVES = (0.5, 0.75, 0.85, 1.0)
SCALES = (10.0, 15.0, 30.0)
SLIDES, UNSCALED = (0.75, 15.0), (1.0, 15.0)
SEEDS = 5
"""Of the two that the claim compares; their neighbourhood is drawn from the first."""
Key = tuple[float, float]
"""(positive scale, s)."""


def recipe(positive: float, scale: float, seed: int, *, positive_only: bool = True) -> Recipe:
    """positive_only: negative cosines are left alone, without which there is a way to a low loss for nothing."""
    if positive == 1:
        return Recipe("normalized", SIZE, (("scale", scale),), seed=seed, rate=steady_rate(scale))
    options = (("positive", positive), ("scale", scale)) + (() if positive_only else (("positive_only", 0.0),))
    return Recipe("positive-scale", SIZE, options, seed=seed, rate=steady_rate(scale))


def run(options: Options) -> Result:
    return measure(options, toy_nets.plan_of(options.full))


def measure(
    options: Options,
    plan: Plan,
    digits: tuple[Digits, Digits] | None = None,
    positives: tuple[float, ...] = POSITIVES,
    scales: tuple[float, ...] = SCALES,
    seeds: int = SEEDS,
) -> Result:
    keys = [(positive, scale) for scale in scales for positive in positives]
    repeated = [(*key, options.seed + i) for key in (SLIDES, UNSCALED) for i in range(seeds)]
    wanted = [recipe(*key, options.seed) for key in keys] + [recipe(*key) for key in repeated]
    nets = train_all(wanted, options, plan, digits)
    trained = dict(zip(keys, nets, strict=False))
    grid = {key: measured_of(one) for key, one in trained.items()}
    by_seed = [measured_of(one) for one in nets[len(keys) :]]
    difference = paired(by_seed[:seeds], by_seed[seeds:], by_seed[0])
    measured = {
        "plan": vars(plan),
        "grid": {f"positive {positive:g}, s {scale:g}": of for (positive, scale), of in grid.items()},
        "difference at s = 15, positive 0.75": plain(difference),
        "least loss of the collapse at s = 15, positive 0.75": collapsed_loss(10, SLIDES[1], SLIDES[0]),
    }
    holds = verdict((-difference["span"], -difference["cosine EER"]))
    finding = _finding(grid, difference, seeds)
    return Result(CLAIM, finding, measured, holds, _figures(trained, grid, positives, scales))


def measured_of(trained: Trained) -> dict[str, float]:
    features, labels = trained.seen
    apart = separation(*trained.right)
    found = verified(features, labels)
    return {
        "span": apart.span,
        "gap": apart.gap,
        "classes apart": apart.apart,
        "accuracy": trained.accuracy,
        "cosine EER": found.eer,
        "TAR at FAR 1 %": found.tar[1e-2],
    }


def collapsed_loss(classes: int, scale: float, positive: float) -> float:
    """log(1 + (C-1) exp(-s (1 - p))): the loss where all class weights are one direction, all features its opposite,
    and negative cosines are scaled down too: every cosine is -1, and the label's -p is the largest score.

    It tells no class from another, and can be lower than a trained net's.
    """
    return math.log1p((classes - 1) * math.exp(-scale * (1 - positive)))


def _figures(
    trained: dict[Key, Trained], grid: dict[Key, dict[str, float]], positives: tuple[float, ...],
    scales: tuple[float, ...],
) -> list[Figure]:  # fmt: skip
    drawn, axes = style.subplots(
        1, len(positives), width=3.4 * len(positives), height=5.0, squeeze=False, subplot_kw={"projection": "3d"}
    )
    for axis, positive in zip(axes[0], positives, strict=True):
        of = grid[positive, SLIDES[1]]
        title = f"times {positive:g}, s = 15\nspan {of['span']:.1f}°, EER {of['cosine EER']:.3f}"
        toy_figures.sphere(axis, trained[positive, SLIDES[1]], title, unit_length=True)
    toy_figures.digit_legend(drawn, axes[0, 0])
    curves, axes = style.subplots(1, 3, width=13, height=3.8)
    titles = {"span": "A class's span, degrees", "gap": "Gap to the nearest class, degrees",
              "cosine EER": "Equal error rate of test pairs by cosine"}  # fmt: skip
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
        for i, scale in enumerate(scales):
            axis.plot(positives, [grid[positive, scale][key] for positive in positives], style.DASHES[i % 4],
                      marker=style.MARKERS[i], color=style.COLOURS[i], label=f"s = {scale:g}")  # fmt: skip
        axis.set(title=title, xlabel="the label's cosine times")
    axes[0].legend()
    return [
        Figure("spheres.png", "3-D features of test images at unit length, s = 15.", drawn),
        Figure("grid.png", "The neighbourhood: by the number that the label's cosine is multiplied by, and the scale.",
               curves),
    ]  # fmt: skip


def _finding(grid: dict[Key, dict[str, float]], difference: dict[str, Interval], seeds: int) -> str:
    best = min(grid, key=lambda key: grid[key]["cosine EER"])
    rows = "; ".join(
        f"s = {scale:g}: "
        + ", ".join(f"{grid[key]['cosine EER']:.3f} at {key[0]:g}" for key in grid if key[1] == scale)
        for scale in dict.fromkeys(key[1] for key in grid)
    )
    return (
        f"At s = 15, from 1 to 0.75, mean difference over {seeds} seeds (95 % interval): span {difference['span']} "
        f"degrees, gap {difference['gap']}, accuracy {difference['accuracy']}, equal error rate of test pairs by "
        f"cosine {difference['cosine EER']}: {_words(difference)}. Around it, equal error rates of one seed by the "
        f"multiplier: {rows}. Lowest: times {best[0]:g} at s = {best[1]:g}. Negative cosines are left alone here: "
        "scaled down as well, they open a way to a low loss without learning (all weights one direction, all features "
        f"its opposite: {collapsed_loss(10, 15, 0.75):.2f})."
    )


def _words(difference: dict[str, Interval]) -> str:
    narrower, better = (verdict([-difference[key]]) for key in ("span", "cosine EER"))
    width = {True: "classes become narrower, which is the margin", False: "classes become wider"}
    pairs = {True: "digits verify better", False: "digits verify worse"}
    return (
        f"{width.get(narrower, 'whether classes become narrower is left open')}, and "
        f"{pairs.get(better, 'whether digits verify better is left open')}"
    )
