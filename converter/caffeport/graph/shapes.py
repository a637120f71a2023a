"""Every blob's shape, layer by layer; and those inputs whose shape only the layers that read them tell.

A label that nobody has told, or that a fork's Data layer makes wider than BVLC's single number, gets the shape that its
loss demands. Layers that keep a shape and Slices, which take several labels apart, may stand between the two: they wait
until what they make is known.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import NoReturn, cast

from ..errors import CaffeportWarning, NetError, shape_text
from ..operators.base import Role
from ..operators.data import DataLayer
from ..operators.joining import Slice
from .deduce import demanded_shapes, keeps_shape, passes_back
from .inputs import refuse
from .layer import Layer, Value, check_shape, top_shapes


def infer_shapes(layers: list[Layer], unknown: Mapping[Value, Sequence[str]], user_inputs: Collection[str]) -> None:
    """Set the shapes of all Values but the data layers' tops, and of those ``unknown`` among them.

    unknown: these inputs, and which guesses of their sizes were ruled out.
    given: the inputs whose shape the caller has set, which stay as they are. Raises NetError where a shape does not
    fit, and where the size of an input stays open.
    """
    pending = set(unknown)
    soft = {value for layer in layers for value in _soft_labels(layer, user_inputs)} - pending

    def ask(value: Value) -> NoReturn:
        refuse(value, unknown.get(value, ()))

    waiting: list[Layer] = []
    for layer in layers:
        if layer.op.role is Role.DATA:
            _ask_maker(layer, pending)
            continue
        if isinstance(layer.op, Slice) and layer.inputs[0] in soft and not layer.inputs[0].shape[1:]:
            pending.add(layer.inputs[0])  # one number an image, which no Slice can cut
        still_open = pending.intersection(layer.inputs)
        if still_open and not _settle(layer, still_open):
            if not isinstance(layer.op, Slice) and not keeps_shape(layer.op):
                ask(_root(layer.inputs, pending))
            waiting.append(layer)
            pending.update(layer.outputs)
            continue
        pending -= still_open
        _set_tops(layer, soft)
    for layer in reversed(waiting):
        _pass_back(layer, pending)
    for value in (value for layer in layers for value in layer.outputs if value in pending):
        ask(_root([value], pending))
    for layer in waiting:  # a label may have got an axis that a Slice needs
        _set_tops(layer, set())
        for reader in {reader: None for value in layer.outputs for reader in value.consumers if reader not in waiting}:
            top_shapes(reader, [value.shape for value in reader.inputs])


def _ask_maker(layer: Layer, pending: set[Value]) -> None:
    """Give an input the shape with which the layer of another phase would make it, if that layer takes its bottoms.

    A data layer has none; its files are not at hand.
    """
    maker, (value, *_) = layer.maker, layer.outputs
    if maker is None or maker.op.role is Role.DATA or value not in pending or not pending.isdisjoint(maker.inputs):
        return
    try:
        shapes = top_shapes(maker, [bottom.shape for bottom in maker.inputs])
    except NetError:
        return
    value.shape = dict(zip(maker.tops, shapes, strict=True))[value.name]
    pending.remove(value)


def _set_tops(layer: Layer, soft: set[Value]) -> None:
    try:
        shapes = top_shapes(layer, [value.shape for value in layer.inputs])
    except NetError:
        labels = {value for value in layer.inputs if value in soft and value.consumers[0] is layer}
        if not labels or not _settle(layer, labels):
            raise
        shapes = top_shapes(layer, [value.shape for value in layer.inputs])
    for value, shape in zip(layer.outputs, shapes, strict=True):
        value.shape = shape


def _settle(layer: Layer, values: set[Value]) -> bool:
    """Give these inputs of the layer the shapes that it demands; returns whether it demands any."""
    demanded = demanded_shapes(layer, [None if value in values else value.shape for value in layer.inputs])
    if demanded is None:
        return False
    for value, shape in zip(layer.inputs, demanded, strict=True):
        if value in values:
            value.shape = shape
            if value.layer.op.role is Role.DATA:
                _tell(value, layer)
    return True


def _pass_back(layer: Layer, pending: set[Value]) -> None:
    """Give what the layer reads the shape that follows from what is demanded of what it makes, if any is."""
    shape = passes_back(layer, [None if value in pending else value.shape for value in layer.outputs])
    if shape is None:
        return
    check_shape(shape, f'{layer.title}: bottom "{layer.inputs[0].name}"')
    for value in layer.inputs:
        if value in pending:
            value.shape = shape
            if value.layer.op.role is Role.DATA:
                _tell(value, layer)
    pending.difference_update(layer.inputs, layer.outputs)


def _soft_labels(layer: Layer, user_inputs: Collection[str]) -> list[Value]:
    """Return the labels of a data layer whose forks may give several numbers an image."""
    if layer.op.role is not Role.DATA or not cast(DataLayer, layer.op).soft_labels:
        return []
    return [value for value in layer.outputs[1:] if value.name not in user_inputs]


def _root(values: Sequence[Value], pending: Collection[Value]) -> Value:
    """Return the input that the first of these values that is still open comes from."""
    value = next(value for value in values if value in pending)
    while value.layer.op.role is not Role.DATA:
        value = next(bottom for bottom in value.layer.inputs if bottom in pending)
    return value


def _tell(value: Value, reader: Layer) -> None:
    warnings.warn(
        f'{value.layer.title} does not say the shape of "{value.name}": took {shape_text(value.shape)} '
        f"from {reader.title}, which reads it; input_shapes sets another",
        CaffeportWarning,
        stacklevel=6,
    )
