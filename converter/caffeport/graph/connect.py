"""Layers of the wanted phase, each with its type's knowledge, joined by the blobs they name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import NetError, PrototxtError, UnknownLayerError, did_you_mean
from ..formats.caffemodel import Caffemodel
from ..formats.prototxt import Message
from ..formats.schema import decode
from ..operators import message_schemas, registry
from ..operators.base import LayerContext, Operator, Phase, Role, Shape
from .net import Layer, Value
from .net_fields import LayerFields, NetFields, NetState
from .options import Options

_GENERIC = frozenset(LayerFields.__dataclass_fields__)
_SOLVER_FIELDS = {"base_lr", "lr_policy", "max_iter", "net", "train_net", "snapshot_prefix"}


def split(message: Message, options: Options) -> tuple[NetFields, list[Message]]:
    """The net's own fields, decoded, and its layer messages."""
    own = Message(source=message.source)
    layers = []
    for entry in message.fields:
        if entry.name in _SOLVER_FIELDS:
            raise PrototxtError(
                f'{message.where(entry)}: "{entry.name}" belongs to a solver; expected the text of a net'
            )
        if entry.name == "layer" and isinstance(entry.value, Message):
            layers.append(entry.value)
        else:
            own.fields.append(entry)
    fields = decode(own, NetFields, title="a net", allow_unknown=options.allow_unknown_fields)
    if not layers:
        raise PrototxtError(f"{message.source}: holds no layers; expected the text of a net (.prototxt)")
    return fields, layers


def connect(
    message: Message, texts: list[Message], state: NetState, stored: Caffemodel | None, options: Options
) -> tuple[list[Layer], dict[Layer, LayerFields]]:
    """Layers of this phase, joined by Values without shapes yet."""
    known = registry(options.custom_layers)
    schemas = message_schemas(known)
    named = stored.by_name() if stored else {}
    shapes = {name: tuple(blob.shape for blob in layers[-1].blobs) for name, layers in named.items()}
    kept: list[tuple[Message, LayerFields]] = []
    for text in texts:
        fields = _decode_generic(text, schemas, options)
        if fields.include and fields.exclude:
            raise PrototxtError(f'{text.where()}: layer "{fields.name}" has include and exclude rules; give one kind')
        included = any(rule.met(state) for rule in fields.include)
        if included if fields.include else not any(rule.met(state) for rule in fields.exclude):
            kept.append((text, fields))
    if not kept:
        raise NetError(f"{message.source}: no layer is left in the {state.phase.name} phase")
    current: dict[str, Value] = {}
    layers: list[Layer] = []
    wanted: dict[Layer, LayerFields] = {}
    later = {top: fields.name for _, fields in kept for top in fields.top}
    for text, fields in kept:
        for name in dict.fromkeys(name for name in fields.bottom if name not in current):
            if name not in options.input_shapes:
                _refuse_bottom(text, fields, name, current, later)
            layers.append(_extra_input(known["Input"], name, state.phase))
            current[name] = layers[-1].outputs[0]
        op = _layer_op(text, fields, known, schemas, state.phase, shapes, options)
        layer = Layer(fields.name, fields.type, op, [current[name] for name in fields.bottom], text=text)
        for value in layer.inputs:
            if value.consumers[-1:] != [layer]:
                value.consumers.append(layer)
        tops = fields.top or ([fields.name] if op.role is Role.LOSS else [])
        for index, name in enumerate(tops):
            if name in current and fields.bottom[index : index + 1] != [name]:
                raise NetError(
                    f'{text.where()}: layer "{fields.name}" makes the blob "{name}", which layer '
                    f'"{current[name].layer.name}" made already; only an in-place layer (top {index} and bottom '
                    f"{index} the same) may"
                )
        if len(set(tops)) != len(tops):
            raise NetError(f'{text.where()}: layer "{fields.name}" names the same top twice')
        layer.outputs = [Value(name, layer) for name in tops]
        current.update(zip(tops, layer.outputs, strict=True))
        layer.loss_weights = _loss_weights(text, fields, op, len(tops))
        layer.propagate_down = _propagate_down(text, fields)
        layers.append(layer)
        wanted[layer] = fields
    return layers, wanted


def _refuse_bottom(
    text: Message, fields: LayerFields, name: str, current: dict[str, Value], later: dict[str, str]
) -> None:
    where = f'{text.where()}: bottom "{name}" of layer "{fields.name}"'
    if name in later and name not in fields.top:
        raise NetError(
            f'{where} is made only later, by layer "{later[name]}": a cycle, or layers out of order; '
            "Caffe runs layers in the order of the text"
        )
    raise NetError(
        f"{where} is made by no layer{did_you_mean(name, current)}; if it is an input, "
        f"give its shape (input_shapes={{'{name}': (...)}}, or --input-shape {name}=...)"
    )


def _extra_input(input_class: type[Operator], name: str, phase: Phase) -> Layer:
    op = input_class(LayerContext(name, "Input", phase, {}, 0, 1))
    layer = Layer(name, "Input", op)
    layer.outputs = [Value(name, layer)]
    layer.loss_weights = [0.0]
    return layer


def _decode_generic(text: Message, schemas: Mapping[str, list[type]], options: Options) -> LayerFields:
    generic = Message([f for f in text.fields if f.name in _GENERIC], text.source, text.line, text.column)
    title = f'layer "{text.text("name")}"'
    fields = decode(generic, LayerFields, title=title, allow_unknown=options.allow_unknown_fields)
    for entry in text.fields:
        if entry.name not in _GENERIC and entry.name not in schemas and not options.allow_unknown_fields:
            near = did_you_mean(entry.name, [*_GENERIC, *schemas])
            raise PrototxtError(
                f'{text.where(entry)}: {title} has an unknown field "{entry.name}"{near}; '
                "to read the net without it, allow unknown fields (allow_unknown_fields=True, --allow-unknown-fields)"
            )
    if not fields.type:
        raise PrototxtError(f"{text.where()}: {title} has no type")
    return fields


def _layer_op(
    text: Message,
    fields: LayerFields,
    known: Mapping[str, type[Operator]],
    schemas: Mapping[str, list[type]],
    phase: Phase,
    stored_shapes: Mapping[str, tuple[Shape, ...]],
    options: Options,
) -> Operator:
    if fields.type not in known:
        raise UnknownLayerError(
            f'{text.where()}: layer "{fields.name}" has the unknown type "{fields.type}"'
            f"{did_you_mean(fields.type, known)}; give its class as custom_layers=[...]; "
            f"known: {', '.join(sorted(known))}"
        )
    cls = known[fields.type]
    messages: dict[str, Any] = {}
    for entry in text.fields:
        if entry.name in _GENERIC or entry.name not in schemas:
            continue
        if not isinstance(entry.value, Message):
            raise PrototxtError(f'{text.where(entry)}: "{entry.name}" expects a message {{ ... }}')
        if entry.name in messages:
            raise PrototxtError(f'{text.where(entry)}: "{entry.name}" is given twice')
        # A message of another layer type does nothing in Caffe, but it has to be valid there too.
        schema = cls.schemas.get(entry.name) or schemas[entry.name][0]
        decoded: Any = decode(entry.value, schema, title=entry.name, allow_unknown=options.allow_unknown_fields)
        if entry.name in cls.schemas:
            messages[entry.name] = decoded
    return cls(
        LayerContext(
            fields.name,
            fields.type,
            fields.phase or phase,
            messages,
            len(fields.bottom),
            len(fields.top) or int(cls.role is Role.LOSS),
            stored_shapes.get(fields.name),
            fields.loss_param,
            fields.transform_param,
            options.layer_options,
            tuple(fields.propagate_down),
        )
    )


def _loss_weights(text: Message, fields: LayerFields, op: Operator, tops: int) -> list[float]:
    if not fields.loss_weight:
        return [1.0 if op.role is Role.LOSS and index == 0 else 0.0 for index in range(tops)]
    if len(fields.loss_weight) != tops:
        raise NetError(
            f'{text.where()}: layer "{fields.name}" has {tops} tops but {len(fields.loss_weight)} loss_weight entries'
        )
    return list(fields.loss_weight)


def _propagate_down(text: Message, fields: LayerFields) -> list[bool]:
    if len(fields.propagate_down) not in (0, len(fields.bottom)):
        raise NetError(
            f'{text.where()}: layer "{fields.name}" has {len(fields.bottom)} bottoms but '
            f"{len(fields.propagate_down)} propagate_down entries"
        )
    return list(fields.propagate_down)
