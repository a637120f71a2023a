"""What a check says: a row for each blob, and the report of all of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..difference import difference
from ..errors import shape_text
from ..graph.layer import Value
from ..json_text import to_json
from ..table import Table, html_table, html_text, text_table
from .coarser import Coarser, Own, rms_share
from .likely_preprocessing import Suggestion
from .provenance import FileFacts

Blobs = Mapping[str, np.ndarray]

SCHEMA = 1
"""The version of to_json's form; it grows when a key changes its meaning or goes."""
WRITTEN = ("onnx", "torch")
"""Roles of files that are proven, not read to prove others."""


@dataclass
class Row:
    """One blob. ``errors`` holds (max abs, max rel) of every source against ``baseline``.

    max rel is the largest |a - b| / max(|b|, rms(b)): rounding errors of a sum grow with the numbers
    that were summed, so a blob's root mean square stands in where an element happens to be near zero. Of sources in a
    coarser number format these say how far the whole net has drifted, and so does ``rms``, the root mean square of
    |a - b| in parts of that of b. What decides there is ``of_bound``: the largest error of the blob on the file's own
    inputs, in parts of the bound of its roundings; -1 where there is no bound.
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
    rms: dict[str, float] = field(default_factory=dict)
    of_bound: dict[str, float] = field(default_factory=dict)


@dataclass(repr=False)
class Report:
    """All that a check found.

    rows: a row for each blob, in the order of the layers.
    exported: a row for each output of the ONNX file as it is exported by default (folded), where ONNX was checked, and
        for weights that Caffe reads otherwise from caffeport's .caffemodel.
    caffe: what real Caffe ran, if it was asked.
    weights, random_weights: where the weights came from, in words, and whether fillers made up any of them.
    files: the net's text and weights, and the written files that were checked, with sizes and SHA-256.
    inputs, seed, date, versions: what else the result depends on.
    coarser: {file: its number format} of files that do not compute in float32.
    suggestion: what preprocessing the net likely expects, where photos were given without any.
    """

    rows: list[Row]
    exported: list[Row]
    rtol: float
    atol: float
    caffe: str = ""
    weights: str = ""
    random_weights: bool = False
    files: list[FileFacts] = field(default_factory=list)
    inputs: str = ""
    seed: int = 0
    date: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    coarser: Mapping[str, Coarser] = field(default_factory=dict)
    suggestion: Suggestion | None = None

    @property
    def ok(self) -> bool:
        """Return whether every row is within the tolerance."""
        return self.first_difference is None

    @property
    def verdict(self) -> str:
        """Return the verdict in a word or four; a file in a coarser number format is never called equal."""
        if not self.ok:
            return "Different"
        return "Within its number format" if self.coarser else "Equal"

    @property
    def first_difference(self) -> Row | None:
        """Return the first row that breaches the tolerance, in the order of the layers."""
        return next((row for row in [*self.rows, *self.exported] if not row.ok), None)

    @property
    def summary(self) -> str:
        """Return the verdict in one line: how many blobs agree and how well, or the first layer that differs."""
        bad = self.first_difference
        if bad is not None:
            return (
                f'layer "{bad.layer}" ({bad.type}) is the first that differs: blob "{bad.blob}", '
                f"max abs {bad.max_abs:.3g}, max rel {bad.max_rel:.3g}{f' ({bad.note})' if bad.note else ''}"
            )
        compared = [row for row in self.rows if row.errors]
        written = [
            f"{sum(name in row.errors for row in compared)} in {name}"
            for name in dict.fromkeys(Path(facts.path).name for facts in self.files if facts.role in WRITTEN)
        ]
        within = f" ({', '.join(written)})" if written else ""
        text = f"{len(compared)} of {len(self.rows)} blobs compared{within}"
        exact = [relative for row in compared for name, (_, relative) in row.errors.items() if name not in self.coarser]
        if exact or not self.coarser:
            among = "all" if not self.coarser else "float32's"
            tolerance = f"rtol {self.rtol:g} + atol {self.atol:g}"
            text += f", {among} within {tolerance}; worst max rel {max(exact, default=0.0):.3g}"
        for name, format in self.coarser.items():
            text += f"; {self._coarser_words(name, format)}"
        return f"{text}; with random weights ({self.weights})" if self.random_weights else text

    def _coarser_words(self, name: str, format: Coarser) -> str:
        """The verdict on a file in a coarser number format, which is not that it is equal."""
        drifts = {row.blob: row.rms[name] for row in self.rows if name in row.rms}
        shares = {row.blob: row.of_bound[name] for row in self.rows if row.of_bound.get(name, -1) >= 0}
        worst, last = max(drifts, key=lambda blob: drifts[blob]), list(drifts)[-1]
        about = f" ({format.about})" if format.about else ""
        text = f"{name} is {format.name}{about}, near float32 and not equal to it: each layer on the file's own inputs "
        if shares:
            most = max(shares, key=lambda blob: shares[blob])
            text += f"within the bound of its roundings, at most {shares[most]:.2g} of it ({most})"
        if len(shares) < len(drifts):
            text += f"{', ' if shares else ''}{len(drifts) - len(shares)} without a bound within {format.limit}"
        return (
            f"{text}; through the whole net the rms error of {last} is {100 * drifts[last]:.2g} %, at most "
            f"{100 * drifts[worst]:.2g} % ({worst})"
        )

    def to_json(self, notes: Sequence[str] | None = None) -> str:
        """Return the report as JSON text; with ``notes`` under that name, where some are given."""
        content: dict[str, Any] = {"schema": SCHEMA, "ok": self.ok, "summary": self.summary, "weights": self.weights}
        content |= {"random_weights": self.random_weights, "rtol": self.rtol, "atol": self.atol, "caffe": self.caffe}
        content |= {"files": [asdict(facts) for facts in self.files], "inputs": self.inputs, "seed": self.seed}
        content |= {"date": self.date, "versions": self.versions}
        content |= {"coarser": {name: asdict(format) for name, format in self.coarser.items()}} if self.coarser else {}
        content |= {} if self.suggestion is None else {"preprocessing": self.suggestion.to_content()}
        rows = {"rows": [asdict(row) for row in self.rows], "exported": [asdict(row) for row in self.exported]}
        return to_json(content | rows | ({} if notes is None else {"notes": notes}))

    def table(self) -> Table:
        """Return the report's table, the same wherever it is shown."""
        lines: list[tuple[str, ...]] = [
            (
                "ok" if row.ok and row.errors else "DIFFERS" if not row.ok else "-",
                row.layer,
                row.type,
                row.blob + (f" ({row.note})" if row.note else ""),
                shape_text(row.shape),
                "=".join([row.baseline, *row.errors]),
                f"{row.max_abs:.2e}" if row.errors else "",
                f"{row.max_rel:.2e}" if row.errors else "",
                *(_drift(row) if self.coarser else ()),
            )
            for row in [*self.rows, *self.exported]
        ]
        headings: tuple[str, ...] = ("", "layer", "type", "blob", "shape", "compared", "max abs", "max rel")
        headings += ("rms", "of bound") if self.coarser else ()
        whole = {"", "shape", "max abs", "max rel", "rms", "of bound"}
        return Table(headings, lines, whole, ("compared", "shape", "type", "max abs"))

    def __repr__(self) -> str:
        return f"Report({'ok' if self.ok else 'DIFFERS'}: {self.summary})"

    def __str__(self) -> str:
        about = [*([self.caffe] if self.caffe else []), *map(str, self.files), f"weights: {self.weights}"]
        return "\n".join([text_table(self.table()).rstrip("\n"), *about, self.summary])

    def _repr_html_(self) -> str:
        """The table, as a notebook shows it."""
        about = "".join(f"<p>{html_text(str(words))}</p>" for words in (f"weights: {self.weights}", *self.files))
        return f"<p><b>{self.verdict}</b>: {html_text(self.summary)}</p>{html_table(self.table())}{about}"


def _drift(row: Row) -> tuple[str, str]:
    """What a row says of a coarser file: how far the net has drifted, and the blob's own error."""
    shares = [share for share in row.of_bound.values() if share >= 0]
    own = f"{max(shares):.2g}" if shares else "none" if row.of_bound else ""
    return f"{100 * max(row.rms.values()):.2g} %" if row.rms else "", own


def judge(rows: Sequence[Row], name: str, format: Coarser, owns: Mapping[str, Own]) -> None:
    """Let each row of the file ``name`` say how its blob is by itself, {blob: Own}, and whether that is right."""
    for row in rows:
        if row.blob not in owns or name not in row.rms:
            continue
        own = owns[row.blob]
        row.of_bound[name] = -1.0 if own.share is None else own.share
        if own.unbounded:
            row.note = row.note or f"no bound: {own.unbounded}"
        if not format.holds(own):
            row.ok = False
            wrong = f"{own.rms * 100:.2g} % rms" if own.share is None else f"{own.share:.3g} times its bound"
            row.note = f"{name} on its own inputs: an error of {wrong}"


def empty_row(value: Value, note: str = "") -> Row:
    return Row(value.key, value.layer.name, value.layer.type, value.shape, note=note)


def _differ_there(shape: tuple[int, ...], other: tuple[int, ...], axes: Collection[int]) -> bool:
    """Whether two shapes are alike but along these axes."""
    return len(shape) == len(other) and all(
        one == two or axis in axes for axis, (one, two) in enumerate(zip(shape, other, strict=True))
    )


def compared(
    value: Value,
    held: Mapping[str, np.ndarray],
    rtol: float,
    atol: float,
    looser: Mapping[str, Coarser] | None = None,
    open_axes: Collection[int] = (),
) -> Row:
    """Compare what the sources have of this Value, {source: array}, with what the first of them has.

    ``looser``: {source: its number format} of those that is coarser, which ``judge`` decides on. open_axes: the axes
    whose length the numbers decide (detections), which coarser numbers may decide otherwise: a change of all.
    """
    row = empty_row(value)
    if len(held) < 2:
        row.note = f"{', '.join(held) or 'nobody'} only"
        return row
    row.baseline, *others = held
    expected = np.asarray(held[row.baseline])
    row.shape = expected.shape
    for name in others:
        array = np.asarray(held[name])
        if array.shape != expected.shape:
            row.max_abs, row.max_rel = np.inf, np.inf
            if looser and name in looser and _differ_there(array.shape, expected.shape, open_axes):
                row.rms[name] = 1.0
            else:
                row.ok = False
            row.note = f"{name} has {shape_text(array.shape)}, {row.baseline} {shape_text(expected.shape)}"
            row.errors[name] = (np.inf, np.inf)
            continue
        largest, relative, ok = difference(array, expected, rtol, atol)
        if looser and name in looser:
            row.rms[name] = rms_share(array, expected)
            ok = True
        row.errors[name] = (largest, relative)
        row.ok &= ok
        row.max_abs, row.max_rel = max(row.max_abs, largest), max(row.max_rel, relative)
    return row
