"""Layers of the wanted phase, each with its type's knowledge, joined by the blobs they name."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

from ..errors import CaffeportError, CaffeportWarning, NetError, PrototxtError, did_you_mean
from ..formats.caffemodel import Caffemodel
from ..formats.no_effect import LAYER, NET, changes_nothing
from ..formats.prototxt import Field, Message
from ..formats.schema import decode, tell_ignored
from ..operators import MessageSchemas, registry
from ..operators.base import LayerContext, LossParameter, Operator, Phase, Role, Shape
from ..operators.python_layer import operator_class
from ..operators.transformation import TransformationParameter
from ..operators.unknown_data import UnknownData
from .layer import Layer, Value
from .net_fields import GENERIC_FIELDS, LayerFields, NetFields, NetState
from .options import Options
from .unknown import refuse_unknown, unknown_layers

T = TypeVar("T")
_NO_LOSS_PARAM = LossParameter()
_SOLVER_FIELDS = {"base_lr", "lr_policy", "max_iter", "net", "train_net", "snapshot_prefix"}


def split(message: Message, options: Options) -> tuple[NetFields, list[Message]]:
    """Return the net's own fields, decoded, and its layer messages."""
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
    if not layers:
        raise PrototxtError(f"{message.source}: holds no layers; expected the text of a net (.prototxt)")
    return decode(own, NetFields, title=NET, allow_unknown=options.allow_unknown_fields), layers


def connect(
    message: Message, texts: list[Message], state: NetState, stored: Caffemodel | None, options: Options
) -> tuple[list[Layer], dict[Layer, LayerFields]]:
    """Return the layers of this phase, joined by Values without shapes yet."""
    known = registry(options.custom_layers)
    schemas = MessageSchemas(options.custom_layers)
    named = stored.by_name() if stored else {}
    shapes = {name: tuple(blob.shape for blob in layers[-1].blobs) for name, layers in named.items()}
    members, left_out = _in_phase(texts, state, options)
    if not members:
        raise NetError(f"{message.source}: no layer is left in the {state.phase.name} phase")
    if unknown := unknown_layers((text for text, fields in members if fields.type not in known), known):
        refuse_unknown(unknown, known)
    current: dict[str, Value] = {}
    layers: list[Layer] = []
    wanted: dict[Layer, LayerFields] = {}
    later = {top: fields.name for _, fields in members for top in fields.top}
    for text, fields in members:
        for name in dict.fromkeys([name for name in fields.bottom if name not in current]):
            if name in current:
                continue  # it came with another top of its data layer
            source = None
            if name not in options.input_shapes:
                if name not in left_out or name in later or options.reads_data:
                    _refuse_bottom(text, fields, name, current, later)
                maker, maker_fields = left_out[name]
                _tell_left_out(text, fields, name, maker_fields)
                if not any(top in current or top in later for top in maker_fields.top):
                    source = _data_layer(maker, maker_fields, known, schemas, state.phase, options)
            layers.append(source or _extra_input(known["Input"], name, state.phase))
            if name not in options.input_shapes and source is None:
                layers[-1].maker = _maker(maker, maker_fields, known, schemas, state.phase, current, options)
            current.update((value.name, value) for value in layers[-1].outputs)
        op = _layer_op(text, fields, known, schemas, state.phase, shapes, options)
        layer = Layer(fields.name, fields.type, op, [current[name] for name in fields.bottom], text=text)
        for value in layer.inputs:
            if not value.consumers or value.consumers[-1] is not layer:
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


def _in_phase(
    texts: list[Message], state: NetState, options: Options
) -> tuple[list[tuple[Message, LayerFields]], dict[str, tuple[Message, LayerFields]]]:
    """Return the layers whose rules this state meets, and {top: the first layer of another phase that makes it}."""
    members: list[tuple[Message, LayerFields]] = []
    left_out: dict[str, tuple[Message, LayerFields]] = {}
    for text in texts:
        fields = _decode_generic(text, options)
        if fields.include and fields.exclude:
            raise PrototxtError(f'{text.where()}: layer "{fields.name}" has include and exclude rules; give one kind')
        if _is_member(fields, state):
            members.append((text, fields))
        else:
            for top in fields.top:
                left_out.setdefault(top, (text, fields))
    return members, left_out


def _is_member(fields: LayerFields, state: NetState) -> bool:
    if fields.include:
        return any(rule.met(state) for rule in fields.include)
    return not (fields.exclude and any(rule.met(state) for rule in fields.exclude))


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


def _tell_left_out(text: Message, fields: LayerFields, name: str, maker: LayerFields) -> None:
    warnings.warn(
        f'{text.where()}: bottom "{name}" of layer "{fields.name}" is made by layer "{maker.name}" ({maker.type}), '
        "which this phase leaves out; it is an input here",
        CaffeportWarning,
        stacklevel=5,
    )


def _data_layer(
    text: Message,
    fields: LayerFields,
    known: Mapping[str, type[Operator]],
    schemas: Mapping[str, type],
    phase: Phase,
    options: Options,
) -> Layer | None:
    """Return the layer if it is a data layer, whose tops are inputs, else None."""
    operator = operator_class(text, known)
    if fields.bottom or (operator is not None and operator.role is not Role.DATA):
        return None
    layer = Layer(fields.name, fields.type, _layer_op(text, fields, known, schemas, phase, {}, options), text=text)
    layer.outputs = [Value(name, layer) for name in fields.top]
    layer.loss_weights = [0.0] * len(fields.top)
    return layer


def _maker(
    text: Message,
    fields: LayerFields,
    known: Mapping[str, type[Operator]],
    schemas: Mapping[str, type],
    phase: Phase,
    current: Mapping[str, Value],
    options: Options,
) -> Layer | None:
    """Return the layer as its own phase has it, to tell the shapes of what it makes; None where it is not known
    enough."""
    if operator_class(text, known) is None or not current.keys() >= set(fields.bottom):
        return None
    others = Phase.TEST if phase is Phase.TRAIN else Phase.TRAIN
    try:
        operator = _layer_op(text, fields, known, schemas, others, {}, options)
    except CaffeportError:
        return None  # it is no layer of this net, so that its faults are nobody's concern
    layer = Layer(fields.name, fields.type, operator, [current[name] for name in fields.bottom], text=text)
    layer.outputs = [Value(name, layer) for name in fields.top]
    return layer


def _extra_input(input_class: type[Operator], name: str, phase: Phase) -> Layer:
    op = input_class(LayerContext(name, "Input", phase, {}, 0, 1))
    layer = Layer(name, "Input", op)
    layer.outputs = [Value(name, layer)]
    layer.loss_weights = [0.0]
    return layer


def _decode_generic(text: Message, options: Options) -> LayerFields:
    generic = [entry for entry in text.fields if entry.name in GENERIC_FIELDS]
    title = f'layer "{text.text("name")}"'
    fields = decode(text, LayerFields, title=title, allow_unknown=options.allow_unknown_fields, entries=generic)
    if not fields.type:
        raise PrototxtError(f"{text.where()}: {title} has no type")
    return fields


def _layer_op(
    text: Message,
    fields: LayerFields,
    known: Mapping[str, type[Operator]],
    schemas: Mapping[str, type],
    phase: Phase,
    stored_shapes: Mapping[str, tuple[Shape, ...]],
    options: Options,
) -> Operator:
    cls = operator_class(text, known, fields.type) or UnknownData
    # What a data layer does to its files changes no number of the net, unless somebody reads those files.
    lenient = options.allow_unknown_fields or (cls.role is Role.DATA and not options.reads_data)
    messages: dict[str, Any] = {}
    for entry in text.fields:
        if entry.name in GENERIC_FIELDS or cls is UnknownData:
            continue
        if entry.name not in schemas:
            _pass_over(text, fields, entry, schemas, lenient)
            continue
        if not isinstance(entry.value, Message):
            raise PrototxtError(f'{text.where(entry)}: "{entry.name}" expects a message {{ ... }}')
        if entry.name in messages:
            raise PrototxtError(f'{text.where(entry)}: "{entry.name}" is given twice')
        # A message of another layer type does nothing in Caffe, but it has to be valid there too.
        schema = cls.schemas.get(entry.name) or schemas[entry.name]
        decoded: Any = decode(entry.value, schema, title=entry.name, allow_unknown=lenient)
        if entry.name in cls.schemas or entry.name == "python_param":
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
            _own(fields.loss_param, LossParameter, "loss_param", options.allow_unknown_fields) or _NO_LOSS_PARAM,
            _own(fields.transform_param, TransformationParameter, "transform_param", lenient),
            options.layer_options,
            text,
            tuple(fields.propagate_down),
        )
    )


def _pass_over(text: Message, fields: LayerFields, entry: Field, schemas: Mapping[str, type], lenient: bool) -> None:
    """Let a field that nothing knows be, if that is allowed or it changes no number; else raise PrototxtError."""
    if changes_nothing(LAYER, entry.name):
        return
    title = f'layer "{fields.name}"'
    if lenient:
        tell_ignored(text, entry, title)
        return
    raise PrototxtError(
        f'{text.where(entry)}: {title} has an unknown field "{entry.name}"'
        f"{did_you_mean(entry.name, [*GENERIC_FIELDS, *schemas])}; to read the net without it, allow unknown fields "
        "(allow_unknown_fields=True, --allow-unknown-fields)"
    )


def _own(message: Message | None, schema: type[T], name: str, allow_unknown: bool) -> T | None:
    """Return a message that every layer may have, decoded; None where the text has none."""
    return None if message is None else decode(message, schema, title=name, allow_unknown=allow_unknown)


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
