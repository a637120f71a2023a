"""Parts of a net as nets of their own: cut at a blob, begun at a blob, continued by new layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from caffeport import Message, Net, NetError
from caffeport.formats.caffemodel import Blob, Caffemodel, StoredLayer
from caffeport.graph.build import build
from caffeport.graph.walk import needed_layers, read_inputs, wanted_values

from ..errors import TrainingError


def part(net: Net, output: str, start: str | None = None) -> Net:
    """Return what ``output`` needs of the net, with the same numbers: from the inputs, or from the blob ``start`` on.

    Data layers become inputs of one image: their batch belongs to their training, where a deploy net's first axis may
    be what a Reshape relies on.
    Raises TrainingError where the path from ``start`` also reads something that is made before it, or nothing at all.
    """
    inputs = read_inputs(net, wanted_values(net, [output])) if start is None else wanted_values(net, [start])
    shapes = {value.name: (1, *value.shape[1:]) for value in inputs if value.layer.type != "Input"}
    try:
        return net.cut([output], None if start is None else [start], input_shapes=shapes)
    except NetError as error:
        raise TrainingError(f'a net can not be parted at "{start or output}": {error}') from error


def check_apart(net: Net, blob: str) -> None:
    """Raise TrainingError if layers up to ``blob`` share blobs with later ones, which could not train without them."""
    before = set(needed_layers(net, wanted_values(net, [blob])))
    holders = {id(param): layer for layer in net.layers if layer in before for param in layer.params}
    for layer in net.layers:
        for param in layer.params if layer not in before else []:
            if id(param) in holders:
                raise TrainingError(
                    f'{layer.title}: shares blobs with {holders[id(param)].title}, which is frozen up to "{blob}"; '
                    "choose a blob before or after both"
                )


def continued(net: Net, layers: Sequence[Message]) -> Net:
    """The net with these layers at its end, their blobs filled by their fillers; its own numbers stay."""
    text = Message(list(net.message.fields), net.message.source)
    for layer in layers:
        text.add("layer", layer)
    return _built(net, text)


def fully_connected(name: str, bottom: str, top: str, outputs: int) -> Message:
    text = _layer(name, "InnerProduct", bottom, top)
    for decay in (1, 0):
        text.add("param", _rates(1, decay))
    parameters = Message()
    parameters.add("num_output", outputs)
    filler = Message()
    filler.add("type", "xavier", quoted=True)
    parameters.add("weight_filler", filler)
    text.add("inner_product_param", parameters)
    return text


def prelu(name: str, blob: str) -> Message:
    text = _layer(name, "PReLU", blob, blob)
    text.add("param", _rates(1, 0))
    return text


def unit_length(bottom: str, top: str) -> list[Message]:
    """``top`` = bottom / |bottom|, (N, D): NormFace's Normalize, whose top has four axes, and a Flatten."""
    normalize = _layer(f"{top}_normalize", "Normalize", bottom, f"{top}_4d")
    parameters = Message()
    parameters.add("normalize_type", "L2", quoted=True)  # SSD forks have another layer of this type
    normalize.add("normalize_param", parameters)
    return [normalize, _layer(f"{top}_flatten", "Flatten", f"{top}_4d", top)]


def free_name(net: Net, wanted: str) -> str:
    """``wanted``, or with a number behind it, such that no blob or layer of the net has it."""
    taken = {*net.blobs, *(layer.name for layer in net.layers)}
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}{number}"
    return name


def _layer(name: str, kind: str, bottom: str, top: str) -> Message:
    text = Message()
    for key, value in (("name", name), ("type", kind), ("bottom", bottom), ("top", top)):
        text.add(key, value, quoted=True)
    return text


def _rates(lr_mult: int, decay_mult: int) -> Message:
    text = Message()
    text.add("lr_mult", lr_mult)
    text.add("decay_mult", decay_mult)
    return text


def _built(net: Net, text: Message) -> Net:
    """A net from text most of whose layers are ``net``'s; those take ``net``'s numbers, by name."""
    held = {layer.name: layer for layer in net.layers if layer.params}
    shapes = [
        StoredLayer(layer.name, layer.type, [Blob(spec.shape) for spec in layer.specs]) for layer in held.values()
    ]
    whole = build(text, Caffemodel("", net.name, shapes), replace(net.options, input_shapes={}))
    for layer in whole.layers:
        if layer.params and layer.name in held:
            for param, source in zip(layer.params, held[layer.name].params, strict=True):
                param.carry(source)
    return whole
