"""The part of a net that a walk has to visit, and the inputs that it reads."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import NetError, did_you_mean
from ..formats.byte_names import to_bytes
from ..operators.base import Phase, Role
from .layer import Layer, Value
from .net import Net


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


def inference_values(net: Net) -> tuple[list[Value], list[Layer]]:
    """Return (the net's outputs for inference, the losses and metrics at its end that these leave out).

    In the TEST phase a text may end in an Accuracy or a loss over what the net is for. Left out are those layers and
    what reads them; in place of their tops come the blobs that nothing but them reads. Not the labels, and what is
    made of labels alone: of inputs that no first bottom of a loss depends on. Where that leaves nothing, and in the
    TRAIN phase, the outputs are the net's own.
    """
    left_out: set[Layer] = set()
    read: dict[Value, set[Value]] = {}  # by a Value, of the inputs
    images: set[Value] = set()
    for layer in net.layers:
        inputs = set().union(*(read[value] for value in layer.inputs))
        read.update((value, {value} if layer.op.role is Role.DATA else inputs) for value in layer.outputs)
        if any(value.layer in left_out for value in layer.inputs):
            left_out.add(layer)
        elif layer.op.role in (Role.LOSS, Role.METRIC):
            left_out.add(layer)
            images |= read[layer.inputs[0]]
    own = [value for value in net.output_values if value.layer not in left_out]
    if net.phase is Phase.TRAIN or len(own) == len(net.output_values):
        return net.output_values, []
    ends = [
        value
        for value in net.values
        if value.layer.op.role is not Role.DATA
        and value.layer not in left_out
        and value.consumers
        and left_out.issuperset(value.consumers)
        and read[value] & images
    ]
    outputs = sorted([*own, *ends], key=lambda value: to_bytes(value.name))
    return (outputs, [layer for layer in net.layers if layer in left_out]) if outputs else (net.output_values, [])


def needed_layers(net: Net, wanted: Sequence[Value]) -> list[Layer]:
    """Return the layers that these Values depend on, in the net's order."""
    needed: set[Layer] = set()
    open_values = list(wanted)
    while open_values:
        layer = open_values.pop().layer
        if layer not in needed:
            needed.add(layer)
            open_values.extend(layer.inputs)
    return [layer for layer in net.layers if layer in needed]


def read_inputs(net: Net, wanted: Sequence[Value]) -> list[Value]:
    """Return the inputs that these Values depend on, or are, in the net's order.

    A data layer makes several blobs (image, label), and the way to a Value may read one of them alone.
    """
    needed = set(needed_layers(net, wanted))
    return [value for value in net.input_values if value in wanted or not needed.isdisjoint(value.consumers)]
