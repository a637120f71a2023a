"""A net's learned blobs: from each layer's specs, shared by name, with numbers the text may hold."""

from __future__ import annotations

import numpy as np

from ..errors import NetError, shape_text
from ..operators.base import Shape
from .layer import Layer, Param, check_shape, is_allowed
from .net_fields import LayerFields, ParamSpec, ShareMode, TextBlob

_NO_SPEC = ParamSpec()


def make_params(layers: list[Layer], wanted: dict[Layer, LayerFields], seed: int) -> None:
    """Make the blobs of their specs; those with the same param name are one blob, owned by the first."""
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
            if not is_allowed(spec.shape):
                check_shape(spec.shape, f"{layer.title}: blob {index}")
            param_spec = fields.param[index] if index < len(fields.param) else _NO_SPEC
            param = shared.get(param_spec.name) if param_spec.name else None
            if param is None:
                param = Param(spec, layer.name, index, seed)
                if param_spec.name:
                    shared[param_spec.name] = param
            else:
                _check_sharing(layer, index, spec.shape, param, param_spec)
            _set_rates(layer, index, param_spec, param, stated)
            layer.params.append(param)
        if fields.blobs:
            _read_text_blobs(layer, fields.blobs)
    _check_names(layers)


def _check_names(layers: list[Layer]) -> None:
    """Refuse layers of one name that hold other blobs, since weights find their layer by its name alone."""
    first: dict[str, Layer] = {}
    for layer in layers:
        if not layer.params:
            continue
        other = first.setdefault(layer.name, layer)
        if other is not layer and list(map(id, other.params)) != list(map(id, layer.params)):
            raise NetError(
                f'{_place(layer)}: {layer.title}: another layer is called "{layer.name}" too, at {_place(other)}, and '
                "both have weights, which Caffe finds by the name: one of them would get none. Rename one, or let them "
                'share all their blobs (param { name: "..." } for each)'
            )


def _place(layer: Layer) -> str:
    return layer.text.where() if layer.text else "the text"


def _check_sharing(layer: Layer, index: int, shape: Shape, owner: Param, param_spec: ParamSpec) -> None:
    permissive = param_spec.share_mode is ShareMode.PERMISSIVE
    if np.prod(shape) != np.prod(owner.shape) or not (permissive or shape == owner.shape):
        raise NetError(
            f'{layer.title}: shares blob {index} ({shape_text(shape)}) as "{param_spec.name}" with layer '
            f'"{owner.layer}" ({shape_text(owner.shape)}); the shapes differ'
        )


def _set_rates(
    layer: Layer, index: int, param_spec: ParamSpec, param: Param, stated: dict[tuple[Param, str], float]
) -> None:
    """Set the multipliers of a blob; of layers that share it any one may state them, and two have to agree."""
    for rate, value in (("lr_mult", param_spec.lr_mult), ("decay_mult", param_spec.decay_mult)):
        if value is None:
            continue
        if stated.setdefault((param, rate), value) != value:
            raise NetError(
                f'{layer.title}: shares blob {index} as "{param_spec.name}" with layer "{param.layer}", '
                f"but their {rate} differ ({value:g} and {stated[param, rate]:g})"
            )
        setattr(param, rate, value)


def _read_text_blobs(layer: Layer, blobs: list[TextBlob]) -> None:
    if len(blobs) != len(layer.params):
        raise NetError(f"{layer.title}: has {len(layer.params)} blobs, but {len(blobs)} in its text")
    for param, blob in zip(layer.params, blobs, strict=False):
        if len(blob.data) != np.prod(param.shape):
            raise NetError(
                f"{layer.title}: blob {param.index} is {shape_text(param.shape)}, "
                f"but its text holds {len(blob.data)} numbers"
            )
        param.data = np.asarray(blob.data, np.float32).reshape(param.shape)
