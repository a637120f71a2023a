"""Back to Caffe: a net with other weights, and the files that Caffe loads."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportError, WeightsError, did_you_mean, shape_text
from ..files import replacing, replacing_path, same_file
from ..formats import caffemodel
from ..formats.hdf5 import write_arrays
from ..graph.layer import Layer
from ..graph.module_names import state_names
from ..graph.net import Net


def with_weights(net: Net, weights: Any) -> Net:
    """A copy of ``net`` with other numbers in its blobs; ``net`` stays as it is.

    weights: a module made by ``net.to_torch()`` (also compiled or wrapped), its state_dict, or
    ``{layer name: [arrays]}``. Layers that a dict of arrays leaves out keep their numbers.

    Raises WeightsError that names the layer for a missing, unknown or misshapen blob.
    """
    copy = _copy(net)
    for layer, mine in zip(copy.layers, net.layers, strict=True):
        for param, source in zip(layer.params, mine.params, strict=True):
            param.carry(source)
    state = weights.state_dict() if hasattr(weights, "state_dict") else weights
    if not isinstance(state, Mapping):
        raise WeightsError(f"expected a module, a state_dict or {{layer: [arrays]}}, got {type(weights).__name__}")
    if state and all(isinstance(value, (list, tuple)) for value in state.values()):
        _from_arrays(copy, state)
    else:
        _from_state(copy, state)
    return copy


def _copy(net: Net) -> Net:
    """The same net with Params of its own: built again from its text, with the shapes it has."""
    from ..graph.build import build

    shapes = {value.name: value.shape for value in net.input_values}
    held = [
        caffemodel.StoredLayer(layer.name, layer.type, [caffemodel.Blob(spec.shape) for spec in layer.specs])
        for layer in net.layers
    ]
    return build(net.message, caffemodel.Caffemodel("", net.name, held), replace(net.options, input_shapes=shapes))


def _from_arrays(net: Net, arrays: Mapping[str, Any]) -> None:
    layers = {layer.name: layer for layer in net.layers if layer.params}
    for name, blobs in arrays.items():
        if name not in layers:
            raise WeightsError(f'the net has no layer "{name}" with weights{did_you_mean(name, layers)}')
        layer = layers[name]
        if len(blobs) != len(layer.params):
            raise WeightsError(f"{layer.title}: expected {len(layer.params)} blobs, got {len(blobs)}")
        for index, blob in enumerate(blobs):
            _set(layer, index, np.asarray(blob))


# What torch.compile and the data-parallel wrappers put before every key.
_PREFIXES = ("_orig_mod.", "module.")


def _from_state(net: Net, state: Mapping[str, Any]) -> None:
    names = state_names(net.layers)
    state = _unwrapped(state, {f"{names[layer]}.{spec.name}" for layer in net.layers for spec in layer.specs})
    for layer in net.layers:
        for index, spec in enumerate(layer.specs):
            key = f"{names[layer]}.{spec.name}"
            if key not in state:
                raise WeightsError(f'{layer.title}: the weights have no "{key}"{did_you_mean(key, state)}')
            value = state[key]
            # float() first: NumPy has no bfloat16.
            array = value.detach().cpu().float().numpy() if hasattr(value, "detach") else np.asarray(value)
            _set(layer, index, array)


def _unwrapped(state: Mapping[str, Any], wanted: set[str]) -> Mapping[str, Any]:
    """The state without wrappers' prefixes; a layer may be called "module.x", so only while wanted keys are missing."""
    while not wanted <= state.keys() and any(key.startswith(_PREFIXES) for key in state):
        state = {key.partition(".")[2] if key.startswith(_PREFIXES) else key: value for key, value in state.items()}
    return state


def _set(layer: Layer, index: int, array: np.ndarray) -> None:
    spec, param = layer.specs[index], layer.params[index]
    if tuple(array.shape) not in (spec.shape, param.shape):
        raise WeightsError(
            f"{layer.title}: blob {index} ({spec.name}) is {shape_text(spec.shape)}, got {shape_text(array.shape)}"
        )
    param.data = np.array(array, np.float32).reshape(param.shape)


def save(net: Net, path: str | Path, prototxt: str | Path | None = None) -> None:
    """Write the weights as a V2 ``.caffemodel`` and, if asked for, the net's text (upgraded to V2): both or neither.

    A path that ends in ``.h5`` gets them as HDF5, as Caffe's ``snapshot_format: HDF5`` does.
    """
    with ExitStack() as stack:
        if prototxt is not None:
            if same_file(path, prototxt):
                raise CaffeportError(f"{path}: is the name of two files to write; choose another for one of them")
            stream = stack.enter_context(replacing(prototxt))
            stream.write(str(net.message).encode("utf-8", "surrogatepass"))
        if str(path).endswith(".h5"):
            temporary = stack.enter_context(replacing_path(path))
            write_arrays(temporary, ((layer.name, layer.blobs) for layer in net.layers if layer.params))
            return
        caffemodel.write(
            path,
            net.name,
            (
                (layer.name, layer.type, layer.bottoms, layer.tops, layer.blobs)
                for layer in net.layers
                if layer.params or layer.inputs
            ),
        )
