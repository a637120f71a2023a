"""``metrics``: how well Euclidean distance, inner product and cosine tell pairs of softmax's features apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from . import style, toy_figures, toy_nets
from .intervals import plain, verdict
from .mnist import Digits
from .result import Figure, Options, Result
from .toy_geometry import SCORES, cosine, euclidean, inner_product, some_of_each, verified
from .toy_nets import ALL_DIGITS, Plan, Recipe
from .toy_training import Trained, train_all

CLAIM = (
    "Of features that softmax was trained for, the cosine tells people whom no training has seen apart better than the "
    "Euclidean distance and the inner product do. For these two there are counter-examples, a pair of one class that "
    "scores below a pair of two, which only the features' lengths make; for the angle there are none such."
)
"""What holds. That the cosine is best on any data does not: with a few digits the distance may be as good."""
NO_FACES = " Faces, which decide, were not measured: they need --lfw, --net and --weights."
DRAWN, SIZES = (2, 3), (2, 3, 16)
"""Features that are looked at, and those that unseen digits are told apart by: a plane has no room for these."""
LENGTHS = ("Euclidean distance", "inner product")
"""The scores that a feature's length has a part in."""
HELD_OUT = ((0, 1, 2), (3, 4, 5), (7, 8, 9))
"""Digits that a net is not trained on."""
TRIPLES_EACH = 40
"""Features of a class in the search for counter-examples: 400 make 5.6 million triples."""


@dataclass(frozen=True)
class CounterExample:
    """Three features, two of one class (anchor, same) and one of another, which the score puts nearer.

    score_same < score_other, though the cosine has it right. digits: the two classes.
    """

    points: np.ndarray
    digits: tuple[int, int]
    score_same: float
    score_other: float


def run(options: Options) -> Result:
    """On digits, and with --lfw, --net and --weights on faces, which decide."""
    of_digits = measure(options, toy_nets.plan_of(options.full))
    if options.lfw is None and options.net is None:
        return of_digits
    from . import metrics_faces

    return with_faces(of_digits, metrics_faces.of_seeds(options))


def with_faces(of_digits: Result, of_seeds: list[dict[str, dict[str, float]]]) -> Result:
    """The result that faces decide: by how much the cosine accepts more genuine pairs, over the seeds."""
    from .metrics_faces import differences

    gained = differences(of_seeds)
    on_faces = verdict(one for of_far in gained.values() for one in of_far.values())
    found = all(of_digits.measured["counter-examples"].values())
    parts = []
    for far, of_far in gained.items():
        means = ", ".join(f"{score} {np.mean([seed[far][score] for seed in of_seeds]):.1f}" for score in SCORES)
        more = ", ".join(f"than by {score} {one}" for score, one in of_far.items())
        parts.append(f"at FAR {far} {means}; by the cosine more {more}")
    on_digits = of_digits.finding.removesuffix(NO_FACES)
    finding = (
        f"4,249 people of LFW, of whom softmax has seen none, genuine pairs accepted in percent, means of "
        f"{len(of_seeds)} seeds and differences (95 % interval): {'. '.join(parts)}. On digits: {on_digits}"
    )
    measured = of_digits.measured | {
        "faces": of_seeds,
        "faces: points more by the cosine": {far: plain(of_far) for far, of_far in gained.items()},
    }
    return replace(of_digits, finding=finding, measured=measured, holds=on_faces if found else False)


def measure(
    options: Options,
    plan: Plan,
    digits: tuple[Digits, Digits] | None = None,
    held_out: tuple[tuple[int, ...], ...] = HELD_OUT,
) -> Result:
    held = {without: tuple(digit for digit in ALL_DIGITS if digit not in without) for without in held_out}
    wanted = [Recipe("softmax", size, seed=options.seed) for size in DRAWN]
    wanted += [
        Recipe("softmax", size, digits=kept, seed=options.seed, from_softmax=False)
        for size in SIZES
        for kept in held.values()
    ]
    trained = train_all(wanted, options, plan, digits)
    seen, unseen = dict(zip(DRAWN, trained, strict=False)), trained[len(DRAWN) :]
    measured: dict = {"plan": vars(plan)}
    for size in SIZES:
        of_size = [[verified(*one.unseen, score) for score in SCORES] for one in unseen if one.recipe.size == size]
        measured[f"{size}-D"] = {
            "unseen": {score: _mean([_figures_of(one[i]) for one in of_size]) for i, score in enumerate(SCORES)},
            "unseen AUC by split": {score: [one[i].auc for one in of_size] for i, score in enumerate(SCORES)},
        }
        if size in seen:
            measured[f"{size}-D"] |= {
                "seen": {score: _figures_of(verified(*seen[size].seen, score)) for score in SCORES},
                "triples": triples(*seen[size].seen),
            }
    found = {score: counter_example(*seen[2].seen, score) for score in LENGTHS}
    measured["counter-examples"] = {
        score: None if one is None else {
            "digits": one.digits, "points": one.points, "score of the same": one.score_same,
            "score of the other": one.score_other,
        }
        for score, one in found.items()
    }  # fmt: skip
    best = {
        (size, kind): of[kind]["cosine"]["AUC"] > max(of[kind][score]["AUC"] for score in LENGTHS)
        for size in SIZES
        for of in (measured[f"{size}-D"],)
        for kind in ("seen", "unseen")
        if kind in of
    }
    finding = _finding(measured, best) + NO_FACES
    return Result(CLAIM, finding, measured, None, _figures(seen[2], measured, found))


def triples(features: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
    """Of all (anchor, same class, other class): the share that each score gets wrong, and that it alone does.

    alone: wrong by this score and right by cosine; for cosine, wrong by it and right by both others.
    """
    features, labels = some_of_each(features.astype(np.float64), labels, TRIPLES_EACH)
    wrong: dict[str, list[float]] = {score: [] for score in SCORES}
    alone: dict[str, list[float]] = {score: [] for score in SCORES}
    scores = {name: score(features, features) for name, score in SCORES.items()}
    for anchor, label in enumerate(labels):
        same, other = labels == label, labels != label
        same[anchor] = False
        bad = {name: of[anchor, same][:, None] < of[anchor, other][None] for name, of in scores.items()}
        lengths = [bad[name] for name in SCORES if name != "cosine"]
        for name in SCORES:
            wrong[name].append(bad[name].mean())
            right = ~bad["cosine"] if name != "cosine" else ~(lengths[0] | lengths[1])
            alone[name].append((bad[name] & right).mean())
    return {name: {"wrong": float(np.mean(wrong[name])), "alone": float(np.mean(alone[name]))} for name in SCORES}


def counter_example(features: np.ndarray, labels: np.ndarray, score: str) -> CounterExample | None:
    """The triple that the score gets most wrong (distances by their ratio, products by their difference over lengths)
    among those that the cosine gets clearly right; None where there is none."""
    features, labels = some_of_each(features.astype(np.float64), labels, TRIPLES_EACH)
    function = {"Euclidean distance": euclidean, "inner product": inner_product}[score]
    scores, cosines = function(features, features), cosine(features, features)
    best, found = 0.0, None
    for anchor, label in enumerate(labels):
        same, other = np.flatnonzero(labels == label), np.flatnonzero(labels != label)
        same = same[same != anchor]
        of_same, of_other = scores[anchor, same][:, None], scores[anchor, other][None]
        # The same class within 5 degrees of the anchor's direction, the other at least 20 away: nobody doubts these.
        clear = (cosines[anchor, same] > np.cos(np.radians(5)))[:, None] & (
            cosines[anchor, other] < np.cos(np.radians(20))
        )[None]
        worse = (of_other - of_same) / (np.abs(of_other) + np.abs(of_same) + 1e-12)
        worse = np.where(clear, worse, -np.inf)
        i, j = np.unravel_index(worse.argmax(), worse.shape)
        if worse[i, j] > best:
            best, points = worse[i, j], features[[anchor, same[i], other[j]]]
            found = CounterExample(
                points, (int(label), int(labels[other[j]])), float(of_same[i, 0]), float(of_other[0, j])
            )
    return found


def _figures_of(verification) -> dict[str, float]:
    return {"AUC": verification.auc, "EER": verification.eer, "TAR at FAR 1 %": verification.tar[1e-2]}


def _mean(parts: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}


def _figures(trained: Trained, measured: dict, found: dict[str, CounterExample | None]) -> list[Figure]:
    drawn, axes = style.subplots(1, 2, width=10, height=6.0)
    for axis, (score, one) in zip(axes, found.items(), strict=True):
        toy_figures.plane(axis, trained, score)
        if one is None:
            axis.set_title(f"{score}: no counter-example")
            continue
        anchor, same, other = one.points
        for point, name in ((anchor, "a"), (same, "b"), (other, "c")):
            axis.plot(*zip((0, 0), point, strict=True), color="black", linewidth=1.2, zorder=4)
            axis.scatter(*point, s=60, color="white", edgecolor="black", linewidth=1.5, zorder=5)
            axis.annotate(name, point, textcoords="offset points", xytext=(7, 5), fontsize=13, zorder=6)
        sign = -1 if score == "Euclidean distance" else 1
        symbol = ("|a - b|", "|a - c|") if sign < 0 else ("a · b", "a · c")
        axis.set_title(
            f"{score}: a and b are {one.digits[0]}s, c is a {one.digits[1]}\n"
            f"{symbol[0]} = {sign * one.score_same:.1f}, {symbol[1]} = {sign * one.score_other:.1f}"
        )
    toy_figures.digit_legend(drawn, axes[0])
    bars, axes = style.subplots(1, 2, width=11, height=3.8, sharey=True, width_ratios=(2, 3))
    colours = (style.VERMILION, style.ORANGE, style.BLUE)
    for axis, kind in zip(axes, ("seen", "unseen"), strict=True):
        for i, (score, colour) in enumerate(zip(SCORES, colours, strict=True)):
            sizes = [size for size in SIZES if kind in measured[f"{size}-D"]]
            values = [measured[f"{size}-D"][kind][score]["EER"] for size in sizes]
            places = np.arange(len(sizes)) + 0.27 * (i - 1)
            axis.bar(places, values, 0.25, color=colour, label=score, hatch=("", "//", "..")[i], edgecolor="white")
            for place, value in zip(places, values, strict=True):
                axis.text(place, value, f"{value:.3f}", ha="center", va="bottom", fontsize=8.5)
        axis.set(title=f"digits that were {'' if kind == 'seen' else 'not '}trained on",
                 xticks=range(len(sizes)), xticklabels=[f"{size}-D features" for size in sizes])  # fmt: skip
        axis.grid(axis="x", visible=False)
    axes[0].set_ylabel("equal error rate of pairs")
    axes[0].legend()
    return [
        Figure("counter_examples.png", "Features of softmax. a and b are one digit and lie in one direction; the score "
               "puts a nearer to c, another digit in another direction, for their lengths.", drawn),
        Figure("scores.png", "Pairs of test images; for digits not trained on, the mean of three nets, each "
               "trained on seven digits.", bars),
    ]  # fmt: skip


def _finding(measured: dict, best: dict[tuple[int, str], bool]) -> str:
    parts = []
    for (size, kind), is_best in best.items():
        errors = ", ".join(f"{score} {measured[f'{size}-D'][kind][score]['EER']:.3f}" for score in SCORES)
        where = "on trained digits" if kind == "seen" else "on digits not trained on"
        parts.append(f"{size}-D, {where}: equal error rate by {errors}" + ("." if is_best else "; cosine is not best."))
    shares = measured["2-D"]["triples"]
    parts.append(
        "Of 2-D triples (two of one digit, one of another), the "
        + ", ".join(f"{score} gets {shares[score]['wrong']:.2%} wrong" for score in SCORES)
        + f"; wrong though the cosine is right: Euclidean distance {shares['Euclidean distance']['alone']:.2%}, "
        f"inner product {shares['inner product']['alone']:.2%}; the cosine wrong where both others are right: "
        f"{shares['cosine']['alone']:.2%}."
    )
    none = [score for score, one in measured["counter-examples"].items() if one is None]
    parts.append(
        f"No counter-example of the angle's kind was found for: {', '.join(none)}."
        if none
        else "A counter-example for each of the two, clear by angle, is drawn."
    )
    return " ".join(parts)
