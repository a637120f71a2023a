"""Which part of a net a walk has to visit."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import NetError, did_you_mean
from .net import Layer, Net, Value


def wanted_values(net: Net, outputs: Sequence[str] | None) -> list[Value]:
    """The Values of these blobs (the net's outputs for None); raises NetError for an unknown one."""
    if outputs is None:
        return net.output_values
    names = [outputs] if isinstance(outputs, str) else list(outputs)
    for name in names:
        if name not in net.blobs:
            raise NetError(f'outputs names "{name}", which is no blob of this net{did_you_mean(name, net.blobs)}')
    return [net.blobs[name] for name in names]


def needed_layers(net: Net, wanted: Sequence[Value]) -> list[Layer]:
    """The layers that these Values depend on, in the net's order."""
    needed: set[Layer] = set()
    open_values = list(wanted)
    while open_values:
        layer = open_values.pop().layer
        if layer not in needed:
            needed.add(layer)
            open_values.extend(layer.inputs)
    return [layer for layer in net.layers if layer in needed]
