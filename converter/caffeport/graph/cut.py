"""The part of a net between blobs, as a net of its own.

The text is cut, not a module, so that a part converts, checks and saves as any net does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ..errors import NetError, did_you_mean, name_list
from ..formats.caffemodel import Blob, Caffemodel, StoredLayer
from ..formats.prototxt import Field, Message, Scalar
from ..naming import Names
from ..operators.base import Role, Shape
from .build import build
from .layer import Layer, Value
from .net import Net
from .walk import needed_layers, wanted_values

# Which layers there are is decided already, and a part is loaded without stages.
_RULES = ("include", "exclude")
_NOT_A_PARTS = ("layer", "state")


def cut(
    net: Net,
    outputs: Sequence[str],
    inputs: Sequence[str] | None = None,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Net:
    """Return the part of ``net`` that makes ``outputs`` from ``inputs``; see :meth:`Net.cut`."""
    goals = wanted_values(net, outputs)
    starts = net.input_values if inputs is None else _starts(net, inputs)
    layers, read = _between(net, goals, starts)
    if inputs is not None and (unread := [value.name for value in starts if value not in read]):
        raise NetError(
            f'inputs names "{unread[0]}", which is not on the way to {_names(goals)}; choose a blob before it'
        )
    starts = [value for value in starts if value in read]
    _refuse_second_maker(starts, layers, goals)
    text = Message([entry for entry in net.message.fields if entry.name not in _NOT_A_PARTS], net.message.source)
    text.sha256 = net.message.sha256
    layer_names = Names(layer.name for layer in layers)
    blob_names = Names(net.blobs)
    for value, shape in zip(starts, _shapes(starts, input_shapes or {}), strict=True):
        text.add("layer", _input_layer(layer_names.take(value.name), value.name, shape))
    # A blob that is read further on is no output in Caffe: it gets another name there, and a copy has its own.
    inner = {goal.name: blob_names.take(goal.name) for goal in goals if not set(layers).isdisjoint(goal.consumers)}
    if both := [value.name for value in starts if value.name in inner]:
        raise NetError(f'"{both[0]}" is read further on, and is an input of the part: a copy of it can\'t be an output')
    names = {value: inner[value.name] for layer in layers for value in layer.outputs if value.name in inner}
    for layer in layers:
        text.add("layer", _without_rules(layer, names))
    for name, other in inner.items():
        text.add("layer", _layer(layer_names.take(f"{name}_split"), "Split", [other], [name]))
    loose = [
        value.name
        for layer in layers
        for value in layer.outputs
        if value not in goals and set(layers).isdisjoint(value.consumers)
    ]
    if loose:  # further tops, which would else be outputs
        text.add("layer", _layer(layer_names.take("silence"), "Silence", loose, []))
    part = _built(net, text, layers)
    for source, layer in zip(layers, part.layers[len(starts) :], strict=False):
        for param, original in zip(layer.params, source.params, strict=True):
            param.carry(original)
    part.weights_path, part.weights_digest = net.weights_path, net.weights_digest
    return part


def _starts(net: Net, inputs: Sequence[str]) -> list[Value]:
    """Return the Values of these blobs: an input of the net as it is fed, all others as they are in the end."""
    fed = {value.name: value for value in net.input_values}
    return [fed.get(value.name, value) for value in wanted_values(net, inputs, "inputs")]


def _between(net: Net, goals: list[Value], starts: list[Value]) -> tuple[list[Layer], set[Value]]:
    """Return the layers that make ``goals`` from ``starts``, in the net's order, and which of ``starts`` they read."""
    between: set[Layer] = set()
    read: set[Value] = set()
    open_values = list(goals)
    while open_values:
        value = open_values.pop()
        if value in starts:
            read.add(value)
        elif value.layer.op.role is Role.DATA:
            _refuse_other_way(net, goals, starts)
        elif value.layer not in between:
            between.add(value.layer)
            open_values.extend(value.layer.inputs)
    if own := [goal.name for goal in goals if goal in starts]:
        raise NetError(f'"{own[0]}" is an input of the part, and so no output of it')
    return [layer for layer in net.layers if layer in between], read


def _refuse_other_way(net: Net, goals: list[Value], starts: list[Value]) -> None:
    """Tell which blobs come into the part beside its inputs."""
    before = set(needed_layers(net, starts))
    readers = [layer for layer in needed_layers(net, goals) if layer not in before]
    values = [value for layer in readers for value in layer.inputs if value not in starts]
    beside = [value.name for value in values if value.layer in before or value.layer.op.role is Role.DATA]
    if not beside:
        early = [goal for goal in goals if goal.layer in before]
        raise NetError(f"{_names(starts)} is not on the way to {_names(early)}; choose a blob before it")
    raise NetError(
        f"{_names(goals)} also reads {name_list(beside)}, which is made before it and not from {_names(starts)}: "
        "choose blobs through which everything comes, or name it among inputs too"
    )


def _refuse_second_maker(starts: list[Value], layers: list[Layer], goals: list[Value]) -> None:
    """Refuse an input whose blob the part makes too, before the in-place layers that end at the input."""
    names = {value.name for value in starts}
    for layer in layers:
        for index, top in enumerate(layer.tops):
            if top in names and layer.bottoms[index : index + 1] != [top]:
                raise NetError(
                    f'inputs names "{top}", which {layer.title} makes on the way to {_names(goals)}: it is read before '
                    "and behind its in-place layers, and can't be both; choose another blob"
                )


def _shapes(starts: list[Value], overrides: Mapping[str, Sequence[int]]) -> list[Shape]:
    names = [value.name for value in starts]
    for name in overrides:
        if name not in names:
            raise NetError(f'input_shapes names "{name}", which is no input of the part{did_you_mean(name, names)}')
    return [tuple(overrides.get(value.name, value.shape)) for value in starts]


def _names(values: Iterable[Value]) -> str:
    return name_list(value.name for value in values)


def _without_rules(layer: Layer, names: Mapping[Value, str]) -> Message:
    """Return the layer's text without rules of phases and stages, some of its blobs under other names."""
    assert layer.text is not None  # only inputs have none
    text = Message(list(layer.text.fields), layer.text.source, layer.text.line, layer.text.column)
    text.remove(*_RULES)
    values = {"bottom": iter(layer.inputs), "top": iter(layer.outputs)}
    for place, entry in enumerate(text.fields):
        if entry.name in values:
            value = next(values[entry.name])
            if value in names:
                text.fields[place] = Field(entry.name, Scalar(names[value], "string"), entry.line, entry.column)
    for value in values["top"]:  # a loss's, which the text may leave out
        text.add("top", names.get(value, value.name), quoted=True)
    return text


def _layer(name: str, kind: str, bottoms: Sequence[str], tops: Sequence[str]) -> Message:
    text = Message()
    text.add("name", name, quoted=True)
    text.add("type", kind, quoted=True)
    for key, blobs in (("bottom", bottoms), ("top", tops)):
        for blob in blobs:
            text.add(key, blob, quoted=True)
    return text


def _input_layer(name: str, blob: str, shape: Shape) -> Message:
    text, sizes, parameters = _layer(name, "Input", [], [blob]), Message(), Message()
    for dim in shape:
        sizes.add("dim", int(dim))
    parameters.add("shape", sizes)
    text.add("input_param", parameters)
    return text


def _built(net: Net, text: Message, layers: list[Layer]) -> Net:
    """Return the net of the text, whose ``layers`` have blobs of the shapes that they have now."""
    stored = [
        StoredLayer(layer.name, layer.type, [Blob(spec.shape) for spec in layer.specs])
        for layer in layers
        if layer.specs
    ]
    return build(text, Caffemodel("", net.name, stored), replace(net.options, input_shapes={}))
