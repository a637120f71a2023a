"""``bias``: softmax with and without the bias term before it."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import style, toy_figures, toy_nets
from .intervals import Interval, paired, plain, verdict
from .mnist import Digits
from .result import Figure, Options, Result
from .toy_geometry import separation, unit, verified
from .toy_nets import Plan, Recipe
from .toy_training import Trained, train_all

CLAIM = (
    "A bias term before softmax damages the geometry of the features: classes may then differ by their features' "
    "length rather than their direction, so do not use one."
)
HEADS = {"without bias": "softmax", "with bias": "softmax-with-bias"}
SEEDS = 5
SIZES = (2, 3)
PANELS = {
    "cosine EER": "Equal error rate of pairs by cosine",
    "gap": "Gap to the nearest class, degrees",
    "longest by shortest class": "Longest class by shortest",
}


def run(options: Options) -> Result:
    return measure(options, toy_nets.plan_of(options.full))


def measure(options: Options, plan: Plan, digits: tuple[Digits, Digits] | None = None, seeds: int = SEEDS) -> Result:
    """Both from random weights, since a bias that comes late changes little."""
    wanted = [
        Recipe(head, size, seed=options.seed + i, from_softmax=False)
        for size in SIZES
        for head in HEADS.values()
        for i in range(seeds)
    ]
    trained = iter(train_all(wanted, options, plan, digits))
    by_size: dict[int, dict[str, list[Trained]]] = {
        size: {name: [next(trained) for _ in range(seeds)] for name in HEADS} for size in SIZES
    }
    measured: dict[str, Any] = {"plan": vars(plan)}
    for size, heads in by_size.items():
        measured[f"{size}-D"] = {
            name: {"seeds": (of := [measured_of(one) for one in ones]), "mean": mean_of(of)}
            for name, ones in heads.items()
        }
    damage = {size: _damage(measured[f"{size}-D"]) for size in SIZES}
    for size, difference in damage.items():
        measured[f"{size}-D"]["with bias less without"] = plain(difference)
    holds = verdict(one for of in damage.values() for one in (of["cosine EER"], -of["gap"]))
    return Result(CLAIM, _finding(measured, damage, seeds), measured, holds, _figures(by_size, measured))


def _damage(of_size: dict[str, Any]) -> dict[str, Interval]:
    """Return what the bias adds to both measures of the geometry: pairs by cosine, and the angles between classes."""
    plain_ones, biased = (of_size[name]["seeds"] for name in HEADS)
    return paired(biased, plain_ones, ("cosine EER", "gap", "longest by shortest class"))


def measured_of(trained: Trained) -> dict[str, float]:
    features, labels = trained.seen
    apart = separation(*trained.right)
    return {
        "accuracy": trained.accuracy,
        "accuracy by direction": float(
            np.mean(np.asarray(trained.digits)[(unit(features) @ unit(trained.weights).T).argmax(1)] == labels)
        ),
        "cosine EER": verified(features, labels).eer,
        "off the weight": off_the_weight(trained),
        "span": apart.span,
        "gap": apart.gap,
        "longest by shortest class": length_ratio(trained),
        "largest bias": float(np.abs(trained.bias).max()),
    }


def off_the_weight(trained: Trained) -> float:
    """Mean angle in degrees between a class's weight and its features' mean direction."""
    features, labels = trained.seen
    means = np.stack([unit(features[labels == digit]).mean(0) for digit in trained.digits])
    cosines = (unit(means) * unit(trained.weights)).sum(1)
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).mean())


def length_ratio(trained: Trained) -> float:
    """Of the classes' median feature lengths, the largest by the smallest."""
    features, labels = trained.seen
    lengths = np.linalg.norm(features, axis=1)
    medians = [float(np.median(lengths[labels == digit])) for digit in trained.digits]
    return max(medians) / max(min(medians), 1e-12)


def mean_of(parts: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}


def _figures(by_size: dict[int, dict[str, list[Trained]]], measured: dict[str, Any]) -> list[Figure]:
    drawn, axes = style.subplots(2, 2, width=9.5, height=9.6)
    for column, (name, ones) in zip(axes.T, by_size[2].items(), strict=True):
        one = ones[0]
        toy_figures.plane(column[0], one, f"2-D features {name}, accuracy {one.accuracy:.3f}")
        toy_figures.circle(column[1], one, f"at unit length, EER {measured['2-D'][name]['seeds'][0]['cosine EER']:.3f}")
    toy_figures.digit_legend(drawn, axes[0, 0])
    dots, axes = style.subplots(1, 3, width=11, height=3.6)
    for axis, key in zip(axes, PANELS, strict=True):
        for place, (size, name) in enumerate((size, name) for size in ("2-D", "3-D") for name in HEADS):
            values = [one[key] for one in measured[size][name]["seeds"]]
            biased = name == "with bias"
            axis.plot([place] * len(values), values, "s" if biased else "o", markersize=7,
                      color=style.VERMILION if biased else style.BLUE)  # fmt: skip
            axis.plot(place, np.mean(values), "_", markersize=24, color="black")
        axis.set(title=PANELS[key], xticks=range(4), xlim=(-0.5, 3.5))
        axis.set_xticklabels([f"{size}\n{name}" for size in ("2-D", "3-D") for name in HEADS],
                             fontsize=8)  # fmt: skip
    return [
        Figure("features.png", "Features of test images without and with a bias before softmax. A grey line is a "
               "class weight's direction.", drawn),
        Figure("measures.png", "Each seed, and the mean as a bar.", dots),
    ]  # fmt: skip


def _finding(measured: dict[str, Any], damage: dict[int, dict[str, Interval]], seeds: int) -> str:
    parts = [f"Means of {seeds} seeds."]
    for number, difference in damage.items():
        size = f"{number}-D"
        without, biased = (measured[size][name]["mean"] for name in HEADS)
        parts.append(
            f"{size}, without and with bias: accuracy {without['accuracy']:.3f}, {biased['accuracy']:.3f}; equal error "
            f"rate by cosine {without['cosine EER']:.3f}, {biased['cosine EER']:.3f}; gap between classes "
            f"{without['gap']:.1f}, {biased['gap']:.1f} degrees; the longest class's length by the shortest's "
            f"{without['longest by shortest class']:.1f}, {biased['longest by shortest class']:.1f}; angle between a "
            f"class's features and its weight {without['off the weight']:.1f}, {biased['off the weight']:.1f} degrees; "
            f"largest bias {biased['largest bias']:.2f}. Differences (95 % interval): equal error rate "
            f"{difference['cosine EER']}, gap {difference['gap']} degrees."
        )
    return " ".join(parts)
