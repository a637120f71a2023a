"""The contents of the page, from a net and a report, as plain data for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.prototxt import Message
from ..graph.layer import Layer, Param
from ..graph.net import Net
from ..operators.base import Role

if TYPE_CHECKING:
    from ..parity.likely_preprocessing import Suggestion
    from ..parity.report import Report, Row

BINS = 40
SAMPLE = 1 << 20
"""A histogram is taken of at most so many of a blob's numbers, evenly spaced: its shape needs no more."""

KINDS = {
    "weighted": ("Convolution", "Deconvolution", "InnerProduct", "Embed", "LSTM", "RNN"),
    "activation": ("ReLU", "PReLU", "TanH", "Sigmoid", "ELU", "BNLL", "Clip", "Swish", "Softmax", "Dropout"),
    "normalization": ("BatchNorm", "Scale", "Bias", "LRN", "MVN", "BN", "Normalize"),
    "pooling": ("Pooling", "SPP", "ROI"),
}
"""{kind of layer: parts of the type names that tell it}; colours of the drawing, no more."""


def net_content(net: Net) -> dict[str, Any]:
    """Return the net's content: its layers with parameters, shapes, cost and weights' statistics, in the order of the
    text."""
    index = {layer: number for number, layer in enumerate(net.layers)}
    seen: set[int] = set()
    layers = [_layer(layer, seen) for layer in net.layers]
    edges = [
        [index[value.layer], number, _shape(value.shape)]
        for number, layer in enumerate(net.layers)
        for value in layer.inputs
    ]
    return {
        "name": net.name or "(no name)",
        "phase": net.phase.name,
        "inputs": [[name, _shape(net.blob_shapes[name])] for name in net.inputs],
        "outputs": [[name, _shape(net.blob_shapes[name])] for name in net.outputs],
        "preprocessing": {name: str(value) for name, value in net.preprocessing.items()},
        "weights": net.weights_source,
        "layers": layers,
        "edges": edges,
        "parameters": sum(layer["parameters"] for layer in layers),
        "multiply_adds": sum(layer["multiply_adds"] for layer in layers),
    }


def report_content(report: Report, layers: Sequence[Layer]) -> dict[str, Any]:
    """Return the report's content: its verdict and a row for each blob, with the number of the layer that makes it."""
    number = {layer.name: position for position, layer in reversed(list(enumerate(layers)))}
    rows = [*report.rows, *report.exported]
    return {
        "ok": report.ok,
        "verdict": report.verdict,
        "summary": report.summary,
        "rtol": report.rtol,
        "atol": report.atol,
        "caffe": report.caffe,
        "random_weights": report.random_weights,
        "rows": [_row(row, number.get(row.layer)) for row in rows],
        "suggestion": _suggestion(report.suggestion) if report.suggestion else None,
    }


def provenance(report: Report) -> dict[str, str]:
    """Return {title: words} that tell what the report was made of."""
    files = {f"{facts.role} file": str(facts) for facts in report.files}
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    random = f"{report.inputs}, seed {report.seed}" if report.inputs == "random" else report.inputs
    return {**files, "inputs": random, "date": report.date, "versions": versions}


def _suggestion(suggestion: Suggestion) -> dict[str, Any]:
    table = suggestion.table()
    return {
        "verdict": suggestion.verdict,
        "reasons": suggestion.reasons,
        "headings": table.headings,
        "lines": table.lines,
    }


def _row(row: Row, layer: int | None) -> dict[str, Any]:
    errors = {name: [_finite(largest), _finite(relative)] for name, (largest, relative) in row.errors.items()}
    return {
        "blob": row.blob,
        "layer": layer,
        "type": row.type,
        "shape": _shape(row.shape),
        "baseline": row.baseline,
        "errors": errors,
        "ok": row.ok,
        "note": row.note,
    }


def _layer(layer: Layer, seen: set[int]) -> dict[str, Any]:
    own = [param for param in layer.params if id(param) not in seen]
    seen.update(id(param) for param in own)
    bottoms, tops = [value.shape for value in layer.inputs], [value.shape for value in layer.outputs]
    return {
        "name": layer.name,
        "type": layer.type,
        "kind": kind(layer),
        "bottoms": layer.bottoms,
        "tops": [[value.name, _shape(value.shape)] for value in layer.outputs],
        "text": _parameters(layer.text),
        "line": layer.text.line if layer.text else 0,
        "blobs": [_blob(param, param not in own) for param in layer.params],
        "parameters": sum(math.prod(param.shape) for param in own),
        "multiply_adds": layer.op.multiply_adds(bottoms, tops) if bottoms else 0,
    }


def kind(layer: Layer) -> str:
    """Return the kind of layer that its colour stands for."""
    if layer.op.role is Role.DATA:
        return "data"
    if layer.op.role in (Role.LOSS, Role.METRIC):
        return "loss"
    return next((name for name, parts in KINDS.items() if any(part in layer.type for part in parts)), "other")


def _parameters(text: Message | None) -> str:
    """Return the layer's own fields as they stand in the text, without those that the page shows elsewhere."""
    if text is None:
        return ""
    shown = {"name", "type", "bottom", "top", "blobs"}
    return str(Message([entry for entry in text.fields if entry.name not in shown])).strip()


def _blob(param: Param, shared: bool) -> dict[str, Any]:
    numbers = np.asarray(param.data).reshape(-1)
    content: dict[str, Any] = {"name": param.spec.name, "shape": _shape(param.shape), "shared": shared}
    numbers = numbers[:: max(1, numbers.size // SAMPLE)].astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    content["finite"] = finite.size == numbers.size
    if not finite.size:
        return content
    low, high = float(finite.min()), float(finite.max())
    content |= {"min": low, "max": high, "mean": float(finite.mean()), "std": float(finite.std())}
    if high > low:
        content["histogram"] = np.histogram(finite, BINS, (low, high))[0].tolist()
    return content


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
