"""A net's weights as safetensors, with the keys of ``to_torch()``'s state_dict; neither torch nor a copy is needed.

The format: eight bytes with the header's length (little-endian), the header as JSON, the numbers. The library of that
name writes the entries of the metadata in an order of chance, so that no two files would be equal.
Format: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportError
from ..files import replacing_path, write_bytes
from ..graph.file_facts import file_facts
from ..graph.layer import Param
from ..graph.module_names import state_names
from ..graph.net import Net
from ..graph.preprocessing import Preprocessing

_KINDS = {"f8": "F64", "i8": "I64", "f4": "F32", "i4": "I32", "f2": "F16", "i2": "I16", "i1": "I8", "u1": "U8"}
_KINDS |= {"b1": "BOOL"}
_ALIGNMENT = 8


def save_safetensors(net: Net, path: str | Path) -> None:
    """Write every blob; load with ``model.load_state_dict(safetensors.torch.load_file(path))``.

    Blobs that layers share are written under each of their names, since load_state_dict wants all keys.
    """
    with replacing_path(path) as temporary:
        write_safetensors(net, temporary)


def write_safetensors(net: Net, path: Path, before: Preprocessing | None = None) -> None:
    """Do as save_safetensors does, straight into ``path``; ``before`` is noted, see caffeport.graph.file_facts."""
    params = _state_params(net)
    metadata = {"format": "pt", "net": net.name, **file_facts(net, net.outputs, before)}
    shapes = {key: (np.dtype("<f4"), param.shape) for key, param in params.items()}
    _write(path, shapes, lambda key: params[key].data, metadata)


def write_arrays(arrays: Mapping[str, np.ndarray], path: Path, metadata: Mapping[str, str]) -> None:
    """Write arrays of any numbers straight into ``path``."""
    shapes = {key: (array.dtype.newbyteorder("<"), array.shape) for key, array in arrays.items()}
    _write(path, shapes, lambda key: arrays[key], metadata)


def state_arrays(net: Net) -> dict[str, np.ndarray]:
    """The state_dict of ``net.to_torch()`` as arrays of their own. Raises CaffeportError for a net without weights."""
    return {key: np.array(param.data, np.float32) for key, param in _state_params(net).items()}


def _state_params(net: Net) -> dict[str, Param]:
    names = state_names(net.layers)
    params = {
        f"{names[layer]}.{spec.name}": param
        for layer in net.layers
        for spec, param in zip(layer.specs, layer.params, strict=True)
    }
    if not params:
        raise CaffeportError(f"net {net.name!r} has no weights to write")
    return params


def _write(
    path: Path,
    shapes: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    load: Callable[[str], np.ndarray],
    metadata: Mapping[str, str],
) -> None:
    """Write one array after the other, wide numbers first, so that each begins at a multiple of its width."""
    order = sorted(shapes, key=lambda key: (-shapes[key][0].itemsize, key))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    position = 0
    for key in order:
        dtype, shape = shapes[key]
        end = position + dtype.itemsize * math.prod(shape)
        kind = _KINDS[f"{dtype.kind}{dtype.itemsize}"]
        header[key] = {"dtype": kind, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with open(path, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for key in order:
            numbers = np.ascontiguousarray(load(key), shapes[key][0]).reshape(-1).view(np.uint8).data
            write_bytes(stream, numbers)
