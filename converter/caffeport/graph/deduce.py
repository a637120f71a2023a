"""The shape of an input that no text tells: what a layer that reads it demands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import NetError
from ..operators.arithmetic import Eltwise
from ..operators.base import Operator, Role, Shape
from ..operators.joining import Slice
from .layer import Layer, top_shapes


def demanded_shapes(layer: Layer, bottoms: Sequence[Shape | None]) -> list[Shape] | None:
    """Return the shapes of a layer's bottoms, with one for each None that the layer takes; None for no answer.

    Losses and metrics compare targets with predictions number by number or label by label, so that at most axes of 1
    are open. Eltwise takes bottoms of one shape; a recurrent layer's second bottom has the first's two leading axes.
    """
    known = [shape for shape in bottoms if shape]
    if not known:
        return None
    for candidate in _candidates(layer, known[0], bottoms):
        shapes = [candidate if shape is None else shape for shape in bottoms]
        try:
            top_shapes(layer, shapes)
        except NetError:
            continue
        return shapes
    return None


def _candidates(layer: Layer, first: Shape, bottoms: Sequence[Shape | None]) -> Iterator[Shape]:
    operator = layer.op
    demands = [operator.demanded_bottom(index, first) for index, shape in enumerate(bottoms) if shape is None]
    yield from (shape for shape in demands if shape is not None)
    if operator.role in (Role.LOSS, Role.METRIC):
        try:
            by_class = operator.classes([first if shape is None else shape for shape in bottoms]) is not None
        except NetError:
            by_class = False
        labels: Shape = first[:1]
        yield from (labels, first) if by_class else (first, labels)
        if len(first) > 2:
            yield (first[0], 1, *first[2:])
    elif bottoms[0] and None in bottoms[1:2]:
        least, most = operator.bottom_axes[min(1, len(operator.bottom_axes) - 1)]
        if least == most and 0 < least < len(first):
            yield first[:least]


def keeps_shape(operator: Operator) -> bool:
    """Return whether every bottom and top of the layer has one shape, whatever that is."""
    if isinstance(operator, Eltwise):
        return True
    return operator.context.num_bottoms == 1 and type(operator).top_shapes is Operator.top_shapes


def passes_back(layer: Layer, tops: Sequence[Shape | None]) -> Shape | None:
    """Return the shape of a layer's bottoms, from those of its tops as far as they are known; None for no answer."""
    if isinstance(layer.op, Slice):
        return layer.op.joined(tops)
    return next((shape for shape in tops if shape is not None), None)
