"""Layers that work in place where Caffe's own would refuse to, or would not compute what they stand for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from ..errors import CaffeportWarning, shape_text
from ..operators.base import InPlace, Phase
from .layer import Layer, Value

_VIEWS = {"Flatten": False, "Reshape": False, "Split": False, "Concat": True, "Slice": True}
"""Their tops are the memory of their bottom in Caffe; True: those with one bottom and one top alone."""
_SIGN_TURNED = {"ReLU": "negative_slope", "ELU": "alpha"}
_SIGN_KEPT = {"ReLU", "Dropout"}
"""Where what they give is not above 0 as what they read is, the gradient that they pass on is 0."""


def tell_in_place(layers: Sequence[Layer], phase: Phase) -> None:
    """Warn of each of them; here every top is a blob of its own, so that the net means what it says.

    The shapes of all blobs have to be known. A gradient matters to the train phase alone.
    """
    for layer in layers:
        fault = _fault(layer, phase)
        if fault:
            warnings.warn(
                f'{layer.title}: works in place on "{layer.inputs[0].name}", {fault}; computed here as into a blob of '
                "its own",
                CaffeportWarning,
                stacklevel=5,
            )
    for layer, reader, name in _through_views(layers, phase):
        warnings.warn(
            f'{layer.title}: works in place on "{layer.inputs[0].name}", whose memory in Caffe is that of "{name}": '
            f"{reader.title} reads there what it has overwritten; computed here as into a blob of its own",
            CaffeportWarning,
            stacklevel=5,
        )
    if phase is Phase.TRAIN:
        for layer in layers:
            later = _overwriter(layer)
            if later is not None:
                warnings.warn(
                    f'{layer.title}: works in place on "{layer.inputs[0].name}", over which {later.title} writes: '
                    "Caffe's backward pass reads that in place of its top, and its gradient is another; computed here "
                    "as into a blob of its own",
                    CaffeportWarning,
                    stacklevel=5,
                )


def _through_views(layers: Sequence[Layer], phase: Phase) -> list[tuple[Layer, Layer, str]]:
    """Return (layer in place, a later layer that reads what it has overwritten, the blob by which it does)."""
    sharing: dict[Value, list[Value]] = {}  # the Values of one memory, for those that share it
    faults = []
    for place, layer in enumerate(layers):
        if _is_view(layer):
            group = sharing.setdefault(layer.inputs[0], [layer.inputs[0]])
            group += layer.outputs
            sharing |= dict.fromkeys(layer.outputs, group)
            continue
        for x, y in zip(layer.inputs, layer.outputs, strict=False):
            if x.name != y.name or x not in sharing or len(x.consumers) > 1:  # of what others read Caffe makes a copy
                continue
            stale = {value for value in sharing[x] if value is not x}
            sharing[x].append(y)
            sharing[y] = sharing[x]
            if layer.type == "Dropout" and phase is Phase.TEST:
                continue  # which changes nothing
            later = ((reader, value) for reader in layers[place + 1 :] for value in reader.inputs if value in stale)
            reader, value = next(later, (None, None))
            if reader is not None and value is not None:
                faults.append((layer, reader, value.name))
    return faults


def _is_view(layer: Layer) -> bool:
    if layer.type == "Permute":  # into the order that there was
        rank = len(layer.inputs[0].shape)
        operator: Any = layer.op
        return bool(operator.order(rank) == list(range(rank)))
    alone = len(layer.inputs) == 1 == len(layer.outputs)
    return layer.type in _VIEWS and bool(layer.inputs) and (alone or not _VIEWS[layer.type])


def _overwriter(layer: Layer) -> Layer | None:
    """Return the first layer that works in place behind a ReLU in place, and changes where it is above 0."""
    if layer.type != "ReLU" or layer.inputs[0].name != layer.outputs[0].name:
        return None
    value = layer.outputs[0]
    while (following := _in_place_reader(value)) is not None:
        later, value = following
        if later.type not in _SIGN_KEPT:
            return later
    return None


def _in_place_reader(value: Value) -> tuple[Layer, Value] | None:
    """Return the layer that works in place on a Value, of which there can be only one, and what it makes of it."""
    for reader in value.consumers:
        for bottom, top in zip(reader.inputs, reader.outputs, strict=False):
            if bottom is value and bottom.name == top.name:
                return reader, top
    return None


def _fault(layer: Layer, phase: Phase) -> str:
    """Return what is wrong with it in Caffe; an empty string for nothing."""
    kind = layer.op.in_place
    for x, y in zip(layer.inputs, layer.outputs, strict=False):
        if x.name != y.name:
            continue
        if x.shape != y.shape and kind is not InPlace.REFUSED:
            return f"where Caffe would make {shape_text(y.shape)} of the {shape_text(x.shape)} that the layer reads"
        if kind is InPlace.OTHER_GRADIENT and phase is not Phase.TRAIN:
            return ""
        parameters: Any = layer.op.p
        slope = _SIGN_TURNED.get(layer.type)
        if slope is not None and phase is Phase.TRAIN and getattr(parameters, slope) < 0:
            return (
                f"whose signs a negative {slope} turns: Caffe's backward pass reads those, and its gradient is another"
            )
        return "" if kind is InPlace.SAME else kind.value
    return ""
