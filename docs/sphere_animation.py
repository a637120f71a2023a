"""Draw docs/sphere.webp: what a normalisation does to the gradient, and to a net's features while it trains.

    python docs/sphere_animation.py

Left, two points under the Euclidean loss: behind a normalisation they approach each other along the sphere, else
straight through it (experiments/gradient.py measures that). Right, the features of test digits while a small net trains
with normalised softmax; a cross is a class's weight. The background is transparent, for light and dark pages.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from caffeport.files import replacing_path
from PIL import Image
from torch import nn

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS.parent / "examples/digits")]  # not installed

import digits  # noqa: E402
from normface.losses import NormalizedSoftmaxLoss  # noqa: E402

from experiments import gradient, style  # noqa: E402

FRAMES, HOLD, MILLISECONDS = 56, 1800, 70
STEPS, RATE, SCALE = 240, 0.01, 16.0
SHOWN = 500
INK = "#808890"
"""Of lines and words: seen on white and on black."""
TILT, TURN = np.radians(22), np.radians(50)
MOST_BYTES = 1_500_000


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    frames = list(drawn(paths(), *training()))
    durations = [MILLISECONDS] * (len(frames) - 1) + [HOLD]
    with replacing_path(DOCS / "sphere.webp") as temporary:
        first, *others = frames
        how = {"quality": 40, "alpha_quality": 60, "method": 4}  # method 6 takes minutes and saves little
        first.save(temporary, "WEBP", save_all=True, append_images=others, duration=durations, loop=0, **how)
        size = temporary.stat().st_size
        if size > MOST_BYTES:
            sys.exit(f"{size:,} bytes, more than {MOST_BYTES:,}")
    print(f"wrote {DOCS / 'sphere.webp'} ({size:,} bytes)")


def paths() -> dict[str, np.ndarray]:
    """Return the ways of both points, (FRAMES, 2, 3), with and without a normalisation."""
    steps = np.linspace(0, 0.4 * gradient.STEPS, FRAMES).astype(int)  # they have met by then
    start = gradient.pair_at(gradient.START)
    along = gradient.descend(start, True, gradient.RATE, gradient.STEPS).directions[steps]
    through = gradient.descend(start, False, gradient.RATE, gradient.STEPS).points[steps]
    return {"normalised": along, "plain": through}


def training() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the unit features of test digits (FRAMES, N, 3), the class weights (FRAMES, 10, 3), the digits (N,)."""
    images, labels = digits.load()
    x, y = torch.tensor(images.reshape(-1, 64) / 8 - 1, dtype=torch.float32), torch.tensor(labels)
    train, test = slice(0, None, 2), slice(1, 2 * SHOWN, 2)
    net = nn.Sequential(nn.Linear(64, 96), nn.PReLU(), nn.Linear(96, 96), nn.PReLU(), nn.Linear(96, 3))
    loss = NormalizedSoftmaxLoss(10, 3, SCALE)
    optimizer = torch.optim.Adam([*net.parameters(), *loss.parameters()], RATE)
    features, weights = [], []
    for _ in range(STEPS + 1):
        with torch.no_grad():
            features.append(nn.functional.normalize(net(x[test])).numpy())
            weights.append(nn.functional.normalize(loss.weight).numpy().copy())
        optimizer.zero_grad()
        loss(net(x[train]), y[train]).backward()
        optimizer.step()
    shown = (np.linspace(0, 1, FRAMES) ** 1.6 * STEPS).astype(int)  # the first steps move most
    return np.stack(features)[shown], np.stack(weights)[shown], labels[test]


def drawn(ways: dict[str, np.ndarray], features: np.ndarray, weights: np.ndarray, labels: np.ndarray) -> Iterator[Any]:
    """Yield the frames, RGBA."""
    figure = style.Figure(figsize=(7.6, 4.0), dpi=90)
    left, right = (figure.add_axes((x, 0.0, 0.5, 0.9)) for x in (0.0, 0.5))
    for frame in range(FRAMES):
        for axes in (left, right):
            axes.clear()
            axes.set(xlim=(-1.18, 1.18), ylim=(-1.12, 1.12), aspect="equal")
            axes.axis("off")
        two_points(left, ways, frame)
        cloud(right, features[frame], weights[frame], labels, TURN * frame / FRAMES)
        yield picture(figure)


def two_points(axes: Any, ways: dict[str, np.ndarray], frame: int) -> None:
    """Draw both ways up to the frame."""
    elevation, azimuth = np.radians(gradient.VIEW)
    sphere(axes, azimuth, elevation)
    for kind, colour, dash, words, place in (
        ("plain", style.ORANGE, (0, (2, 1.5)), "without: straight through it", 0.02),
        ("normalised", style.SKY, "-", "normalised: along the sphere", 0.42),
    ):
        way = seen(ways[kind][: frame + 1].reshape(-1, 3), azimuth, elevation)[:, :2].reshape(-1, 2, 2)
        for point in (0, 1):
            axes.plot(*way[:, point].T, color=colour, linewidth=2.4, linestyle=dash, solid_capstyle="round")
        axes.plot(*way[-1].T, "o", color=colour, markersize=9, markeredgecolor="white")
        axes.text(0, place, words, color=colour, ha="center", fontsize=9, weight="bold")
    axes.set_title("two points that attract each other", color=INK, fontsize=11)


def cloud(axes: Any, features: np.ndarray, weights: np.ndarray, labels: np.ndarray, azimuth: float) -> None:
    """Draw the features on the sphere, those behind it faint."""
    sphere(axes, azimuth, TILT)
    placed = seen(features, azimuth, TILT)
    order = np.argsort(placed[:, 2])
    near = (placed[order, 2] + 1) / 2
    colours = np.array([[*style.matplotlib.colors.to_rgb(style.class_colour(label)), 1] for label in labels[order]])
    black = (colours[:, :3] == 0).all(1)
    colours[black, :3] = 0.55  # seen on a dark page too
    colours[:, 3] = 0.12 + 0.78 * near
    axes.scatter(*placed[order, :2].T, s=6 + 22 * near, c=colours, linewidths=0)
    agents = seen(weights, azimuth, TILT)
    for (x, y, depth), label in zip(agents, range(10), strict=True):
        alpha = 0.25 + 0.75 * (depth > 0)
        axes.plot(x, y, "P", color=INK, markersize=8, markeredgecolor="white", alpha=alpha)
        axes.text(1.13 * x, 1.13 * y, str(label), color=INK, ha="center", va="center", fontsize=10, alpha=alpha)
    axes.set_title("test digits, trained by normalised softmax", color=INK, fontsize=11)


def sphere(axes: Any, azimuth: float, elevation: float) -> None:
    """Draw the outline and the near half of the meridians and parallels."""
    around = np.linspace(0, 2 * np.pi, 181)
    axes.fill(np.cos(around), np.sin(around), color=INK, alpha=0.08, linewidth=0)
    axes.plot(np.cos(around), np.sin(around), color=INK, linewidth=1.2)
    circles = [np.stack([np.cos(around) * np.cos(b), np.sin(around) * np.cos(b), 0 * around + np.sin(b)], 1)
               for b in np.radians(range(-60, 61, 30))]  # fmt: skip
    circles += [np.stack([np.cos(around) * np.cos(a), np.cos(around) * np.sin(a), np.sin(around)], 1)
                for a in np.radians(range(0, 180, 30))]  # fmt: skip
    for circle in circles:
        placed = seen(circle, azimuth, elevation)
        placed[placed[:, 2] < 0] = np.nan
        axes.plot(*placed[:, :2].T, color=INK, linewidth=0.6, alpha=0.45)


def seen(points: np.ndarray, azimuth: float, elevation: float) -> np.ndarray:
    """Return points (N, 3) as (right, up, towards the eye), without perspective."""
    to = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    return points @ np.stack([right, np.cross(to, right), to], 1)


def picture(figure: Any) -> Image.Image:
    """Return the figure as an image with a transparent background."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.patch.set_alpha(0)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba()).copy(), "RGBA")


if __name__ == "__main__":
    main()
