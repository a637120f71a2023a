"""Layers that work in place where Caffe's own would refuse to, or would not compute what they stand for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from ..errors import CaffeportWarning, shape_text
from ..operators.base import InPlace, Phase
from .layer import Layer, Value

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
        if kind is InPlace.OTHER_GRADIENT and phase is not Phase.TRAIN:
            return ""
        if x.shape != y.shape and kind is not InPlace.REFUSED:
            return f"where Caffe would make {shape_text(y.shape)} of the {shape_text(x.shape)} that the layer reads"
        return "" if kind is InPlace.SAME else kind.value
    return ""
