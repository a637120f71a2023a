"""Where real Caffe's numbers are no measure: what it has overwritten, and what its BLAS or its rounding decides."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import caffeport
import numpy as np
from caffeport.graph.in_place import tell_in_place
from caffeport.graph.layer import Layer, Value
from caffeport.operators.base import Phase

READ_TOPS = {
    "ELU",
    "Sigmoid",
    "TanH",
    "Softmax",
    "Exp",
    "MVN",
    "LRN",
    "Power",
    "Swish",
    "Normalize",
    "NormL2",
    "Eltwise",
    "ReLU in place",
}
"""Their backward pass reads the top, which in Caffe a layer in place behind them has overwritten."""
SCALING = {"Exp", "Log", "Power", "Swish", "Eltwise", "Scale"}
FORWARD_ONLY = {"HardSigmoid", "HardSwish", "Upsample"}
"""The SSD fork's have a backward pass that does nothing."""
VIEWS = {"Flatten", "Reshape", "Split", "Slice", "Concat", "Permute"}
"""Their top may be the memory of their bottom, which a layer in place behind them then overwrites in Caffe."""


def depends_on_blas(net: caffeport.Net, text: str, forward: dict[str, np.ndarray]) -> bool:
    """Return whether a layer scales what is no number, or by none: some BLAS make 0 of 0 times NaN, and others NaN.

    What it makes counts too, such as Log of a number below 0: behind it Caffe's maxima, Clip and the like drop a NaN,
    which depends on how a comparison is written; here it stays one.
    """
    names = {x.name for layer in net.layers if layer.type in SCALING for x in (*layer.inputs, *layer.outputs)}
    finite = all(np.isfinite(forward[f"data/{name}"]).all() for name in names if f"data/{name}" in forward)
    tiny = any(layer.type == "LRN" and layer.op.p.k <= 0 for layer in net.layers)  # Caffe's running sums stay above 0
    return tiny or not finite or re.search(r": -?(nan|inf)\b", text) is not None


def overwritten(net: caffeport.Net) -> set[str]:
    """Return the blobs that a layer in place writes to through a view of them."""
    written = _written_in_place(net.layers)
    names: set[str] = set()
    for layer in reversed(net.layers):
        tops = {value.name for value in layer.outputs}
        if layer.type in VIEWS and tops & (names | written):
            names.update(layer.bottoms, tops)
    return names


def _written_in_place(layers: Sequence[Layer]) -> set[str]:
    """Return the names of the blobs that are bottom and top of one of the layers."""
    return {x.name for layer in layers for x in layer.inputs if x.name in {y.name for y in layer.outputs}}


def right_in_caffe(net: caffeport.Net) -> tuple[bool, bool]:
    """Return whether the numbers and the gradients are right there, wherever layers work in place."""
    found = []
    for phase in (Phase.TEST, Phase.TRAIN):
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            tell_in_place(net.layers, phase)
        found.append(not notes)
    makers = [
        f"{x.layer.type} in place" if x.layer.type == "ReLU" and _written_in_place([x.layer]) else x.layer.type
        for layer in net.layers
        for x, y in zip(layer.inputs, layer.outputs, strict=False)
        if x.name == y.name
    ]
    constant = any(layer.type == "Parameter" and any(layer.loss_weights) for layer in net.layers)  # Caffe drops it
    return found[0], found[1] and READ_TOPS.isdisjoint(makers) and not constant


def weighted(net: caffeport.Net) -> dict[Value, float]:
    """Return {top: loss_weight}. A loss's own weight of 1 is lost where another layer reads the loss: Caffe's backward
    pass overwrites it there, where a weight of the text has a branch of its own."""
    return {
        value: weight
        for layer in net.layers
        for value, weight in zip(layer.outputs, layer.loss_weights, strict=True)
        if weight and (not value.consumers or layer.text.has("loss_weight"))
    }


def loss_as_label(net: caffeport.Net) -> bool:
    """Return whether a layer takes a loss for labels: one that gives them no gradient leaves the loss its weight."""
    return any(value.layer.loss_weights and any(value.layer.loss_weights) for x in net.layers for value in x.inputs[1:])
