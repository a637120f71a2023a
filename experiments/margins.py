"""``margins``: softmax, L-Softmax, SphereFace, AM-Softmax, ArcFace and center loss on 2-D features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb

from . import style, toy_figures, toy_nets
from .intervals import Interval, paired, plain, verdict
from .mnist import Digits
from .result import Figure, Options, Result
from .toy_geometry import separation, unit, verified
from .toy_nets import Plan, Recipe
from .toy_training import Trained, train_all

CLAIM = (
    "A margin between classes that is larger than a class's span makes any two images of a class more alike than "
    "any two of different classes; the margin losses come nearer to it than softmax does."
)
ANGLES = 720
SEEDS = 5
"""Of the comparison with softmax; the figures are of the first."""


@dataclass(frozen=True)
class Loss:
    """title: in figures. head, options: of toy_heads. has_margin: between classes, rather than within one."""

    title: str
    head: str
    options: tuple[tuple[str, float], ...] = ()
    has_margin: bool = True


ANNEALED = (("base", 100.0), ("lambda_min", 1.0))
"""The published base 1000 and least 5 are for 28,000 iterations."""
LOSSES = {
    "softmax": Loss("softmax", "softmax", has_margin=False),
    "l-softmax": Loss("L-Softmax, m = 4", "large-margin", ANNEALED),
    "sphereface": Loss("SphereFace, m = 4", "sphereface", ANNEALED),
    "am-softmax": Loss("AM-Softmax, m = 0.1, s = 30", "am-softmax", (("margin", 0.1), ("scale", 30.0))),
    "arcface": Loss("ArcFace, m = 8°, s = 30", "arcface", (("margin", 8.0), ("scale", 30.0))),
    "center": Loss("softmax + 0.1 center loss", "center", (("weight", 0.1),), has_margin=False),
}


def run(options: Options) -> Result:
    return measure(options, toy_nets.plan_of(options.full))


def measure(
    options: Options,
    plan: Plan,
    digits: tuple[Digits, Digits] | None = None,
    names: tuple[str, ...] = tuple(LOSSES),
    seeds: int = SEEDS,
) -> Result:
    runs = [(name, options.seed + i) for i in range(seeds) for name in names]
    wanted = [Recipe(LOSSES[name].head, 2, LOSSES[name].options, seed=seed) for name, seed in runs]
    nets = dict(zip(runs, train_all(wanted, options, plan, digits), strict=True))
    trained = {name: nets[name, options.seed] for name in names}
    by_seed = {name: [measured_of(nets[name, options.seed + i]) for i in range(seeds)] for name in names}
    of = {name: by_seed[name][0] for name in names}
    for name, one in trained.items():
        of[name]["circle within margins"] = float(accepted(one, plan.iterations).any(1).mean())
    nearer = {
        name: paired(by_seed["softmax"], by_seed[name], ["span / gap"])["span / gap"]
        for name in names
        if LOSSES[name].has_margin
    }
    measured = {
        "plan": vars(plan),
        "losses": of,
        "span / gap below softmax's": plain(nearer),
        "largest margin": largest_margin(10),
    }
    holds = verdict(nearer.values())
    return Result(CLAIM, _finding(measured, nearer, seeds), measured, holds, _figures(trained, measured, plan))


def largest_margin(classes: int) -> dict[str, float]:
    """What a feature that lies on its class's weight can meet on a circle of evenly spread classes, the neighbours
    being 360 / C degrees away: AM-Softmax's 1 - cos(360 / C), ArcFace's 360 / C degrees."""
    apart = 360 / classes
    return {"am-softmax": 1 - float(np.cos(np.radians(apart))), "arcface": apart}


def measured_of(trained: Trained) -> dict[str, float]:
    features, labels = trained.seen
    apart = separation(*trained.right)
    return {
        "accuracy": trained.accuracy,
        "span": apart.span,
        "gap": apart.gap,
        "span / gap": apart.span / apart.gap,
        "classes apart": apart.apart,
        "cosine EER": verified(features, labels).eer,
        "TAR at FAR 1 %": verified(features, labels).tar[1e-2],
    }


def accepted(trained: Trained, iterations: int, angles: int = ANGLES) -> np.ndarray:
    """(angles, C): is a unit feature at that angle the class's, as its loss wants it, that is with the margin?"""
    turn = np.linspace(-np.pi, np.pi, angles, endpoint=False)
    points = np.stack([np.cos(turn), np.sin(turn)], 1)
    options = dict(trained.recipe.options)
    cosines = points @ unit(trained.weights).T
    scores = trained.scores(points)
    head = trained.recipe.head
    theta = np.arccos(np.clip(cosines, -1, 1))
    if head == "am-softmax":
        wanted = scores - options["margin"]
    elif head == "arcface":
        wanted = np.cos(np.minimum(theta + np.radians(options["margin"]), np.pi))
    elif head in ("sphereface", "large-margin"):
        decay = max(options["lambda_min"], options["base"] / (1 + 0.12 * iterations))
        k = np.minimum(np.floor(theta * 4 / np.pi), 3)
        psi = (-1) ** k * np.cos(4 * theta) - 2 * k
        lengths = np.linalg.norm(trained.weights, axis=1)
        wanted = (lengths * psi + decay * scores) / (1 + decay)
    else:
        wanted = scores
    best_other = np.stack([np.delete(scores, c, 1).max(1) for c in range(scores.shape[1])], 1)
    return wanted > best_other


def _figures(trained: dict[str, Trained], measured: dict[str, Any], plan: Plan) -> list[Figure]:
    titles = {name: f"{LOSSES[name].title}\naccuracy {one.accuracy:.3f}" for name, one in trained.items()}
    flat, grid = style.subplots(2, 3, width=12.5, height=9.2)
    for axis, (name, one) in zip(grid.flat, trained.items(), strict=False):
        toy_figures.plane(axis, one, titles[name])
        _regions(axis, accepted(one, plan.iterations), one.digits)
    toy_figures.digit_legend(flat, grid[0, 0])
    round_, grid = style.subplots(2, 3, width=12, height=9.6)
    for axis, (name, one) in zip(grid.flat, trained.items(), strict=False):
        of = measured["losses"][name]
        toy_figures.circle(axis, one, f"{LOSSES[name].title}\nspan {of['span']:.1f}°, gap {of['gap']:.1f}°")
    bars, axes = style.subplots(1, 2, width=12, height=3.8)
    places = np.arange(len(trained))
    of = measured["losses"]
    for i, (key, colour) in enumerate((("span", style.VERMILION), ("gap", style.BLUE))):
        axes[0].bar(places + 0.4 * (i - 0.5), [of[name][key] for name in trained], 0.38, color=colour, label=key,
                    hatch=("", "//")[i], edgecolor="white")  # fmt: skip
    axes[0].set(title="A class's span, and the gap to the nearest other, degrees")
    axes[0].margins(y=0.2)
    axes[0].legend(loc="upper center", ncols=2)
    axes[1].bar(places, [of[name]["cosine EER"] for name in trained], 0.6, color=style.GREEN)
    axes[1].set(title="Equal error rate of test pairs by cosine")
    for axis in axes:
        axis.set_xticks(places, list(trained), fontsize=8.5)
        axis.grid(axis="x", visible=False)
    return [
        Figure("features.png", "2-D features of test images. Coloured: where a feature meets the loss's demand, "
               "margin included; white between the colours is the margin zone.", flat),
        Figure("circles.png", "The same at unit length; outside, how many lie at an angle.", round_),
        Figure("spans.png", "Of correctly classified test images: the 95th percentile of the angles within a class, "
               "the 5th of those to the nearest other class.", bars),
    ]  # fmt: skip


def _regions(axes: Any, inside: np.ndarray, digits: tuple[int, ...]) -> None:
    """Sectors in each class's colour, behind the features."""
    reach = axes.get_xlim()[1]
    grid = np.linspace(-reach, reach, 500)
    angles = np.arctan2(grid[:, None], grid[None])
    which = inside[((angles + np.pi) / (2 * np.pi) * len(inside)).astype(int) % len(inside)]
    colours = np.array([to_rgb(style.class_colour(digit)) for digit in digits])
    image = np.ones((*angles.shape, 3))
    found = which.any(-1)
    image[found] = 0.8 + 0.2 * colours[which.argmax(-1)[found]]
    axes.imshow(image, extent=(-reach, reach, -reach, reach), origin="lower", zorder=0)
    axes.grid(False)


def _finding(measured: dict[str, Any], nearer: dict[str, Interval], seeds: int) -> str:
    rows = [
        f"{LOSSES[name].title}: span {of['span']:.1f}, gap {of['gap']:.1f} degrees, {of['classes apart']:.0%} of the "
        f"classes with a gap larger than their span, accuracy {of['accuracy']:.3f}, equal error rate "
        f"{of['cosine EER']:.3f}"
        for name, of in measured["losses"].items()
    ]
    most = measured["largest margin"]
    differences = ", ".join(f"{LOSSES[name].title} {one}" for name, one in nearer.items())
    return (
        "One seed: " + "; ".join(rows) + f". Span by gap, by how much it is below softmax's, over {seeds} seeds (95 % "
        f"interval): {differences}. Ten classes on a circle leave room for an additive margin below "
        f"{most['am-softmax']:.2f} (AM-Softmax) or {most['arcface']:.0f} degrees (ArcFace), so the published 0.35 "
        "could not be met here by any feature."
    )
