"""A net's weights as safetensors, with the keys of ``to_torch()``'s state_dict; torch is not needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .errors import CaffeportError
from .files import replacing_path
from .lazy import require
from .net import Net


def save_safetensors(net: Net, path: str | Path) -> None:
    """Write every blob; load with ``model.load_state_dict(safetensors.torch.load_file(path))``.

    Blobs that layers share are written under each of their names, since load_state_dict wants all keys.
    """
    numpy_format = require("safetensors.numpy")
    state = {
        f"{layer.name or layer.type}.{spec.name}": np.array(blob, np.float32)
        for layer in net.layers
        for spec, blob in zip(layer.specs, (param.data for param in layer.params), strict=True)
    }
    if not state:
        raise CaffeportError(f"{path}: the net has no weights to write")
    with replacing_path(path) as temporary:
        numpy_format.save_file(state, str(temporary), metadata={"format": "pt", "net": net.name})
