"""Caffe's HDF5 weights (``.caffemodel.h5``): a dataset ``data/<layer>/<index>`` for every blob."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import CaffemodelError, MissingDependencyError
from .stored import Blob, Caffemodel, Run, StoredLayer

_FLOOR, _GROWTH = 32 << 20, 20
"""Bytes that all blobs may take: 32 MiB, and 20 times the file. Caffe writes them unpacked; floats shrink to a half."""


def read_hdf5(path: Path) -> Caffemodel:
    """Read the file whole; raises MissingDependencyError without h5py."""
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(f"{path}: HDF5 weights need h5py; install it: pip install h5py") from error
    blobs: dict[str, dict[int, Blob]] = {}
    room = _FLOOR + _GROWTH * path.stat().st_size
    try:
        with h5py.File(path, "r") as file:

            def keep(name: str, node: object) -> None:
                nonlocal room
                if isinstance(node, h5py.Dataset):
                    layer, _, index = name.rpartition("/")  # layer names may hold slashes of their own
                    room -= 4 * node.size
                    if room < 0:
                        raise ValueError(f"{name[:80]} declares {node.size} numbers, more than the file can hold")
                    array = np.asarray(node, "<f4")
                    run = Run(0, array.size, "<f4", 4)
                    blobs.setdefault(layer, {})[int(index)] = Blob(array.shape, False, array.tobytes(), [run])

            file["data"].visititems(keep)
    except (OSError, RuntimeError, KeyError, ValueError, AttributeError, TypeError) as error:  # h5py's, of all sorts
        raise CaffemodelError(f"{path}: is HDF5, but not Caffe's weights ({error})") from error
    for name, found in blobs.items():
        if sorted(found) != list(range(len(found))):
            raise CaffemodelError(
                f'{path}: leaves out a shared blob of layer "{name}" (it has {sorted(found)}); '
                "save the weights as .caffemodel instead"
            )
    layers = [StoredLayer(name, "", [found[i] for i in sorted(found)]) for name, found in blobs.items()]
    return Caffemodel(str(path), "", layers)
