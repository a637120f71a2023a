"""How the figures look: large enough to read, and told apart without colour vision.

Colours are Okabe and Ito's (2008); more than eight classes take a marker as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK, YELLOW = "#CC79A7", "#56B4E9", "#000000", "#F0E442"
GREY = "#777777"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK, YELLOW)
"""In the order in which curves take them; yellow last, since it is hardly seen on white."""
MARKERS = ("o", "s", "^", "v", "D", "P", "X", "*", "<", ">")
DASHES = ("-", "--", ":", "-.")

SETTINGS: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=list(COLOURS)),
    "lines.linewidth": 1.8,
    "figure.dpi": 110,
    "savefig.dpi": 110,
    "figure.facecolor": "white",
}


@contextmanager
def applied() -> Iterator[None]:
    """The settings, for the figures that are made within; the caller's own are restored."""
    with matplotlib.rc_context(SETTINGS):
        yield


def subplots(rows: int = 1, columns: int = 1, *, width: float, height: float, **more: Any) -> tuple[Figure, Any]:
    """A Figure without pyplot, whose windows a library leaves alone, and its axes, as ``Figure.subplots`` has them."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **more)


def class_colour(number: int) -> str:
    """Of a class by its number, as often as needed; the marker differs where the colour repeats."""
    return COLOURS[number % len(COLOURS)]


def class_marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]
