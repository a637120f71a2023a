"""The figures of ``agents``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import style
from .result import Figure

LOOKS = {True: (style.BLUE, style.SKY, style.GREEN), False: (style.VERMILION, style.ORANGE, style.PURPLE)}
"""Three samplings with agents, three without."""


def figures(measured: Mapping[str, Any], timings: Mapping[str, Any]) -> list[Figure]:
    return [
        Figure(
            "convergence.png", "Verification by the images that went through the network, and by seconds: solid with "
            "class agents, dashed without; the dotted line is the mark.", convergence(measured, timings),
        ),
        Figure(
            "sampling.png", "Where each sampling ends (points: seeds, bar: mean); blue circles with class agents, red "
            "squares without.", sampling(measured),
        ),
    ]  # fmt: skip


def looks(names: list[str]) -> dict[str, dict[str, Any]]:
    """A colour and a dash for each curve of a family."""
    found = {True: 0, False: 0}
    chosen = {}
    for name in names:
        agents = name.startswith("C-")
        i = found[agents]
        found[agents] += 1
        chosen[name] = {
            "color": LOOKS[agents][i % 3],
            "linestyle": "-" if agents else "--",
            "marker": style.class_marker(i + 3 * (not agents)),
            "markersize": 4,
        }
    return chosen


def convergence(measured: Mapping[str, Any], timings: Mapping[str, Any]) -> Any:
    figure, cells = style.subplots(
        2 * len(measured), 2, width=11.5, height=6 * len(measured), squeeze=False, sharey="row"
    )
    for block, (name, of_set) in enumerate(measured.items()):
        for row, (family, found) in enumerate(of_set["families"].items()):
            left, right = cells[2 * block + row]
            for method, look in looks(methods(of_set, family)).items():
                curve = of_set["curves"][method]
                mean, steps = 100 * np.mean(curve["of_seeds"], 0), np.array(curve["steps"])
                left.plot(steps, mean, **look)
                right.plot(steps * timings[name]["ms_a_step"][method] / 1000, mean, label=method, **look)
            for axes in (left, right):
                axes.axhline(100 * found["mark"], color=style.BLACK, linestyle=":", linewidth=1)
            left.set(xlabel="batches of 64 images", ylabel="true accepts, %", title=name)
            right.set(xlabel="seconds of one core", title=f"{family}: the same, by time")
            right.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
    return figure


def sampling(measured: Mapping[str, Any]) -> Any:
    figure, cells = style.subplots(1, len(measured), width=11, height=4.4, squeeze=False, sharey=True)
    for axes, (name, of_set) in zip(cells[0], measured.items(), strict=True):
        order = [method for family in of_set["families"] for method in methods(of_set, family)]
        for place, method in enumerate(order):
            rates = [100 * rates[-1] for rates in of_set["curves"][method]["of_seeds"]]
            agents = method.startswith("C-")
            colour = style.BLUE if agents else style.VERMILION
            axes.plot(rates, [place] * len(rates), "o" if agents else "s", color=colour, alpha=0.6, markersize=5)
            axes.plot([np.mean(rates)] * 2, [place - 0.35, place + 0.35], color=colour, linewidth=2.5)
        axes.set_yticks(range(len(order)), order)
        axes.set(xlabel="true accepts at FAR 1 %, %", title=name)
    cells[0][0].invert_yaxis()
    return figure


def methods(of_set: Mapping[str, Any], family: str) -> list[str]:
    """Those with agents first."""
    return [method for method in of_set["curves"] if method.partition(", ")[0].endswith(family)]
