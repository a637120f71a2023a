"""What a check says: a row for each blob, and the report of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from ..errors import shape_text
from ..graph.net import Value
from ..json_text import to_json

Blobs = Mapping[str, np.ndarray]


@dataclass
class Row:
    """One blob. ``errors`` holds (max abs, max rel) of every source against ``baseline``.

    max rel is the largest |a - b| / max(|b|, rms(b)): rounding errors of a sum grow with the numbers
    that were summed, so a blob's root mean square stands in where an element happens to be near zero.
    """

    blob: str
    layer: str
    type: str
    shape: tuple[int, ...]
    baseline: str = ""
    errors: dict[str, tuple[float, float]] = field(default_factory=dict)
    max_abs: float = 0.0
    max_rel: float = 0.0
    ok: bool = True
    note: str = ""


@dataclass
class Report:
    """``rows``: a row for each blob, in the order of the layers; ``exported``: for each output of the
    ONNX file as it is exported by default (folded), where ONNX was checked, and for weights that Caffe reads
    otherwise from caffeport's .caffemodel; ``caffe``: what real Caffe ran, if it was asked; ``weights``: where the
    weights came from, in words, and ``random_weights`` whether fillers made up any of them."""

    rows: list[Row]
    exported: list[Row]
    rtol: float
    atol: float
    caffe: str = ""
    weights: str = ""
    random_weights: bool = False

    @property
    def ok(self) -> bool:
        return self.first_difference is None

    @property
    def first_difference(self) -> Row | None:
        """The first row that breaches the tolerance, in the order of the layers."""
        return next((row for row in [*self.rows, *self.exported] if not row.ok), None)

    @property
    def summary(self) -> str:
        bad = self.first_difference
        if bad is not None:
            return (
                f'layer "{bad.layer}" ({bad.type}) is the first that differs: blob "{bad.blob}", '
                f"max abs {bad.max_abs:.3g}, max rel {bad.max_rel:.3g}{f' ({bad.note})' if bad.note else ''}"
            )
        compared = [row for row in self.rows if row.errors]
        worst = max((row.max_rel for row in compared), default=0.0)
        tolerance = f"rtol {self.rtol:g} + atol {self.atol:g}"
        text = f"{len(compared)} of {len(self.rows)} blobs compared, all within {tolerance}; worst max rel {worst:.3g}"
        return f"{text}; with random weights ({self.weights})" if self.random_weights else text

    def to_json(self, notes: Sequence[str] | None = None) -> str:
        """The report as JSON text; with ``notes`` under that name, where some are given."""
        content = {"ok": self.ok, "summary": self.summary, "weights": self.weights, "rtol": self.rtol}
        content |= {"atol": self.atol, "caffe": self.caffe}
        rows = {"rows": [asdict(row) for row in self.rows], "exported": [asdict(row) for row in self.exported]}
        return to_json(content | rows | ({} if notes is None else {"notes": notes}))

    def __str__(self) -> str:
        lines = [
            f"{'ok' if row.ok else 'DIFFERS':8}{row.layer:24} {row.type:20} {row.blob:24} {shape_text(row.shape):18} "
            f"{row.max_abs:9.2e} {row.max_rel:9.2e}"
            for row in [*self.rows, *self.exported]
        ]
        about = [self.caffe] if self.caffe else []
        return "\n".join([*lines, *about, f"weights: {self.weights}", self.summary])


def empty_row(value: Value, note: str = "") -> Row:
    return Row(value.key, value.layer.name, value.layer.type, value.shape, note=note)


def compared(value: Value, sources: Mapping[str, Blobs], rtol: float, atol: float) -> Row:
    row = empty_row(value)
    held = {name: blobs[value.key] for name, blobs in sources.items() if value.key in blobs}
    if len(held) < 2:
        row.note = f"{', '.join(held) or 'nobody'} only"
        return row
    row.baseline, *others = held
    expected = np.asarray(held[row.baseline], np.float64)
    row.shape = expected.shape
    for name in others:
        found = np.asarray(held[name], np.float64)
        if found.shape != expected.shape:
            row.ok, row.max_abs, row.max_rel = False, np.inf, np.inf
            row.note = f"{name} has {shape_text(found.shape)}, {row.baseline} {shape_text(expected.shape)}"
            row.errors[name] = (np.inf, np.inf)
            continue
        largest, relative, ok = difference(found, expected, rtol, atol)
        row.errors[name] = (largest, relative)
        row.ok &= ok
        row.max_abs, row.max_rel = max(row.max_abs, largest), max(row.max_rel, relative)
    return row


def difference(found: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> tuple[float, float, bool]:
    """(max abs, max rel, within tolerance?) of two arrays of one shape; see Row and check."""
    if not expected.size:
        return 0.0, 0.0, True
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    finite = np.isfinite(expected)
    # float32's largest numbers stand for "no pixel" in pooling; their square would drown the rest.
    usual = finite & (np.abs(expected) < 1e30)
    rms = float(np.sqrt(np.mean(expected[usual] ** 2))) if usual.any() else 0.0
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        apart = np.where(same, 0.0, np.abs(found - expected))
        apart = np.where(np.isnan(apart), np.inf, apart)
        scale = np.where(finite, np.maximum(np.abs(expected), rms), 1.0)
        relative = np.where(apart == 0, 0.0, apart / scale)
    return float(apart.max()), float(relative.max()), bool((apart <= atol + rtol * scale).all())
