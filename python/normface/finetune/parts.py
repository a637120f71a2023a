"""Parts of a net as nets of their own: cut at a blob, begun at a blob, continued by new layers.

The text is cut, not the module, so that a part converts, checks and saves as any net does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from caffeport.formats.caffemodel import Blob, Caffemodel, StoredLayer
from caffeport.formats.prototxt import Message
from caffeport.graph.build import build
from caffeport.graph.net import Layer, Net, Value
from caffeport.graph.walk import needed_layers, wanted_values
from caffeport.operators.base import Role

from ..errors import TrainingError

_STAGE_FIELDS = ("include", "exclude")


def part(net: Net, output: str, start: str | None = None) -> Net:
    """What ``output`` needs of the net, with the same numbers: from the inputs, or from the blob ``start`` on.

    Rules of phases and stages are left out, and data layers become Input layers, so that the text is a deploy net.
    Raises TrainingError where the path from ``start`` also reads something that is made before it, or nothing at all.
    """
    (goal,) = wanted_values(net, [output])
    needed = needed_layers(net, [goal])
    inputs = [
        value for layer in needed if layer.op.role is Role.DATA for value in layer.outputs if _is_read(value, needed)
    ]
    if start is not None:
        (begin,) = wanted_values(net, [start])
        before = set(needed_layers(net, [begin]))
        if goal.layer in before or begin.layer not in needed:
            raise TrainingError(f'blob "{start}" is not on the way to "{output}"; choose one before it')
        needed = [layer for layer in needed if layer not in before]
        others = {v.name for layer in needed for v in layer.inputs if v.layer in before and v is not begin}
        if others:
            raise TrainingError(
                f'blob "{start}" is no place to part the net: "{output}" also reads {", ".join(sorted(others))}, '
                "which is made before it"
            )
        inputs = [begin]
    text = Message(source=net.message.source)
    text.add("name", net.name, quoted=True)
    for value in inputs:
        text.add("layer", _input_layer(value))
    for layer in needed:
        if layer.op.role is not Role.DATA and layer.text is not None:
            kept = Message(list(layer.text.fields), layer.text.source, layer.text.line, layer.text.column)
            kept.remove(*_STAGE_FIELDS)
            text.add("layer", kept)
    return _built(net, text)


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


def _is_read(value: Value, needed: Sequence[Layer]) -> bool:
    return any(layer in needed for layer in value.consumers)


def _input_layer(value: Value) -> Message:
    text, shape, parameters = Message(), Message(), Message()
    text.add("name", value.name, quoted=True)
    text.add("type", "Input", quoted=True)
    text.add("top", value.name, quoted=True)
    # A data layer's batch belongs to its training; a deploy net's first axis may be what a Reshape relies on.
    deploy = value.layer.type == "Input"
    for axis, dim in enumerate(value.shape):
        shape.add("dim", 1 if axis == 0 and not deploy else dim)
    parameters.add("shape", shape)
    text.add("input_param", parameters)
    return text


def _built(net: Net, text: Message) -> Net:
    """A net from text most of whose layers are ``net``'s; those take ``net``'s numbers, by name."""
    held = {layer.name: layer for layer in net.layers if layer.params}
    shapes = [
        StoredLayer(layer.name, layer.type, [Blob(spec.shape) for spec in layer.specs]) for layer in held.values()
    ]
    made = build(text, Caffemodel("", net.name, shapes), replace(net.options, input_shapes={}))
    for layer in made.layers:
        if layer.params and layer.name in held:
            for param, source in zip(layer.params, held[layer.name].params, strict=True):
                param.read_from(partial(getattr, source, "data"))
    return made
