"""The files that real Caffe runs: the user's own as long as they say what the Net does, else caffeport's."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..errors import CaffeportError
from ..formats import caffemodel, prototxt
from ..formats.prototxt import Message
from ..formats.upgrade import upgrade
from ..graph.layer import Layer
from ..graph.net import Net
from ..json_text import to_json
from ..operators import registry
from ..operators.base import Phase, Role
from ..operators.data import DataLayer
from ..operators.python_layer import operator_class
from .writer import save

SCRIPT = Path(__file__).with_name("_pycaffe_forward.py")
WRITES_FILES = {"HDF5Output"}
"""Left out of the net that Caffe gets, where they would overwrite what the user has."""


@dataclass
class Job:
    """``content``: what the script reads; ``keys``: {Value key: its key among the script's results}."""

    content: dict[str, Any]
    keys: dict[str, str]
    layers: list[Layer]
    text_name: str
    weights_name: str
    users_weights: bool


def computed(net: Net) -> list[Layer]:
    """The layers that Caffe runs, in its order."""
    return [layer for layer in net.layers if layer.op.role is not Role.DATA and layer.type not in WRITES_FILES]


def prepare(net: Net, inputs: Mapping[str, np.ndarray], folder: Path, training: bool) -> Job:
    """Write all that the script reads into ``folder``.

    Raises CaffeportError where the folder's disk is full.
    """
    written = folder / "net.caffemodel"
    save(net, written)
    weights, weights_name = [written], "the weights that caffeport writes"
    users_weights = net.weights_path is not None and _same_weights(net, net.weights_path)
    if net.weights_path is not None and users_weights:
        weights.insert(0, net.weights_path.resolve())
        weights_name = net.weights_path.name
    source = Path(net.message.source)
    if _same_text(net, training):
        text, text_name = source.resolve(), source.name
    else:
        text, text_name = folder / "net.prototxt", f"caffeport's text of {source.name}"
        text.write_bytes(str(_text(net, training)).encode("utf-8", "surrogatepass"))
    layers = computed(net)
    keys = {value.key: f"top{i}" for i, value in enumerate(v for layer in layers for v in layer.outputs)}
    named = {blob: f"input{index}" for index, blob in enumerate(inputs)}
    content = {
        "net": str(text),
        "phase": net.phase.value,
        "level": _level(net),
        "stages": list(net.options.stages),
        "weights": [str(path) for path in weights],
        "inputs": named,
        "layers": [
            {
                "name": layer.name,
                "blobs": len(layer.params),
                "tops": [[value.name, keys[value.key]] for value in layer.outputs],
            }
            for layer in layers
        ],
    }
    try:
        arrays: dict[str, Any] = {named[blob]: array for blob, array in inputs.items()}
        np.savez(folder / "inputs.npz", **arrays)
        (folder / "job.json").write_text(to_json(content))
        shutil.copy(SCRIPT, folder / "forward.py")  # in its own folder Python would take caffeport's modules for others
    except OSError as error:
        raise CaffeportError(f"{folder}: {error.strerror or error}; TMPDIR sets another folder") from error
    return Job(content, keys, layers, text_name, weights_name, users_weights)


def _level(net: Net) -> int:
    stated = [state.text("level", "0") for state in net.message.messages("state")]
    return net.options.level or int(stated[-1] if stated else 0)


def _same_text(net: Net, training: bool) -> bool:
    """Return whether Caffe may be given the file itself: it still says what ``net`` does, and needs no data."""
    if net.phase is Phase.TRAIN and not training:
        return False
    for layer in net.layers:
        if layer.type in WRITES_FILES:
            return False
        if layer.op.role is Role.DATA:
            shapes = [value.shape for value in layer.outputs]
            if layer.type != "Input" or cast(DataLayer, layer.op).declared_shapes() != shapes:
                return False
    try:
        return str(upgrade(prototxt.load(net.message.source), registry(net.options.custom_layers))) == str(net.message)
    except CaffeportError:
        return False


def _same_weights(net: Net, path: Path) -> bool:
    """Return whether every blob of the net is, number by number, the one in that file."""
    try:
        stored = {layer.name: layer.blobs for layer in caffemodel.read(path).layers}
    except CaffeportError:
        return False
    for layer in net.layers:
        theirs = stored.get(layer.name, [])
        if len(theirs) != len(layer.params):
            return False
        for param, blob in zip(layer.params, theirs, strict=True):
            if not np.array_equal(param.data.reshape(-1), blob.array().reshape(-1), equal_nan=True):
                return False
    return True


def _text(net: Net, training: bool) -> Message:
    """The net's text with Input layers for its data layers, of the shapes that the net has.

    A train net whose pass is as in TEST keeps the layers of its phase, but each is told to act as in TEST.
    """
    known = registry(net.options.custom_layers)
    text = Message()
    for layer in net.layers:
        if layer.op.role is Role.DATA:
            text.add("layer", _input_layer(layer))
    for entry in net.message.fields:
        if entry.name == "layer" and isinstance(entry.value, Message):
            operator = operator_class(entry.value, known)
            is_data = operator.role is Role.DATA if operator is not None else not entry.value.has("bottom")
            if is_data or entry.value.text("type") in WRITES_FILES:
                continue
            if net.phase is Phase.TRAIN and not training and not entry.value.has("phase"):
                copy = Message(list(entry.value.fields))
                copy.add("phase", "TEST")
                text.add("layer", copy)
                continue
        text.fields.append(entry)
    return text


def _input_layer(layer: Layer) -> Message:
    text, parameters = Message(), Message()
    text.add("name", layer.name, quoted=True)
    text.add("type", "Input", quoted=True)
    for value in layer.outputs:
        text.add("top", value.name, quoted=True)
        shape = Message()
        for dim in value.shape:
            shape.add("dim", dim)
        parameters.add("shape", shape)
    text.add("input_param", parameters)
    return text
