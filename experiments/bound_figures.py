"""The figures of ``bound``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from normface.bounds import softmax_lower_bound

from . import style
from .result import Figure

FLOOR = 1e-30
"""Of the axis of the losses."""


def figures(formula: Any, best: Any, in_spaces: Any, curves: Any, pulls: Any) -> list[Figure]:
    return [
        Figure(
            "bound.png", "The lowest softmax loss on s times cosines: by the classes, and by the scale, with the best "
            "that L-BFGS found (dots).", bounds(formula, best),
        ),
        Figure(
            "training.png", "Training on 10,575 classes: without a scale the loss stalls on its bound (dotted); with "
            "one it goes on. (At a scale of 64 it starts at 40.) A learned scale's bound falls as the scale rises.",
            training(curves),
        ),
        Figure(
            "easy_hard.png", "10,000 classes: the gradient on the label's score of a sample that is as good as can "
            "be, and of one at chance.", easy_hard(pulls),
        ),
        Figure(
            "dimensions.png", "The best loss of 100 classes without a scale, by the dimension of the features: the "
            "bound takes a simplex, 99 dimensions, but few are nearly enough.", dimensions(in_spaces),
        ),
    ]  # fmt: skip


def bounds(formula: Mapping[str, Mapping[str, float]], best: Mapping[int, Mapping[float, float]]) -> Any:
    figure, (by_classes, by_scale) = style.subplots(1, 2, width=10, height=4.1)
    counts = np.unique(np.geomspace(10, 1e6, 120).astype(int))
    shown = [float(scale) for scale in next(iter(formula.values()))]
    for i, scale in enumerate(shown):
        values = np.array([softmax_lower_bound(int(n), scale) for n in counts])
        look = {"color": style.COLOURS[i], "linestyle": style.DASHES[i % 4]}
        by_classes.plot(counts, values, label=f"s = {scale:g}", **look)
    by_classes.plot(counts, np.log(counts), color=style.GREY, linewidth=1, label="log n (chance)")
    by_classes.plot(10575, softmax_lower_bound(10575, 1.0), "o", color=style.BLACK)
    by_classes.annotate(
        "n = 10,575, s = 1: 8.27",
        (10575, 8.27),
        (3e4, 6.4),
        arrowprops={"arrowstyle": "-", "shrinkB": 4},
        fontsize=9,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )
    by_classes.set(xscale="log", xlabel="classes n", ylabel="lowest loss", title="by the number of classes")
    by_classes.legend(ncols=2, loc="upper left")

    scales = np.linspace(0.5, 64, 400)
    for i, n in enumerate(map(int, formula)):
        look = {"color": style.COLOURS[i], "linestyle": style.DASHES[i % 4]}
        by_scale.plot(scales, softmax_lower_bound(n, scales), label=f"n = {n:,}", **look)
    for i, (n, values) in enumerate(best.items()):
        seen = {scale: loss for scale, loss in values.items() if loss > FLOOR}
        marker = style.class_marker(i)
        by_scale.plot(list(seen), list(seen.values()), marker, color=style.BLACK, markersize=5, label=f"found, n = {n}")
    by_scale.set(yscale="log", ylim=(FLOOR, 1e13), xlabel="scale s", ylabel="lowest loss", title="by the scale")
    by_scale.set_yticks([10.0**power for power in range(-30, 1, 5)])
    by_scale.legend(ncols=2, loc="upper right")
    return figure


def training(curves: Mapping[str, Mapping[str, Any]]) -> Any:
    figure, (losses, scales) = style.subplots(1, 2, width=10, height=4, width_ratios=(1.6, 1))
    for i, (name, curve) in enumerate(curves.items()):
        epochs = np.arange(len(curve["loss"]))
        bound = [softmax_lower_bound(curve["classes"], scale) for scale in curve["scale"]]
        colour = style.COLOURS[i]
        losses.plot(epochs, curve["loss"], color=colour, marker=style.class_marker(i), markersize=5, label=name)
        losses.plot(epochs, bound, color=colour, linestyle=":", linewidth=1.4)
        scales.plot(epochs, curve["scale"], color=colour, marker=style.class_marker(i), markersize=5, label=name)
    losses.plot([], [], color=style.GREY, linestyle=":", linewidth=1.4, label="the bound of the scale it has")
    losses.set(xlabel="epoch", ylabel="mean loss over all classes", title="10,575 classes, one free feature each")
    losses.set_ylim(-0.4, 14)
    losses.legend(loc="upper right")
    scales.set(xlabel="epoch", ylabel="scale", title="the scale", yscale="log")
    return figure


def easy_hard(pulls: Mapping[str, Mapping[str, float]]) -> Any:
    figure, axes = style.subplots(width=5.6, height=3.8)
    scales = [float(scale) for scale in pulls]
    for (kind, words), colour, marker in zip(
        (("hard", "hard: as near to all 10,000"), ("easy", "easy: at its own, opposite to the 9,999 others")),
        (style.VERMILION, style.BLUE), style.MARKERS, strict=False,
    ):  # fmt: skip
        axes.plot(scales, [pull[kind] for pull in pulls.values()], color=colour, marker=marker, label=words)
    axes.set(xscale="log", yscale="log", xlabel="scale s", ylabel="gradient on the label's score, 1 − p")
    axes.set_xticks(scales, [f"{scale:g}" for scale in scales])
    axes.minorticks_off()
    axes.set_ylim(1e-55, 1e5)
    axes.legend(loc="lower left")
    return figure


def dimensions(in_spaces: Mapping[int, float]) -> Any:
    figure, axes = style.subplots(width=5.6, height=3.6)
    axes.plot(
        list(in_spaces), list(in_spaces.values()), color=style.BLUE, marker="o", label="the best that L-BFGS found"
    )
    axes.axhline(softmax_lower_bound(100, 1.0), color=style.BLACK, linestyle=":", label="the bound")
    axes.axhline(np.log(100), color=style.GREY, linewidth=1, label="log n (chance)")
    axes.set(xscale="log", xlabel="dimensions of the features", ylabel="loss", title="100 classes, no scale")
    axes.set_xticks(list(in_spaces), list(map(str, in_spaces)))
    axes.minorticks_off()
    axes.legend()
    return figure
