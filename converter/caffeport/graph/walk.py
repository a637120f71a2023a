"""Which part of a net a walk has to visit, and what it reads."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import NetError, did_you_mean
from .net import Layer, Net, Value


def wanted_values(net: Net, blobs: Sequence[str] | None, option: str = "outputs") -> list[Value]:
    """Return the Values of these blobs (the net's outputs for None); raises NetError for an unknown one.

    option: what names them, for the message.
    """
    if blobs is None:
        return net.output_values
    names = [blobs] if isinstance(blobs, str) else list(dict.fromkeys(blobs))
    if not names:
        raise NetError(f"{option} names no blob; leave it out for the net's own {option}")
    for name in names:
        if name not in net.blobs:
            raise NetError(f'{option} names "{name}", which is no blob of this net{did_you_mean(name, net.blobs)}')
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


def read_inputs(net: Net, wanted: Sequence[Value]) -> list[Value]:
    """The inputs that these Values depend on, or are, in the net's order.

    A data layer makes several blobs (image, label), and the way to a Value may read one of them alone.
    """
    needed = set(needed_layers(net, wanted))
    return [value for value in net.input_values if value in wanted or not needed.isdisjoint(value.consumers)]
