"""``scale``: softmax over s times the cosine, for small and large s, and a learned one."""

from __future__ import annotations

from typing import Any

import numpy as np
from normface.bounds import softmax_lower_bound

from . import style, toy_figures, toy_nets
from .intervals import Interval, paired, plain, verdict
from .mnist import Digits
from .result import Figure, Options, Result
from .sphere_page import Cloud, sphere_page
from .toy_geometry import separation, verified
from .toy_nets import LEARNED, Plan, Recipe, steady_rate
from .toy_training import Trained, train_all

CLAIM = (
    "A small scale s acts as a margin: softmax over s cos goes on pulling a feature to its class's weight when it is "
    "nearest to it already, so classes get narrower and the angles between them wider than with a large s."
)
SCALES = (1.0, 2.0, 4.0, 7.0, 11.0, 15.0, 30.0)
SMALL, LARGE = (4.0, 7.0), (15.0, 30.0)
"""What is compared. Smaller ones are shown too: below s = 4 ten classes no longer hold each other apart."""

SHOWN = ("span", "gap")
SEEDS = 5
"""Of the compared scales; the others, and the figures, are of the first."""
SIZE = 3
"""On a circle ten classes are 36 degrees apart, too near for even s = 30 to leave them alone; on the sphere they have
room for a margin or for none."""


def recipe(scale: float, seed: int) -> Recipe:
    """A learned scale moves around its start, 10."""
    if scale == LEARNED:
        return Recipe("normalized", SIZE, seed=seed, rate=steady_rate(10))
    return Recipe("normalized", SIZE, (("scale", scale),), seed=seed, rate=steady_rate(scale))


def run(options: Options) -> Result:
    return measure(options, toy_nets.plan_of(options.full))


def measure(
    options: Options,
    plan: Plan,
    digits: tuple[Digits, Digits] | None = None,
    scales: tuple[float, ...] = SCALES,
    seeds: int = SEEDS,
) -> Result:
    small, large = ([scale for scale in chosen if scale in scales] for chosen in (SMALL, LARGE))
    repeated = [(scale, options.seed + i) for i in range(seeds) for scale in (*small, *large)]
    wanted = [recipe(scale, options.seed) for scale in (*scales, LEARNED)] + [recipe(*one) for one in repeated]
    nets = train_all(wanted, options, plan, digits)
    trained = dict(zip((*scales, LEARNED), nets, strict=False))
    by_seed = dict(zip(repeated, map(measured_of, nets[len(trained) :]), strict=True))
    small_means, large_means = (
        [_mean([by_seed[scale, options.seed + i] for scale in chosen]) for i in range(seeds)]
        for chosen in (small, large)
    )
    difference = paired(small_means, large_means, SHOWN)
    measured: dict[str, Any] = {
        "plan": vars(plan),
        "scales": {name_of(scale): measured_of(one) for scale, one in trained.items()},
        "learned path": trained[LEARNED].scales[:: max(1, plan.iterations // 50)].round(4),
        "small": _mean(small_means),
        "large": _mean(large_means),
        "small against large": plain(difference),
    }
    holds = verdict((difference["gap"], -difference["span"]))
    return Result(CLAIM, _finding(measured, difference, seeds), measured, holds, _figures(trained, measured))


def _mean(parts: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([part[key] for part in parts])) for key in SHOWN}


def name_of(scale: float) -> str:
    return "learned" if scale == LEARNED else f"{scale:g}"


def measured_of(trained: Trained) -> dict[str, float]:
    features, labels = trained.seen
    apart = separation(*trained.right)
    scale = float(trained.scales[-1])
    return {
        "scale": scale,
        "span": apart.span,
        "gap": apart.gap,
        "gap - span": apart.gap - apart.span,
        "classes apart": apart.apart,
        "accuracy": trained.accuracy,
        "cosine EER": verified(features, labels).eer,
        "loss": float(trained.losses[-50:].mean()),
        "least loss": softmax_lower_bound(len(trained.digits), scale),
        "pull at 10 degrees on a circle": pull(scale, 10.0, len(trained.digits)),
    }


def pull(scale: float, off: float, classes: int) -> float:
    """The loss's slope by the angle (per radian) of a feature that is ``off`` degrees from its class's weight, on a
    circle whose class weights are 360 / C degrees apart; less than what s itself scales it by, so that scales compare.

    (1 / s) dL/dtheta = sum_j (p_j - [j = y]) d cos(theta_j) / d theta.
    """
    angles = np.radians(off) - 2 * np.pi * np.arange(classes) / classes
    scores = scale * np.cos(angles)
    chances = np.exp(scores - scores.max())
    chances /= chances.sum()
    chances[0] -= 1
    return float(-(chances * np.sin(angles)).sum())


def _figures(trained: dict[float, Trained], measured: dict[str, Any]) -> list[Figure]:
    drawn, grid = style.subplots(2, 4, width=14, height=8.6, subplot_kw={"projection": "3d"})
    clouds = {}
    for axis, (scale, one) in zip(grid.flat, trained.items(), strict=False):
        name = f"s = {name_of(scale)}" if scale != LEARNED else f"s learned, {one.scales[-1]:.1f}"
        of = measured["scales"][name_of(scale)]
        toy_figures.sphere(axis, one, f"{name}\nspan {of['span']:.0f}°, gap {of['gap']:.0f}°", unit_length=True)
        clouds[name] = Cloud(one.features, one.labels, one.weights)
    for axis in grid.flat[len(trained) :]:
        axis.set_axis_off()
    toy_figures.digit_legend(drawn, grid.flat[0])
    curves, axes = style.subplots(1, 3, width=13, height=3.8)
    fixed = [scale for scale in trained if scale != LEARNED]
    of = measured["scales"]
    for key, colour, marker in (("gap", style.BLUE, "o"), ("span", style.VERMILION, "s")):
        axes[0].plot(fixed, [of[name_of(scale)][key] for scale in fixed], color=colour, marker=marker,
                     label={"gap": "gap to the nearest class", "span": "span of a class"}[key])  # fmt: skip
    axes[0].set(title="Angles, degrees", xlabel="s", xscale="log")
    axes[0].legend()
    axes[1].plot(fixed, [of[name_of(scale)]["accuracy"] for scale in fixed], color=style.GREEN, marker="^",
                 label="accuracy")  # fmt: skip
    axes[1].plot(fixed, [1 - of[name_of(scale)]["cosine EER"] for scale in fixed], color=style.PURPLE, marker="D",
                 label="1 - equal error rate")  # fmt: skip
    axes[1].set(title="Test images", xlabel="s", xscale="log")
    axes[1].legend()
    for axis in axes[:2]:
        axis.set_xticks(fixed, [name_of(scale) for scale in fixed])
        axis.minorticks_off()
    axes[2].plot(trained[LEARNED].scales, color=style.BLUE)
    axes[2].set(title="The learned s", xlabel="iteration")
    return [
        Figure("spheres.png", "3-D features of test images at unit length, by scale.", drawn),
        Figure("curves.png", "By scale: how wide classes are (95th percentile of the angles within one, of correctly "
               "classified test images) and how far apart (5th, to the nearest other), how well images are told "
               "apart; and the way of the learned scale.", curves),
        Figure("sphere.html", "The features to turn by hand.",
               sphere_page("Digits by the scale of the softmax", clouds, [str(digit) for digit in range(10)])),
    ]  # fmt: skip


def _finding(measured: dict[str, Any], difference: dict[str, Interval], seeds: int) -> str:
    rows = [
        f"s = {name}{'' if name != 'learned' else ' ({:.1f})'.format(one['scale'])}: span {one['span']:.1f}, gap "
        f"{one['gap']:.1f} degrees, accuracy {one['accuracy']:.3f}"
        for name, one in measured["scales"].items()
    ]
    small, large = measured["small"], measured["large"]
    return (
        "One seed: " + "; ".join(rows) + f". Over {seeds} seeds, mean of s = 4 and 7 against 15 and 30: span "
        f"{small['span']:.1f} against {large['span']:.1f}, gap {small['gap']:.1f} against {large['gap']:.1f} degrees; "
        f"differences (95 % interval): span {difference['span']}, gap {difference['gap']}. The learning rate is "
        "divided by s, so that all learn as much: the loss's slope by an angle grows with s."
    )
