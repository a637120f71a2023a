"""Images of the toy's features: the plane, the circle, the sphere; one dot an image, a colour and marker a digit."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import style
from .toy_geometry import some_of_each, unit
from .toy_training import Trained

DOTS = 100
"""Of each digit that are drawn; more hide one another."""
BINS = 180
EDGE = (0, 0, 0, 0.4)
"""Round a dot, for yellow on white."""


def plane(axes: Any, trained: Trained, title: str) -> None:
    """2-D features as they are, and the class weights' directions."""
    features, labels = some_of_each(trained.features, trained.labels, DOTS)
    reach = 1.15 * float(np.percentile(np.abs(features), 99.5)) or 1.0
    dots(axes, features, labels)
    for weight in unit(trained.weights):
        axes.plot(*zip((0, 0), weight * reach, strict=True), color=style.GREY, linewidth=0.8, zorder=1)
    axes.set(title=title, xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")


def circle(axes: Any, trained: Trained, title: str, others: tuple[np.ndarray, np.ndarray] | None = None) -> None:
    """2-D features of unit length, with how many there are at each angle as a curve outside; class weights as spokes.

    others: (features, labels) in place of the test images'.
    """
    features, labels = trained.seen if others is None else others
    angles = np.arctan2(features[:, 1], features[:, 0])
    edges = np.linspace(-np.pi, np.pi, BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    for weight in unit(trained.weights):
        axes.plot(*zip((0, 0), weight, strict=True), color=style.GREY, linewidth=0.8, zorder=1)
    for digit in np.unique(labels):
        own = angles[labels == digit]
        counts, _ = np.histogram(own, edges)
        radius = 1 + 0.9 * np.sqrt(counts / max(len(own), 1))
        axes.fill(radius * np.cos(middles), radius * np.sin(middles), color=style.class_colour(digit), alpha=0.35,
                  linewidth=0, zorder=2)  # fmt: skip
        middle = np.arctan2(np.sin(own).mean(), np.cos(own).mean())
        axes.text(1.85 * np.cos(middle), 1.85 * np.sin(middle), str(digit), ha="center", va="center", fontsize=9)
    axes.fill(*np.array([np.cos(edges), np.sin(edges)]), color="white", zorder=3)
    axes.plot(np.cos(edges), np.sin(edges), color=style.GREY, linewidth=0.8, zorder=3)
    for weight in unit(trained.weights):
        axes.plot(*zip((0, 0), weight, strict=True), color=style.GREY, linewidth=0.8, zorder=4)
    dots(axes, unit(some_of_each(features, labels, DOTS)[0]), some_of_each(features, labels, DOTS)[1], zorder=5)
    axes.set(title=title, xlim=(-2.05, 2.05), ylim=(-2.05, 2.05), aspect="equal", xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def sphere(axes: Any, trained: Trained, title: str, unit_length: bool) -> None:
    """3-D features, on a 3-D axes."""
    features, labels = some_of_each(trained.features, trained.labels, DOTS)
    shown = unit(features) if unit_length else features / np.percentile(np.linalg.norm(features, axis=1), 99)
    for digit in np.unique(labels):
        own = shown[labels == digit]
        axes.scatter(*own.T, s=7, color=style.class_colour(digit), marker=style.class_marker(digit),
                     edgecolors=EDGE, linewidths=0.2, label=str(digit))  # fmt: skip
    axes.set(title=title, xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    axes.set_xticklabels([])
    axes.set_yticklabels([])
    axes.set_zticklabels([])
    axes.set_box_aspect((1, 1, 1))


def dots(axes: Any, features: np.ndarray, labels: np.ndarray, zorder: float = 2) -> None:
    for digit in np.unique(labels):
        own = features[labels == digit]
        axes.scatter(own[:, 0], own[:, 1], s=9, color=style.class_colour(digit), marker=style.class_marker(digit),
                     edgecolors=EDGE, linewidths=0.2, label=str(digit), zorder=zorder)  # fmt: skip


def digit_legend(figure: Any, axes: Any) -> None:
    """One for the whole figure, at its foot."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), markerscale=2, handletextpad=0.1)
