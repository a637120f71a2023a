"""Every blob's shape, layer by layer; and those labels whose shape only the losses that read them tell.

A label that nobody has told, or that a fork's Data layer makes wider than BVLC's single number, gets the shape that its
loss demands. Between the two there may be a Slice, which takes several labels apart: it waits until each is known.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import cast

from ..errors import CaffeportWarning, NetError, shape_text
from ..operators.base import Role
from ..operators.data import DataLayer
from ..operators.shape import Slice
from .deduce import demanded_shapes
from .inputs import refuse
from .net import Layer, Value, check_shape, top_shapes


def infer_shapes(layers: list[Layer], pending: set[Value], given: Collection[str]) -> None:
    """Set the shapes of all Values but the data layers' tops, and of those ``pending`` among them.

    given: the inputs whose shape the caller has set, which stay as they are. Raises NetError where a shape does not
    fit, and where the size of an input stays open.
    """
    soft = {value for layer in layers for value in _soft_labels(layer, given)} - pending
    waiting: list[Layer] = []
    for layer in layers:
        if layer.op.role is Role.DATA:
            continue
        if isinstance(layer.op, Slice) and layer.inputs[0] in soft and not layer.inputs[0].shape[1:]:
            pending.add(layer.inputs[0])  # one number an image, which no Slice can cut
        if pending and any(value in pending for value in layer.inputs):
            if isinstance(layer.op, Slice):
                waiting.append(layer)
                pending.update(layer.outputs)
                continue
            _settle(layer, {value for value in layer.inputs if value in pending})
            pending.difference_update(layer.inputs)
        _set_tops(layer, soft)
    for layer in reversed(waiting):
        _join(layer, pending)
    for value in (value for layer in layers for value in layer.outputs if value in pending):
        refuse(_root(value))


def _set_tops(layer: Layer, soft: set[Value]) -> None:
    try:
        shapes = top_shapes(layer, [value.shape for value in layer.inputs])
    except NetError:
        labels = {value for value in layer.inputs if value in soft and value.consumers[0] is layer}
        if not labels or not _settle(layer, labels, must=False):
            raise
        shapes = top_shapes(layer, [value.shape for value in layer.inputs])
    for value, shape in zip(layer.outputs, shapes, strict=True):
        value.shape = shape


def _settle(layer: Layer, labels: set[Value], must: bool = True) -> bool:
    """Give these inputs of the layer the shapes that it demands; returns whether it demands any.

    must: raise NetError, which asks for the size of an input, where it does not.
    """
    demanded = demanded_shapes(layer, [None if value in labels else value.shape for value in layer.inputs])
    if demanded is None:
        if must:
            refuse(_root(next(value for value in layer.inputs if value in labels)))
        return False
    for value, shape in zip(layer.inputs, demanded, strict=True):
        if value in labels:
            value.shape = shape
            if value.layer.op.role is Role.DATA:
                _tell(value, layer)
    return True


def _join(layer: Layer, pending: set[Value]) -> None:
    """The shape of what a Slice takes apart, from what is demanded of its tops."""
    operator, (bottom,) = cast(Slice, layer.op), layer.inputs
    shapes = [None if value in pending else value.shape for value in layer.outputs]
    whole = operator.joined(shapes)
    if whole is None:
        refuse(_root(bottom))
    check_shape(whole, f'{layer.title}: bottom "{bottom.name}"')
    bottom.shape = whole
    pending.difference_update([bottom, *layer.outputs])
    if bottom.layer.op.role is Role.DATA:
        _tell(bottom, layer)
    for value, shape in zip(layer.outputs, top_shapes(layer, [whole]), strict=True):
        value.shape = shape
    for consumer in {reader: None for value in layer.outputs for reader in value.consumers}:
        top_shapes(consumer, [value.shape for value in consumer.inputs])  # which takes the axis that a Slice needs


def _soft_labels(layer: Layer, given: Collection[str]) -> list[Value]:
    """The labels of a data layer whose forks may give several numbers an image."""
    if layer.op.role is not Role.DATA or not cast(DataLayer, layer.op).soft_labels:
        return []
    return [value for value in layer.outputs[1:] if value.name not in given]


def _root(value: Value) -> Value:
    """The input that a slice comes from."""
    while value.layer.op.role is not Role.DATA:
        value = value.layer.inputs[0]
    return value


def _tell(value: Value, reader: Layer) -> None:
    warnings.warn(
        f'{value.layer.title} does not say the shape of "{value.name}": took {shape_text(value.shape)} '
        f"from {reader.title}, which reads it; input_shapes sets another",
        CaffeportWarning,
        stacklevel=6,
    )
