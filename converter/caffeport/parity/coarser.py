"""What an ONNX file computes in that is coarser than float32, and how its numbers are judged then."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph.file_facts import CALIBRATION_KEY, KEPT_KEY, PRECISION_KEY

_HALF = 10
"""ONNX's number of the element type float16."""
_MOST_NAMES = 5


@dataclass(frozen=True)
class Coarser:
    """A number format that rounds more than float32 does.

    name: "float16" or "int8". rms: the largest root mean square of the errors of a blob, in parts of its own, where an
    operator on the way has no bound (its result may jump). It is not derived: a wrong layer is off by all of it.
    about: what the file says of itself: layers that stay in float32, inputs it was calibrated on.
    """

    name: str
    rms: float
    about: str = ""

    @property
    def calibrated(self) -> bool:
        """Whether it holds for inputs like those it was calibrated on alone, and not for random numbers."""
        return self.name == "int8"

    @property
    def limit(self) -> str:
        """The tolerance of blobs without a bound, in words."""
        return f"{100 * self.rms:g} % rms"

    def holds(self, own: Own) -> bool:
        """Return whether a blob is as the format's roundings leave it."""
        return bool(own.rms <= self.rms if own.share is None else own.share <= 1)


@dataclass(frozen=True)
class Own:
    """How far a blob is from what float32 makes of the file's own numbers before it.

    share: the largest error in parts of its bound; None where an operator has none, which ``unbounded`` names.
    rms: the root mean square of the errors, in parts of the blob's own.
    """

    share: float | None
    rms: float
    unbounded: str = ""


HALF = Coarser("float16", 1e-2)
EIGHT_BITS = Coarser("int8", 0.25)


def coarser_of(model: Any) -> Coarser | None:
    """Return what the file is by its metadata, else by its graph; None for float32."""
    said = {entry.key: entry.value for entry in model.metadata_props}
    eight = any(node.op_type in ("QuantizeLinear", "QLinearConv", "ConvInteger") for node in model.graph.node)
    half = any(entry.data_type == _HALF for entry in model.graph.initializer)
    known = {one.name: one for one in (HALF, EIGHT_BITS)}.get(said.get(PRECISION_KEY, ""))
    by_graph = EIGHT_BITS if eight else HALF if half else None
    if known is None or by_graph is None:  # what the graph does counts, whatever the file says of itself
        known = by_graph
    if known is None:
        return None
    return Coarser(known.name, known.rms, _about(said))


def _about(said: dict[str, str]) -> str:
    try:
        calibration, kept = json.loads(said.get(CALIBRATION_KEY, "{}")), json.loads(said.get(KEPT_KEY, "[]"))
        parts = [f"calibrated on {int(calibration['inputs'])} inputs"] if calibration else []
        names = [str(name) for name in kept]
    except (ValueError, TypeError, KeyError):
        return "its notes on itself are damaged"
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    parts += [f"{', '.join(names[:_MOST_NAMES])}{more} in float32"] if names else []
    return "; ".join(parts)


def rms_share(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return the root mean square of ``actual - expected`` in parts of that of ``expected``; both of one shape.

    Where float32's numbers are beyond 1e30, which stand for "no pixel", or not finite, nothing is asked; anything not
    finite elsewhere is infinitely wrong.
    """
    usual = np.abs(expected) < 1e30
    if not usual.any():
        return 0.0
    a, b = np.asarray(actual[usual], np.float64), np.asarray(expected[usual], np.float64)
    if not np.isfinite(a).all():
        return float("inf")
    apart, own = float(np.mean((a - b) ** 2)), float(np.mean(b**2))
    return 0.0 if apart == 0 else float("inf") if own == 0 else (apart / own) ** 0.5
