"""How two points move under the Euclidean loss: along the sphere if they are normalised before it, else through it.

L = |x/|x| - y/|y||^2 = 2 - 2 cos t, t the angle between x and y. dL/dx = -2/|x| (y/|y| - cos t x/|x|): at a right
angle to x, in the plane of x and y, of length 2 sin t / |x|. On unit vectors, gradient flow lets tan(t/2) fall as
exp(-4 time).
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from normface.heads import UNIT_EPS, unit
from normface.progress import progress
from torch import Tensor

from . import style
from .result import Figure, Options, Result

CLAIM = (
    "Behind a normalisation, the gradient of the Euclidean loss is tangent to the sphere: two points approach each "
    "other along the geodesic between them, where without it they go straight through the sphere's inside."
)
RATE, STEPS = 0.02, 200
START = 150.0
"""Degrees between the two points of the figure."""
FRAMES = 45
VIEW = (18, -20)
"""Elevation and azimuth of the eye, degrees."""
SIZES = (3, 16, 128)
LENGTHS = (0.5, 1.0, 2.0, 4.0)
TANGENT = 1e-5
"""The radial part of a gradient that counts as none, of the whole; the root's epsilon leaves about 1e-6 of it."""


@dataclass(frozen=True)
class Path:
    """Of both points over the steps. points: (steps + 1, 2, D); gradients: (steps, 2, D), with respect to them."""

    points: np.ndarray
    gradients: np.ndarray
    normalised: bool

    @property
    def lengths(self) -> np.ndarray:
        """(steps + 1, 2)"""
        return np.linalg.norm(self.points, axis=-1)

    @property
    def directions(self) -> np.ndarray:
        """(steps + 1, 2, D), unit."""
        return self.points / self.lengths[..., None]

    @property
    def angles(self) -> np.ndarray:
        """Between the two, (steps + 1,), radians; by its tangent, which is exact for small ones too."""
        one, other = self.directions[:, 0], self.directions[:, 1]
        return 2 * np.arctan2(np.linalg.norm(one - other, axis=-1), np.linalg.norm(one + other, axis=-1))


def run(options: Options) -> Result:
    pairs = 200 if options.full else 40
    shown = {kind: descend(pair_at(START), kind == "normalised", RATE, STEPS) for kind in ("normalised", "plain")}
    many = geometry_of_many(pairs, options.seed)
    slow = slope_by_length(START / 2)
    flow = flow_error(shown["normalised"])
    inside = float(shown["plain"].lengths.min())
    measured = {
        "pairs": many["pairs"],
        "largest_radial_part": many["radial"],
        "largest_distance_from_the_geodesic_plane": many["out_of_plane"],
        "path_over_angle": many["path_over_angle"],
        "steps_in_which_a_length_fell": many["fell"],
        "largest_error_of_length_growth": many["growth_error"],
        "flow_error_degrees": flow,
        "gradient_by_length": slow,
        "without_normalisation": {"largest_radial_part": radial_part(shown["plain"]), "shortest_length": inside},
    }
    holds = (
        many["radial"] < TANGENT
        and many["out_of_plane"] < TANGENT
        and abs(many["path_over_angle"][1] - 1) < 1e-3
        and inside < 0.9
    )
    finding = (
        f"Over {many['pairs']} random pairs in {', '.join(map(str, SIZES))} dimensions and {STEPS} steps each, at most "
        f"{many['radial']:.0e} of a gradient is radial, and no point leaves the plane of the geodesic by more than "
        f"{many['out_of_plane']:.0e}; the two paths together are {many['path_over_angle'][0]:.4f} to "
        f"{many['path_over_angle'][1]:.4f} times the angle they close, so that they are the shortest. The angle is "
        f"within {flow:.1f} degrees of gradient flow's 2 atan(tan(t0/2) exp(-4 time)). Since a step is tangent, none "
        f"ever shortened a point ({many['fell']} of {many['steps']}): its squared length grows by the squared step. "
        f"A feature of four times the length gets {slow['2.0'] / slow['0.5']:.2f} times the gradient. Without "
        f"normalisation {100 * measured['without_normalisation']['largest_radial_part']:.0f} % of the gradient is "
        f"radial at the most, and the points, {START:.0f} degrees apart, shrink to a length of {inside:.2f}."
    )
    return Result(CLAIM, finding, measured, holds, figures(shown, slow))


def pair_at(degrees: float) -> np.ndarray:
    """Two unit points (2, 3) that far apart, on a great circle that the figures show as an arch."""
    elevation, azimuth = np.radians(VIEW)
    across = np.array([-math.sin(azimuth), math.cos(azimuth), 0])
    lifted = elevation + math.radians(50)  # its middle above the direction from which it is seen
    middle = np.array([*(math.cos(lifted) * np.array([math.cos(azimuth), math.sin(azimuth)])), math.sin(lifted)])
    half = math.radians(degrees / 2)
    return np.stack([math.cos(half) * middle + side * math.sin(half) * across for side in (-1, 1)])


def euclidean_loss(points: Tensor, normalised: bool) -> Tensor:
    """|x - y|^2 of points (2, D), the rows normalised before or not."""
    placed = unit(points, UNIT_EPS) if normalised else points
    return (placed[0] - placed[1]).square().sum()


def descend(points: np.ndarray, normalised: bool, rate: float, steps: int) -> Path:
    """Plain gradient descent of both points, (2, D)."""
    at = torch.from_numpy(np.array(points, np.float64))
    visited, gradients = [at], []
    for _ in range(steps):
        leaf = at.clone().requires_grad_()
        (slope,) = torch.autograd.grad(euclidean_loss(leaf, normalised), leaf)
        at = at - rate * slope
        visited.append(at)
        gradients.append(slope)
    return Path(torch.stack(visited).numpy(), torch.stack(gradients).numpy(), normalised)


def radial_part(path: Path) -> float:
    """The largest |<x, g>| / (|x| |g|) on the path; a gradient that has shrunk to rounding is not asked."""
    sizes = np.linalg.norm(path.gradients, axis=-1)
    radial = np.abs((path.gradients * path.directions[:-1]).sum(-1))
    asked = sizes > 1e-8
    return float((radial[asked] / sizes[asked]).max())


def out_of_plane(path: Path) -> float:
    """How far a direction gets from the plane of the first two."""
    basis = np.linalg.qr(path.points[0].T)[0]  # (D, 2)
    away = path.directions - path.directions @ basis @ basis.T
    return float(np.linalg.norm(away, axis=-1).max())


def path_over_angle(path: Path) -> float:
    """The way of both points on the sphere over the angle that it closes; 1 for the shortest."""
    steps = np.linalg.norm(np.diff(path.directions, axis=0), axis=-1)
    way = 2 * np.arcsin(np.minimum(steps / 2, 1)).sum()
    return float(way / (path.angles[0] - path.angles[-1]))


def growth_error(path: Path, rate: float) -> float:
    """|x|^2 after a step against |x|^2 + |step|^2 before it."""
    squared = path.lengths**2
    predicted = squared[:-1] + rate**2 * (path.gradients**2).sum(-1)
    return float(np.abs(squared[1:] / predicted - 1).max())


def geometry_of_many(pairs: int, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """Random pairs of random lengths, 0.5 to 2; the worst of each measure."""
    random = np.random.default_rng(seed)
    paths = []
    with progress("pairs", pairs * len(SIZES)) as bar:
        for size in SIZES:
            for _ in range(pairs):
                points = random.normal(size=(2, size))
                points *= random.uniform(0.5, 2, (2, 1)) / np.linalg.norm(points, axis=1, keepdims=True)
                paths.append(descend(points, True, RATE, steps))
                bar.advance()
    ratios = [path_over_angle(path) for path in paths]
    return {
        "pairs": len(paths),
        "steps": len(paths) * steps,
        "radial": max(map(radial_part, paths)),
        "out_of_plane": max(map(out_of_plane, paths)),
        "path_over_angle": [min(ratios), max(ratios)],
        "fell": sum(int((np.diff(path.lengths, axis=0) < -1e-12).any(1).sum()) for path in paths),
        "growth_error": max(growth_error(path, RATE) for path in paths),
    }


def slope_by_length(degrees: float) -> dict[str, float]:
    """Length of the gradient on a point of each of LENGTHS, the other point a unit one."""
    slopes = {}
    for length in LENGTHS:
        points = pair_at(degrees)
        points[0] *= length
        slopes[str(length)] = float(np.linalg.norm(descend(points, True, RATE, 1).gradients[0, 0]))
    return slopes


def flow_angles(start: float, times: np.ndarray) -> np.ndarray:
    """Gradient flow of unit points: dt/dtime = -4 sin t, so tan(t/2) = tan(t0/2) exp(-4 time). Radians."""
    return 2 * np.arctan(math.tan(start / 2) * np.exp(-4 * times))


def flow_error(path: Path) -> float:
    """The largest difference of the angle from gradient flow's, in degrees."""
    flow = flow_angles(path.angles[0], RATE * np.arange(len(path.angles)))
    return float(np.degrees(np.abs(path.angles - flow)).max())


def figures(shown: dict[str, Path], slow: dict[str, float]) -> list[Figure]:
    return [
        Figure(
            "geodesic.gif", "Two points under the Euclidean loss, animated: along the geodesic behind a normalisation, "
            "straight through the inside without one.", animation(shown),
        ),
        Figure(
            "geodesic.png", f"The paths of {STEPS} steps from {START:.0f} degrees (dots: every tenth step), the angle "
            "against gradient flow, and the lengths.", still(shown),
        ),
        Figure(
            "length.png", "The gradient on a feature against its length: 2 sin t / |x|, so that short features are "
            "pushed most.", by_length(slow),
        ),
    ]  # fmt: skip


TITLES = {"normalised": "normalised: along the sphere", "plain": "not normalised: through it"}


def still(shown: dict[str, Path]) -> Any:
    figure = style.Figure(figsize=(9.5, 6.4), layout="constrained")
    for place, (kind, path) in enumerate(shown.items()):
        axes = figure.add_subplot(2, 2, 1 + place, projection="3d")
        draw_sphere(axes)
        draw_paths(axes, path, STEPS)
        axes.set_title(TITLES[kind])
    axes = figure.add_subplot(2, 2, 3)
    path = shown["normalised"]
    steps = np.arange(STEPS + 1)
    flow = flow_angles(path.angles[0], RATE * steps)
    axes.plot(steps, np.degrees(path.angles), color=style.BLUE, label="normalised")
    axes.plot(steps, np.degrees(flow), color=style.BLACK, linestyle=":", label="gradient flow, closed form")
    axes.set(xlabel="step", ylabel="angle between the points, degrees", title="the angle")
    axes.legend()
    axes = figure.add_subplot(2, 2, 4)
    for (kind, path), colour, dash in zip(shown.items(), (style.BLUE, style.VERMILION), style.DASHES, strict=False):
        axes.plot(steps, path.lengths[:, 0], color=colour, linestyle=dash, label=TITLES[kind].split(":")[0])
    axes.set(xlabel="step", ylabel="|x|", title="the length")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def by_length(slow: dict[str, float]) -> Any:
    figure, axes = style.subplots(width=4.8, height=3.4)
    lengths = np.linspace(0.4, 4.2, 100)
    expected = 2 * math.sin(math.radians(START / 2)) / lengths
    axes.plot(lengths, expected, color=style.BLACK, linestyle=":", label="2 sin t / |x|")
    axes.plot([float(length) for length in slow], list(slow.values()), "o", color=style.BLUE, label="measured")
    axes.set(xlabel="|x|", ylabel="length of the gradient", title=f"t = {START / 2:.0f} degrees")
    axes.legend()
    return figure


def animation(shown: dict[str, Path]) -> bytes:
    """A GIF that loops; its last frame stays a second."""
    from PIL import Image

    figure = style.Figure(figsize=(7.2, 3.9), dpi=80, layout="constrained")
    cells = [figure.add_subplot(1, 2, 1 + place, projection="3d") for place in range(len(shown))]
    until = int(0.4 * STEPS)  # they have met by then
    frames = []
    with progress("frames", FRAMES) as bar:
        for step in np.linspace(0, until, FRAMES).astype(int):
            for axes, (kind, path) in zip(cells, shown.items(), strict=True):
                axes.clear()
                draw_sphere(axes)
                draw_paths(axes, path, step)
                axes.set_title(f"{TITLES[kind]}\n{np.degrees(path.angles[step]):.0f} degrees apart")
            stream = io.BytesIO()
            figure.savefig(stream, format="png", dpi=80)
            frames.append(Image.open(stream).convert("RGB").quantize(64, dither=Image.Dither.NONE))
            bar.advance()
    stream = io.BytesIO()
    durations = [60] * (FRAMES - 1) + [1000]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)
    return stream.getvalue()


def draw_sphere(axes: Any) -> None:
    along, up = np.meshgrid(np.linspace(0, 2 * np.pi, 25), np.linspace(0, np.pi, 13))
    ball = (np.cos(along) * np.sin(up), np.sin(along) * np.sin(up), np.cos(up))
    axes.plot_wireframe(*ball, color=style.GREY, alpha=0.18, linewidth=0.5)
    axes.set_box_aspect((1, 1, 1), zoom=1.35)
    axes.set_axis_off()
    axes.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    axes.view_init(*VIEW)


def draw_paths(axes: Any, path: Path, step: int) -> None:
    """Both points where they are at a step, and where they came from; a normalised one as a direction."""
    places = path.directions if path.normalised else path.points
    for point, (colour, marker) in enumerate(((style.BLUE, "o"), (style.VERMILION, "s"))):
        way = places[: step + 1, point]
        axes.plot(*way.T, color=colour, linewidth=2)
        axes.plot(*way[::10].T, ".", color=colour, markersize=5)
        axes.plot(*way[-1:].T, marker, color=colour, markersize=9, markeredgecolor="white")
    axes.plot([0], [0], [0], "+", color=style.BLACK, markersize=7)
