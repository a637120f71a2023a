"""Stored weights onto a net's layers, by name, as Caffe's Net::CopyTrainedLayersFrom does it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from .caffemodel import Blob, Caffemodel, StoredLayer
from .errors import CaffeportWarning, WeightsError, shape_text
from .net import Layer, Net, Shape


def attach(net: Net, stored: Caffemodel, *, allow_missing: bool) -> None:
    """Give every layer its stored blobs. Layers that only the file has are ignored, as in Caffe.

    Raises WeightsError for a blob count or shape that differs (which layer, which shapes), for layers
    the file lacks (unless ``allow_missing``), and for a file with which the net shares no layer.
    """
    learned = [layer for layer in net.layers if layer.params]
    by_name = {layer.name: layer for layer in stored.layers}
    if learned and not any(by_name.get(layer.name) and by_name[layer.name].blobs for layer in learned):
        raise WeightsError(
            f"{stored.path}: holds no weights for any layer of this net; it has "
            + _names([layer.name for layer in stored.layers if layer.blobs])
            + ", the net has "
            + _names([layer.name for layer in learned])
        )
    for layer in net.layers:
        if layer.name in by_name:
            _copy(layer, by_name[layer.name], stored.path)
    # HDF5 files leave out what a layer shares; the layer that owns the blob brings it.
    own = [layer for layer in learned if any(param.layer == layer.name for param in layer.params)]
    missing = [layer.name for layer in own if layer.name not in by_name]
    if missing and not allow_missing:
        raise WeightsError(
            f"{stored.path}: lacks the weights of {_names(missing)}; Caffe would leave them at random. "
            "Are these weights for this net? If that is meant, allow missing weights (allow_missing_weights=True, "
            "--allow-missing-weights)"
        )
    if missing:
        warnings.warn(
            f"{stored.path} lacks {_names(missing)}: initialised by their fillers", CaffeportWarning, stacklevel=4
        )


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


def _reader(blob: Blob, shape: Shape) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        return blob.array().reshape(shape)

    return read


def _names(names: list[str], most: int = 3) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "none"
