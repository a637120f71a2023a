"""A net's weights as safetensors, with the keys of ``to_torch()``'s state_dict; torch is not needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import CaffeportError
from ..files import replacing_path
from ..graph.module_names import state_names
from ..graph.net import Net
from ..lazy import require


def save_safetensors(net: Net, path: str | Path) -> None:
    """Write every blob; load with ``model.load_state_dict(safetensors.torch.load_file(path))``.

    Blobs that layers share are written under each of their names, since load_state_dict wants all keys.
    """
    with replacing_path(path) as temporary:
        write_safetensors(net, temporary)


def write_safetensors(net: Net, path: Path) -> None:
    """Do as save_safetensors does, straight into ``path``."""
    metadata = {"format": "pt", "net": net.name}
    require("safetensors.numpy").save_file(state_arrays(net), str(path), metadata=metadata)


def state_arrays(net: Net) -> dict[str, np.ndarray]:
    """The state_dict of ``net.to_torch()`` as arrays of their own. Raises CaffeportError for a net without weights."""
    names = state_names(net.layers)
    state = {
        f"{names[layer]}.{spec.name}": np.array(param.data, np.float32)
        for layer in net.layers
        for spec, param in zip(layer.specs, layer.params, strict=True)
    }
    if not state:
        raise CaffeportError(f"net {net.name!r} has no weights to write")
    return state
