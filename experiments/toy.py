"""``toy``: LeNet++ with features that can be drawn, by softmax, and with either side of its scores normalised."""

from __future__ import annotations

import numpy as np

from . import style, toy_figures, toy_nets
from .mnist import Digits
from .result import Figure, Options, Result
from .sphere_page import Cloud, sphere_page
from .toy_geometry import Spread, spread, verified
from .toy_nets import Plan, Recipe
from .toy_training import Trained, train_all

CLAIM = (
    "Softmax makes a well-classified feature longer, since that lowers its loss, so features spread along rays. "
    "Normalising the class weights does not change that; normalising the features leaves only their direction."
)
VARIANTS = {
    "softmax": "softmax",
    "class weights normalised": "unit-weights",
    "features normalised": "unit-features",
    "both normalised": "normalized",
}
FREE = ("softmax", "class weights normalised")
"""Those whose loss sees the features' lengths."""


def recipes(seed: int, size: int) -> list[Recipe]:
    return [Recipe(head, size, seed=seed) for head in VARIANTS.values()]


def run(options: Options) -> Result:
    return measure(options, toy_nets.plan_of(options.full))


def measure(options: Options, plan: Plan, digits: tuple[Digits, Digits] | None = None) -> Result:
    wanted = [recipe for size in (2, 3) for recipe in recipes(options.seed, size)]
    trained = train_all(wanted, options, plan, digits)
    by_size = {size: dict(zip(VARIANTS, trained[4 * i : 4 * i + 4], strict=True)) for i, size in enumerate((2, 3))}
    measured = {
        f"{size}-D": {name: measured_of(one, name) for name, one in variants.items()}
        for size, variants in by_size.items()
    } | {"plan": vars(plan)}
    ratios = {(size, name): measured[f"{size}-D"][name]["radial / sideways"] for size in (2, 3) for name in VARIANTS}
    helped = [one["longer lowers the loss"] for size in (2, 3) for one in (measured[f"{size}-D"]["softmax"],)]
    holds = all(ratios[size, name] > 1 for size in (2, 3) for name in FREE) and min(helped) == 1
    return Result(CLAIM, _finding(measured), measured, holds, figures(by_size))


def measured_of(trained: Trained, name: str) -> dict[str, float | None]:
    features, labels = trained.seen
    spreading: Spread = spread(*trained.right)
    return {
        "accuracy": trained.accuracy,
        "loss": float(trained.losses[-50:].mean()),
        "radial": spreading.radial,
        "sideways": spreading.sideways,
        "radial / sideways": spreading.ratio,
        "longer lowers the loss": longer_lowers_loss(trained) if name in FREE else None,
        "cosine EER": verified(features, labels).eer,
    }


def longer_lowers_loss(trained: Trained, factor: float = 1.25) -> float:
    """Share of the correctly classified test features whose softmax loss does not rise as they are made longer.

    NormFace, proposition 1: all of them, where there is no bias.
    """
    features, labels = trained.seen
    columns = np.searchsorted(trained.digits, labels)
    right = trained.scores(features).argmax(1) == columns
    features, columns = features[right].astype(np.float64), columns[right]
    before, after = (_losses(trained.scores(times * features), columns) for times in (1, factor))
    return float(np.mean(after <= before + 1e-12))  # rounding, where the loss is all but 0


def _losses(scores: np.ndarray, columns: np.ndarray) -> np.ndarray:
    least = scores.max(1, keepdims=True)
    return np.log(np.exp(scores - least).sum(1)) + least[:, 0] - scores[np.arange(len(scores)), columns]


def figures(by_size: dict[int, dict[str, Trained]]) -> list[Figure]:
    titles = {
        size: {name: f"{name}\naccuracy {one.accuracy:.3f}" for name, one in variants.items()}
        for size, variants in by_size.items()
    }
    flat, axes = style.subplots(1, 4, width=14, height=4.4)
    for axis, (name, one) in zip(axes, by_size[2].items(), strict=True):
        toy_figures.plane(axis, one, titles[2][name])
    toy_figures.digit_legend(flat, axes[0])
    unit, axes = style.subplots(1, 4, width=14, height=4.5)
    for axis, (name, one) in zip(axes, by_size[2].items(), strict=True):
        toy_figures.circle(axis, one, titles[2][name])
    solid, axes = style.subplots(1, 4, width=14, height=4.7, subplot_kw={"projection": "3d"})
    for axis, (name, one) in zip(axes, by_size[3].items(), strict=True):
        toy_figures.sphere(axis, one, titles[3][name], unit_length=name not in FREE)
    toy_figures.digit_legend(solid, axes[0])
    clouds = {name: Cloud(one.features, one.labels, one.weights) for name, one in by_size[3].items()}
    page = sphere_page("Digits as 3-D features", clouds, [str(digit) for digit in range(10)])
    return [
        Figure("features_2d.png", "2-D features of test images, as the nets compute them; a grey line is a class "
               "weight's direction. Lengths that the loss does not see (two on the right) mean nothing.", flat),
        Figure("directions_2d.png", "The same features at unit length. Outside the circle: how many lie at an angle.",
               unit),
        Figure("features_3d.png", "3-D features: as they are where the loss sees their length, else on the sphere.",
               solid),
        Figure("sphere.html", "The 3-D features to turn by hand.", page),
    ]  # fmt: skip


def _finding(measured: dict) -> str:
    parts = []
    for size in ("2-D", "3-D"):
        of = measured[size]
        ratios = ", ".join(f"{name} {of[name]['radial / sideways']:.1f}" for name in VARIANTS)
        errors = ", ".join(f"{of[name]['cosine EER']:.3f}" for name in VARIANTS)
        accuracies = ", ".join(f"{of[name]['accuracy']:.3f}" for name in VARIANTS)
        parts.append(
            f"{size}: a class's spread in length over its width across its ray: {ratios}. In the same order, "
            f"accuracy {accuracies}; equal error rate of test pairs by cosine {errors}."
        )
    longer = [measured[size][name]["longer lowers the loss"] for size in ("2-D", "3-D") for name in FREE]
    share = "all" if min(longer) == 1 else f"{min(longer):.1%}"
    parts.append(f"Made a quarter longer, {share} of the correctly classified features have no higher loss.")
    return " ".join(parts)
