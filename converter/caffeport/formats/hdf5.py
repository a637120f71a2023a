"""Caffe's HDF5 weights (``.caffemodel.h5``): a dataset ``data/<layer>/<index>`` for every blob."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffemodelError, MissingDependencyError
from .stored import Blob, Caffemodel, Run, StoredLayer

_MOST_BLOBS = 10_000
"""h5py takes a tenth of a millisecond for each; a net of a thousand layers has 3,000."""
_FLOOR, _GROWTH = 32 << 20, 20
"""Bytes that all blobs may take: 32 MiB, and 20 times the file. Caffe writes them unpacked; floats shrink to a half."""


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(f"{path}: HDF5 weights need h5py; install it: pip install h5py") from error
    return h5py


def read_hdf5(path: Path) -> Caffemodel:
    """Read the file whole; raises MissingDependencyError without h5py."""
    h5py = _h5py(path)
    blobs: dict[str, dict[int, Blob]] = {}
    room, count = _FLOOR + _GROWTH * path.stat().st_size, 0
    try:
        with h5py.File(path, "r") as file:

            def keep(name: str, node: object) -> None:
                nonlocal room, count
                count += 1  # groups too
                if count > 2 * _MOST_BLOBS:
                    raise ValueError(f"it holds more than {_MOST_BLOBS} blobs")
                if isinstance(node, h5py.Dataset):
                    layer, _, index = name.rpartition("/")  # layer names may hold slashes of their own
                    room -= 4 * node.size
                    if room < 0:
                        raise ValueError(f"{name[:80]} declares {node.size} numbers, more than the file can hold")
                    array = np.asarray(node, "<f4")
                    run = Run(0, array.size, "<f4", 4)
                    blobs.setdefault(layer, {})[int(index)] = Blob(array.shape, False, array.tobytes(), [run])

            if "data" not in file and ("model_weights" in file or "layer_names" in file.attrs):
                raise ValueError("it is of Keras")
            file["data"].visititems(keep)
    except (OSError, RuntimeError, KeyError, ValueError, AttributeError, TypeError) as error:  # h5py's, of all sorts
        raise CaffemodelError(f"{path}: is HDF5, but not Caffe's weights ({error})") from error
    for name, by_index in blobs.items():
        if sorted(by_index) != list(range(len(by_index))):
            raise CaffemodelError(
                f'{path}: leaves out a shared blob of layer "{name}" (it has {sorted(by_index)}); '
                "save the weights as .caffemodel instead"
            )
    layers = [StoredLayer(name, "", [by_index[i] for i in sorted(by_index)]) for name, by_index in blobs.items()]
    return Caffemodel(str(path), "", layers)


def write_hdf5(path: Path, layers: Iterable[tuple[str, str, Sequence[Blob]]]) -> None:
    """Write stored (name, type, blobs) layers to the open place ``path``.

    Caffe compares shapes axis by axis there, so blobs of the old form with four axes get as many as today's layers
    give them. Raises as write_arrays does.
    """
    write_arrays(
        path,
        (
            (name, [blob.array().reshape(_axes_of_today(kind, index, blob)) for index, blob in enumerate(blobs)])
            for name, kind, blobs in layers
        ),
    )


def write_arrays(path: Path, layers: Iterable[tuple[str, Sequence[np.ndarray]]]) -> None:
    """Write (name, arrays) layers to the open place ``path`` as Caffe's Net::ToHDF5 does.

    Raises MissingDependencyError without h5py, CaffemodelError for a layer's name that cannot stand in such a file.
    """
    h5py = _h5py(path)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for name, arrays in layers:
            if arrays and ("/" in name or name in ("", ".", "..")):
                raise CaffemodelError(
                    f'layer "{name}" cannot stand in HDF5 weights, where Caffe takes a slash for a folder; write them '
                    "as .caffemodel (snapshot_format: BINARYPROTO)"
                )
            for index, array in enumerate(arrays):
                data.require_group(name).create_dataset(str(index), data=np.asarray(array, np.float32))


def _axes_of_today(kind: str, index: int, blob: Blob) -> tuple[int, ...]:
    """Return the shape without the axes of 1 that old files put in front: a bias has one axis, an inner product two."""
    if not blob.legacy:
        return blob.shape
    axes = {"InnerProduct": 2, "Embed": 2, "Convolution": 4, "Deconvolution": 4}.get(kind, 0) if index == 0 else 1
    least = axes or (1 if blob.shape[:3] == (1, 1, 1) else 4)
    extra = min(4 - least, next((at for at, size in enumerate(blob.shape) if size != 1), 3))
    return blob.shape[extra:]
