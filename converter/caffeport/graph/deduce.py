"""The shape of a label that no text tells: what a loss or metric that reads it demands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import NetError
from ..operators.base import Role, Shape
from .net import Layer, top_shapes


def demanded_shapes(layer: Layer, bottoms: Sequence[Shape | None]) -> list[Shape] | None:
    """The shapes of a layer's bottoms, with one for each None such that the layer takes them; None for no answer.

    Only losses and metrics answer: they compare targets with predictions number by number or label by label, so that
    at most axes of 1 are open.
    """
    known = [shape for shape in bottoms if shape]
    if layer.op.role not in (Role.LOSS, Role.METRIC) or not known:
        return None
    for candidate in _candidates(layer, known[0], bottoms):
        shapes = [candidate if shape is None else shape for shape in bottoms]
        try:
            top_shapes(layer, shapes)
        except NetError:
            continue
        return shapes
    return None


def _candidates(layer: Layer, predictions: Shape, bottoms: Sequence[Shape | None]) -> Iterator[Shape]:
    try:
        by_class = layer.op.classes([predictions if shape is None else shape for shape in bottoms]) is not None
    except NetError:
        by_class = False
    labels: Shape = predictions[:1]
    yield from (labels, predictions) if by_class else (predictions, labels)
    if len(predictions) > 2:
        yield (predictions[0], 1, *predictions[2:])
