"""From files to a Net: parse, upgrade, filter by phase, connect, infer shapes, attach weights.

The rules are those of BVLC/caffe's ``net.cpp``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import caffemodel, prototxt
from .errors import NetError, PrototxtError, UnknownLayerError, did_you_mean, shape_text
from .inputs import resolve_input_shapes
from .layers import message_schemas, registry
from .layers.base import LayerContext, LayerType, LossParameter, Phase, Role, Shape
from .layers.data import BlobShape, TransformationParameter
from .net import Layer, Net, Param, Value, check_shape, top_shapes
from .prototxt import Message
from .schema import decode
from .upgrade import upgrade
from .weights import attach


@dataclass
class NetStateRule:
    phase: Phase | None = None
    min_level: int | None = None
    max_level: int | None = None
    stage: list[str] = field(default_factory=list)
    not_stage: list[str] = field(default_factory=list)

    def met(self, state: NetState) -> bool:
        return (
            (self.phase is None or self.phase is state.phase)
            and (self.min_level is None or state.level >= self.min_level)
            and (self.max_level is None or state.level <= self.max_level)
            and all(stage in state.stage for stage in self.stage)
            and not any(stage in state.stage for stage in self.not_stage)
        )


@dataclass
class NetState:
    phase: Phase = Phase.TEST
    level: int = 0
    stage: list[str] = field(default_factory=list)


class ShareMode(enum.Enum):
    STRICT = 0
    PERMISSIVE = 1


@dataclass
class ParamSpec:
    name: str = ""
    share_mode: ShareMode = ShareMode.STRICT
    lr_mult: float | None = None  # Caffe's default is 1; None tells a sharer that has no say
    decay_mult: float | None = None


@dataclass
class TextBlob:
    """A blob written into the text itself."""

    num: int | None = None
    channels: int | None = None
    height: int | None = None
    width: int | None = None
    shape: BlobShape | None = None
    data: list[float] = field(default_factory=list)


@dataclass
class NetFields:
    name: str = ""
    force_backward: bool = False
    debug_info: bool = False
    state: NetState = field(default_factory=NetState)


@dataclass
class LayerFields:
    """The fields that every layer has; all others are messages of the layer types."""

    name: str = ""
    type: str = ""
    bottom: list[str] = field(default_factory=list)
    top: list[str] = field(default_factory=list)
    phase: Phase | None = None
    loss_weight: list[float] = field(default_factory=list)
    param: list[ParamSpec] = field(default_factory=list)
    blobs: list[TextBlob] = field(default_factory=list)
    propagate_down: list[bool] = field(default_factory=list)
    include: list[NetStateRule] = field(default_factory=list)
    exclude: list[NetStateRule] = field(default_factory=list)
    loss_param: LossParameter = field(default_factory=LossParameter)
    transform_param: TransformationParameter | None = None


_GENERIC = frozenset(LayerFields.__dataclass_fields__)
_SOLVER_FIELDS = {"base_lr", "lr_policy", "max_iter", "net", "train_net", "snapshot_prefix"}


@dataclass(frozen=True)
class Options:
    """How a net was loaded; kept so that the net can be built again with other weights."""

    phase: Phase
    stages: tuple[str, ...]
    level: int
    custom_layers: tuple[type[LayerType], ...]
    input_shapes: dict[str, Shape]
    allow_unknown_fields: bool
    allow_missing_weights: bool
    layer_options: dict[str, Any]
    seed: int


def load(
    prototxt_path: str | Path,
    weights: str | Path | None = None,
    phase: str = "test",
    stages: Sequence[str] = (),
    custom_layers: Sequence[type[LayerType]] = (),
    *,
    level: int = 0,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    allow_unknown_fields: bool = False,
    allow_missing_weights: bool | None = None,
    bn: str | None = None,
    exact_gradients: bool = False,
    seed: int = 0,
) -> Net:
    """Load a Caffe net.

    prototxt_path: the net's text (deploy or train; V0, V1 or V2).
    weights: a ``.caffemodel`` (or ``.caffemodel.h5``); without it Caffe's fillers initialise the blobs.
    phase: "test" or "train"; "train" keeps loss layers, and data layers' tops become inputs.
    stages, level: the state that include and exclude rules are checked against.
    custom_layers: LayerType subclasses of your own; they win over the built-in ones.
    input_shapes: {blob: shape}; replaces declared shapes, and makes an input of a bottom that no layer makes.
    allow_unknown_fields: ignore fields that nothing knows instead of refusing them.
    allow_missing_weights: leave layers that ``weights`` lacks to their fillers, as Caffe does without a word;
        by default True in the train phase (a new head) and False in the test phase.
    bn: what a 4-blob "BN" layer stores last: "variance" (PSPNet) or "inverse_std" (caffe-windows).
    exact_gradients: the true derivative where a fork's backward pass computes something else; by default
        training repeats Caffe's numbers.
    seed: of the fillers.

    Raises CaffeportError (PrototxtError, CaffemodelError, NetError, WeightsError): one line that names
    the file and line, or the layer, and the way out.
    """
    phases = {"test": Phase.TEST, "train": Phase.TRAIN}
    if str(phase).lower() not in phases:
        raise NetError(f'phase is "test" or "train", got "{phase}"')
    chosen = phases[str(phase).lower()]
    if isinstance(stages, str):
        stages = (stages,)
    if bn not in (None, "variance", "inverse_std"):
        raise NetError(f'bn is "variance" or "inverse_std", got "{bn}"')
    options = Options(
        phase=chosen,
        stages=tuple(stages),
        level=level,
        custom_layers=tuple(custom_layers),
        input_shapes={name: tuple(shape) for name, shape in (input_shapes or {}).items()},
        allow_unknown_fields=allow_unknown_fields,
        allow_missing_weights=chosen is Phase.TRAIN if allow_missing_weights is None else allow_missing_weights,
        layer_options={"bn": bn, "exact_gradients": exact_gradients},
        seed=seed,
    )
    message = upgrade(prototxt.load(prototxt_path))
    stored = caffemodel.read(weights) if weights is not None else None
    return build(message, stored, options)


def build(message: Message, stored: caffemodel.Caffemodel | None, options: Options) -> Net:
    """A Net from upgraded text and, if given, stored weights."""
    net_fields, layer_messages = _split(message, options)
    state = NetState(options.phase, options.level or net_fields.state.level, [*net_fields.state.stage, *options.stages])
    layers, wanted = _connect(message, layer_messages, state, stored, options)
    resolve_input_shapes(layers, options.input_shapes, stored, message)
    for layer in layers:
        if layer.op.role is not Role.DATA:
            shapes = top_shapes(layer, [value.shape for value in layer.inputs])
            for value, shape in zip(layer.outputs, shapes, strict=True):
                value.shape = shape
    _make_params(layers, wanted, options.seed)
    net = Net(net_fields.name, layers, options.phase, message, {"build": options})
    if stored is not None:
        attach(net, stored, allow_missing=options.allow_missing_weights)
    return net


def _split(message: Message, options: Options) -> tuple[NetFields, list[Message]]:
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


def _connect(
    message: Message, texts: list[Message], state: NetState, stored: caffemodel.Caffemodel | None, options: Options
) -> tuple[list[Layer], dict[Layer, LayerFields]]:
    """Layers of this phase, joined by Values without shapes yet."""
    known = registry(options.custom_layers)
    schemas = message_schemas(known)
    shapes = {layer.name: tuple(blob.shape for blob in layer.blobs) for layer in stored.layers} if stored else {}
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
        missing = [name for name in fields.bottom if name not in current]
        for name in missing:
            if name not in options.input_shapes:
                _refuse_bottom(text, fields, name, current, later)
            layers.append(_extra_input(known["Input"], name, state.phase))
            current[name] = layers[-1].outputs[0]
        op = _layer_op(text, fields, known, schemas, state.phase, shapes, options)
        layer = Layer(fields.name, fields.type, op, [current[name] for name in fields.bottom])
        for value in layer.inputs:
            if layer not in value.consumers:
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


def _extra_input(input_class: type[LayerType], name: str, phase: Phase) -> Layer:
    op = input_class(LayerContext(name, "Input", phase, {}, 0, 1))
    layer = Layer(name, "Input", op)
    layer.outputs = [Value(name, layer)]
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
                "to read the net without it, allow unknown fields"
            )
    if not fields.type:
        raise PrototxtError(f"{text.where()}: {title} has no type")
    return fields


def _layer_op(
    text: Message,
    fields: LayerFields,
    known: Mapping[str, type[LayerType]],
    schemas: Mapping[str, list[type]],
    phase: Phase,
    stored_shapes: Mapping[str, tuple[Shape, ...]],
    options: Options,
) -> LayerType:
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
        )
    )


def _loss_weights(text: Message, fields: LayerFields, op: LayerType, tops: int) -> list[float]:
    if not fields.loss_weight:
        return [1.0 if op.role is Role.LOSS and index == 0 else 0.0 for index in range(tops)]
    if len(fields.loss_weight) != tops:
        raise NetError(
            f'{text.where()}: layer "{fields.name}" has {tops} tops but {len(fields.loss_weight)} loss_weight entries'
        )
    return list(fields.loss_weight)


def _make_params(layers: list[Layer], wanted: dict[Layer, LayerFields], seed: int) -> None:
    """Blobs from their specs; those with the same param name are one blob, owned by the first."""
    shared: dict[str, Param] = {}
    stated: dict[tuple[Param, str], float] = {}
    for layer in layers:
        if layer not in wanted:
            continue
        fields = wanted[layer]
        layer.specs = layer.op.blob_specs([value.shape for value in layer.inputs])
        if len(fields.param) > len(layer.specs):
            raise NetError(f"{layer.title}: has {len(layer.specs)} blobs, but {len(fields.param)} param entries")
        for index, spec in enumerate(layer.specs):
            check_shape(spec.shape, f"{layer.title}: blob {index}")
            given = fields.param[index] if index < len(fields.param) else ParamSpec()
            param = shared.get(given.name) if given.name else None
            if param is None:
                param = Param(spec, layer.name, index, seed)
                if given.name:
                    shared[given.name] = param
            else:
                _check_sharing(layer, index, spec.shape, param, given)
            _set_rates(layer, index, given, param, stated)
            layer.params.append(param)
        _read_text_blobs(layer, fields.blobs)


def _check_sharing(layer: Layer, index: int, shape: Shape, owner: Param, given: ParamSpec) -> None:
    permissive = given.share_mode is ShareMode.PERMISSIVE
    if np.prod(shape) != np.prod(owner.shape) or not (permissive or shape == owner.shape):
        raise NetError(
            f'{layer.title}: shares blob {index} ({shape_text(shape)}) as "{given.name}" with layer "{owner.layer}" '
            f"({shape_text(owner.shape)}); the shapes differ"
        )


def _set_rates(
    layer: Layer, index: int, given: ParamSpec, param: Param, stated: dict[tuple[Param, str], float]
) -> None:
    """The multipliers of a blob; of layers that share it any one may state them, and two have to agree."""
    for rate in ("lr_mult", "decay_mult"):
        value = getattr(given, rate)
        if value is None:
            continue
        if stated.setdefault((param, rate), value) != value:
            raise NetError(
                f'{layer.title}: shares blob {index} as "{given.name}" with layer "{param.layer}", '
                f"but their {rate} differ ({value:g} and {stated[param, rate]:g})"
            )
        setattr(param, rate, value)


def _read_text_blobs(layer: Layer, blobs: list[TextBlob]) -> None:
    if blobs and len(blobs) != len(layer.params):
        raise NetError(f"{layer.title}: has {len(layer.params)} blobs, but {len(blobs)} in its text")
    for param, blob in zip(layer.params, blobs, strict=False):
        if len(blob.data) != np.prod(param.shape):
            raise NetError(
                f"{layer.title}: blob {param.index} is {shape_text(param.shape)}, "
                f"but its text holds {len(blob.data)} numbers"
            )
        param.data = np.asarray(blob.data, np.float32).reshape(param.shape)
