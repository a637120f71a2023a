"""The run as one image: loss, scale, and verification of people never seen, over the steps."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caffeport.files import replacing_path

from .result import CHOSEN

FILE = "curves.png"
VERIFICATION = "verification of held-out people"
LOSS = "training loss"
SETS = "sets of pairs"
PANELS = {LOSS: "loss", "scale": "scale", VERIFICATION: "tar"}
"""Title -> the column without which the panel is left out."""


def draw(rows: Sequence[Mapping[str, float]], folder: Path, *, title: str, far: float, best_step: int | None) -> bool:
    """Write curves.png; False where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [name for name, needs in PANELS.items() if _points(rows, needs)[0]]
    of_sets = [name for name in (rows[0] if rows else ()) if name.endswith((".accuracy", ".vr"))]
    if of_sets:
        panels.append(SETS)
    if not panels:
        return True
    figure = Figure(figsize=(4.2 * len(panels), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    for axes, name in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        if name == VERIFICATION:
            _draw_verification(axes, rows, far, best_step)
        elif name == LOSS:
            _draw_loss(axes, rows)
        elif name == SETS:
            _draw_sets(axes, rows, of_sets, best_step)
        else:
            axes.plot(*_points(rows, PANELS[name]), color="tab:orange")
        axes.set_title(name)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    with replacing_path(folder / FILE) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return True


def _draw_loss(axes: Any, rows: Sequence[Mapping[str, float]]) -> None:
    axes.plot(*_points(rows, "loss"), color="tab:blue", label="mean of the steps since the last point")
    steps, values = _points(rows, "training_loss")
    axes.plot(steps, values, "o", ms=3, color="tab:red", label="of this step's model, on the same images")
    axes.set_ylim(bottom=min(0.0, *_points(rows, "loss")[1], *values))
    axes.legend(fontsize=8)


def _draw_sets(axes: Any, rows: Sequence[Mapping[str, float]], names: list[str], best_step: int | None) -> None:
    for name in names:
        steps, values = _points(rows, name)
        axes.plot(steps, [100 * value for value in values], marker="o" if len(steps) < 40 else None, ms=3, label=name)
    if best_step is not None:
        axes.axvline(best_step, color="black", lw=0.8, ls=":")
    axes.legend(fontsize=8)
    axes.set_ylabel("%")


def _draw_verification(axes: Any, rows: Sequence[Mapping[str, float]], far: float, best_step: int | None) -> None:
    for label, name, color in (
        (f"true accepts at FAR {100 * far:g} %", "tar", "tab:green"),
        ("accuracy", "accuracy", "tab:gray"),
    ):
        steps, values = _points(rows, name)
        marker = "o" if len(steps) < 40 else None
        axes.plot(steps, [100 * value for value in values], marker=marker, ms=3, color=color, label=label)
    if best_step is not None:
        axes.axvline(best_step, color="black", lw=0.8, ls=":", label=f"best, {CHOSEN}")
    axes.legend(fontsize=8)
    axes.set_ylabel("%")


def _points(rows: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    points = [(row["step"], row[name]) for row in rows if name in row]
    return [step for step, _ in points], [value for _, value in points]
