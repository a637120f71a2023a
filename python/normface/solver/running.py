"""What layers count in training and keep in no blob (``running_state``): annealed margins, moving means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from caffeport.to_torch.module import CaffeModule
from torch import Tensor


def state(model: CaffeModule) -> dict[str, Any]:
    """Return {module: {attribute: number or array}}, copied."""
    counters: dict[str, Any] = {}
    for name, module in _by_layer(model):
        for attribute in getattr(module, "running_state", ()):
            value = getattr(module, attribute)
            value = value.detach().cpu().numpy().copy() if isinstance(value, Tensor) else value
            counters.setdefault(name, {})[attribute] = value
    return counters


def restore(model: CaffeModule, counters: Mapping[str, Mapping[str, Any]], device: torch.device) -> None:
    """Set what ``state`` returned."""
    modules = dict(_by_layer(model))
    for name, held in counters.items():
        for attribute, value in held.items():
            number = torch.from_numpy(value).to(device) if isinstance(value, np.ndarray) else value
            setattr(modules[name], attribute, number)


def _by_layer(model: CaffeModule) -> Iterator[tuple[str, Any]]:
    """The modules with their names, which start with Caffe's name of the layer."""
    for name, path in model.layer_paths.items():
        yield from model.get_submodule(path).named_modules(prefix=name)
