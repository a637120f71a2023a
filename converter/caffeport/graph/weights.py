"""Stored weights onto a net's layers, by name, as Caffe's Net::CopyTrainedLayersFrom does it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from ..errors import CaffeportWarning, WeightsError, WeightsWarning, did_you_mean, name_list, shape_text
from ..formats.caffemodel import Blob, Caffemodel, StoredLayer
from ..formats.prototxt import Message
from .layer import Layer
from .net import Net, Shape


def attach(net: Net, stored: Caffemodel, *, allow_missing: bool) -> None:
    """Give every layer its stored blobs. What only the file has is named in a warning; Caffe ignores it.

    Raises WeightsError for a blob count or shape that differs (which layer, which shapes), for layers
    the file lacks (unless ``allow_missing``, or their fillers in the text leave nothing to chance), and for a file
    with which the net shares no layer.
    """
    learned = [layer for layer in net.layers if layer.params]
    by_name = stored.by_name()
    if learned and not any(layer.name in by_name and by_name[layer.name][0].blobs for layer in learned):
        raise WeightsError(
            f"{stored.path}: holds no weights for any layer of this net; it has "
            + name_list([layer.name for layer in stored.layers if layer.blobs])
            + ", the net has "
            + name_list([layer.name for layer in learned])
        )
    with_params = {layer.name for layer in learned}
    for layer in net.layers:
        if layer.name in by_name and (layer.params or layer.name not in with_params):
            # Caffe copies one after the other, so that the last stays.
            _copy(layer, by_name[layer.name][-1], stored.path)
    _tell_doubles([by_name[name] for name in with_params if len(by_name.get(name, ())) > 1], stored)
    # HDF5 files leave out what a layer shares; the layer that owns the blob brings it.
    own = [layer for layer in learned if any(param.layer == layer.name for param in layer.params)]
    absent = [layer for layer in own if layer.name not in by_name]
    fixed = [layer for layer in absent if is_fixed(layer)]
    for param in (param for layer in fixed for param in layer.params):
        param.is_fixed = param.from_filler
    if fixed:
        warnings.warn(
            f"{stored.path} lacks {name_list(layer.name for layer in fixed)}: as the text's fillers fix them",
            WeightsWarning,
            stacklevel=4,
        )
    _tell_unused(net, stored, by_name, absent)
    missing = [layer.name for layer in absent if layer not in fixed]
    if missing and not allow_missing:
        raise WeightsError(
            f"{stored.path}: lacks the weights of {name_list(missing)}; Caffe would leave them at random. "
            "Are these weights for this net? If that is meant, allow missing weights (allow_missing_weights=True, "
            "--allow-missing-weights)"
        )
    if missing:
        warnings.warn(
            f"{stored.path} lacks {name_list(missing)}: initialised by their fillers", CaffeportWarning, stacklevel=4
        )


def is_fixed(layer: Layer) -> bool:
    """Return whether the layer's blobs are what its text says, with nothing left to chance or to training.

    Every filler is constant or bilinear, and the text has one or forbids training (lr_mult: 0). A first blob of
    zeros, which a text without fillers means, makes no layer's numbers.
    """
    fillers = [spec.filler for spec in layer.specs]
    if any(filler.type not in ("constant", "bilinear") for filler in fillers):
        return False
    messages = [entry.value for entry in layer.text.fields if isinstance(entry.value, Message)] if layer.text else []
    stated = any(entry.name.endswith("filler") for message in messages for entry in message.fields)
    frozen = all(param.lr_mult == 0 for param in layer.params) and all(spec.trained for spec in layer.specs)
    return (stated or frozen) and (fillers[0].type == "bilinear" or fillers[0].value != 0)


def _tell_unused(net: Net, stored: Caffemodel, by_name: dict[str, list[StoredLayer]], absent: list[Layer]) -> None:
    """Warn of stored weights that no layer takes; those of the text's other phase are not meant for this one."""
    known = {layer.name for layer in net.layers} | {text.text("name") for text in net.message.messages("layer")}
    unused = [name for name, layers in by_name.items() if layers[-1].blobs and name not in known]
    if not unused:
        return
    taken = [index for index, layer in enumerate(stored.layers) if layer.name in known and layer.blobs]
    gone = set(unused)
    behind = [index for index, layer in enumerate(stored.layers) if layer.name in gone]
    ordered = not str(stored.path).endswith((".h5", ".hdf5"))  # HDF5 keeps its layers by their names
    if (
        ordered and not absent and taken and min(behind) > max(taken)
    ):  # a deploy text leaves out what training has on top
        text = f"{name_list(unused)} are not taken: behind this net's end"
        warnings.warn(f"{stored.path}: {text}", WeightsWarning, stacklevel=4)
        return
    near = [f'"{layer.name}"{hint}' for layer in absent if (hint := did_you_mean(layer.name, unused))]
    warnings.warn(
        f"{stored.path}: no layer of the net takes its weights of {name_list(unused)}"
        + (f"; it lacks {', '.join(near[:3])}" if near else ""),
        WeightsWarning,
        stacklevel=4,
    )


def _tell_doubles(doubles: list[list[StoredLayer]], stored: Caffemodel) -> None:
    """Warn of layers of one name in the file whose numbers differ; sharing layers are stored twice, too."""
    for layers in doubles:
        if all(_equal(layers[-1], layer) for layer in layers[:-1]):
            continue
        places = " and ".join(
            str(1 + index) for index, layer in enumerate(stored.layers) if layer.name == layers[0].name
        )
        warnings.warn(
            f'{stored.path}: layers {places} of the file are called "{layers[0].name}" and differ; as in Caffe the '
            "last one's weights are used",
            WeightsWarning,
            stacklevel=5,
        )


def _equal(one: StoredLayer, other: StoredLayer) -> bool:
    if [blob.shape for blob in one.blobs] != [blob.shape for blob in other.blobs]:
        return False
    pairs = zip(one.blobs, other.blobs, strict=True)
    return all(np.array_equal(a.array(), b.array(), equal_nan=True) for a, b in pairs)


def _copy(layer: Layer, stored: StoredLayer, path: str) -> None:
    if len(stored.blobs) != len(layer.params):
        shapes = ", ".join(shape_text(blob.shape) for blob in stored.blobs) or "none"
        expected = ", ".join(shape_text(spec.shape) for spec in layer.specs) or "none"
        raise WeightsError(
            f"{layer.title}: has {len(layer.params)} blobs ({expected}), but {path} holds {len(stored.blobs)} "
            f"({shapes}) for it; these weights belong to another net"
        )
    for index, (param, spec, blob) in enumerate(zip(layer.params, layer.specs, stored.blobs, strict=True)):
        if not blob.fits(spec.shape):
            raise WeightsError(
                f"{layer.title}: blob {index} is {shape_text(blob.shape)} in {path}, but the net needs "
                f"{shape_text(spec.shape)}; these weights belong to another net, or the text was changed"
            )
        param.read_from(_reader(blob, param.shape))
        param.from_file = True


def _reader(blob: Blob, shape: Shape) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        return blob.array().reshape(shape)

    return read
