"""Layers that work in place where Caffe's own would refuse to, or would not compute what they stand for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
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
        overwriters = _overwriters(layers)
        for layer in layers:
            later = _overwriter(layer, overwriters)
            if later is not None:
                warnings.warn(
                    f'{layer.title}: works in place on "{layer.inputs[0].name}", over which {later.title} writes: '
                    "Caffe's backward pass reads that in place of its top, and its gradient is another; computed here "
                    "as into a blob of its own",
                    CaffeportWarning,
                    stacklevel=5,
                )


@dataclass
class _Memory:
    """What views share: of the Values in it that which is read last, and where."""

    value: Value
    last: int

    def hold(self, values: Sequence[Value], last_read: dict[Value, int]) -> None:
        for value in values:
            if last_read.get(value, -1) > self.last:
                self.value, self.last = value, last_read[value]


def _through_views(layers: Sequence[Layer], phase: Phase) -> list[tuple[Layer, Layer, str]]:
    """Return (layer in place, a later layer that reads what it has overwritten, the blob by which it does)."""
    last_read = {value: place for place, layer in enumerate(layers) for value in layer.inputs}
    shared: dict[Value, _Memory] = {}
    faults = []
    for place, layer in enumerate(layers):
        if _is_view(layer):
            bottom = layer.inputs[0]
            memory = shared.setdefault(bottom, _Memory(bottom, last_read[bottom]))
            memory.hold(layer.outputs, last_read)
            shared |= dict.fromkeys(layer.outputs, memory)
            continue
        for x, y in zip(layer.inputs, layer.outputs, strict=False):
            if x.name != y.name or x not in shared or len(x.consumers) > 1:  # of what others read Caffe makes a copy
                continue
            memory = shared[x]
            changes = layer.type != "Dropout" or phase is not Phase.TEST
            if changes and memory.last > place:  # which is no reader of x: its only one is this layer
                faults.append((layer, layers[memory.last], memory.value.name))
            memory.hold([y], last_read)
            shared[y] = memory
    return faults


def _is_view(layer: Layer) -> bool:
    if layer.type == "Permute":  # into the order that there was
        rank = len(layer.inputs[0].shape)
        operator: Any = layer.op
        return bool(operator.order(rank) == list(range(rank)))
    alone = len(layer.inputs) == 1 == len(layer.outputs)
    return layer.type in _VIEWS and bool(layer.inputs) and (alone or not _VIEWS[layer.type])


def _overwriters(layers: Sequence[Layer]) -> dict[Value, Layer]:
    """Value -> the first layer that works in place on its memory and changes where it is above 0, if one does."""
    found: dict[Value, Layer] = {}
    for layer in reversed(layers):
        for x, y in zip(layer.inputs, layer.outputs, strict=False):
            if x.name == y.name and (layer.type not in _SIGN_KEPT or y in found):
                found[x] = found[y] if layer.type in _SIGN_KEPT else layer
    return found


def _overwriter(layer: Layer, overwriters: dict[Value, Layer]) -> Layer | None:
    """Return the first layer that works in place behind a ReLU in place, and changes where it is above 0."""
    if layer.type != "ReLU" or layer.inputs[0].name != layer.outputs[0].name:
        return None
    return overwriters.get(layer.outputs[0])


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
