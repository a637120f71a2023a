"""Layers that work in place where Caffe's own would refuse to, or would not compute what they stand for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from ..errors import CaffeportWarning, shape_text
from ..operators.base import InPlace, Phase
from .layer import Layer

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
        for place, layer in enumerate(layers):
            later = _overwriter(layer, layers[place + 1 :])
            if later is not None:
                warnings.warn(
                    f'{layer.title}: works in place on "{layer.inputs[0].name}", over which {later.title} writes: '
                    "Caffe's backward pass reads that in place of its top, and its gradient is another; computed here "
                    "as into a blob of its own",
                    CaffeportWarning,
                    stacklevel=5,
                )


def _overwriter(layer: Layer, following: Sequence[Layer]) -> Layer | None:
    """Return the first layer that works in place behind a ReLU in place, and changes where it is above 0."""
    if layer.type != "ReLU" or layer.inputs[0].name != layer.outputs[0].name:
        return None
    value = layer.outputs[0]
    for later in following:
        pairs = zip(later.inputs, later.outputs, strict=False)
        top = next((y for x, y in pairs if x is value and x.name == y.name), None)
        if top is None:
            continue
        if later.type not in _SIGN_KEPT:
            return later
        value = top
    return None


def _fault(layer: Layer, phase: Phase) -> str:
    """Return what is wrong with it in Caffe; an empty string for nothing."""
    pairs = [(x, y) for x, y in zip(layer.inputs, layer.outputs, strict=False) if x.name == y.name]
    if not pairs or (layer.op.in_place is InPlace.OTHER_GRADIENT and phase is not Phase.TRAIN):
        return ""
    x, y = pairs[0]
    if x.shape != y.shape and layer.op.in_place is not InPlace.REFUSED:
        return f"where Caffe would make {shape_text(y.shape)} of the {shape_text(x.shape)} that the layer reads"
    return layer.op.in_place.value
