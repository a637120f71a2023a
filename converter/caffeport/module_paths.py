"""The place of each layer in a torch module, from which its state_dict keys follow; torch is not needed."""

from __future__ import annotations

from collections.abc import Iterable

from .layers.base import Role
from .net import Layer


def module_paths(layers: Iterable[Layer]) -> dict[Layer, str]:
    """{layer: path}, the layer's name, or its type where it has none; a dot in it makes a nested module.

    Layers of one name, which Caffe allows, get ``_2``, ``_3`` and so on from the second on, without taking another
    layer's name; those that have weights come first, so that their keys are the name where only one has any.
    """
    computing = [layer for layer in layers if layer.op.role is not Role.DATA]
    names = {layer.name or layer.type for layer in computing}
    used: dict[str, int] = {}
    taken: set[str] = set()
    paths: dict[Layer, str] = {}
    for layer in sorted(computing, key=lambda layer: not layer.params):
        name = path = layer.name or layer.type
        number = used.get(name, 0) + 1
        while number > 1 and ((path := f"{name}_{number}") in names or path in taken):
            number += 1
        used[name] = number
        taken.add(path)
        paths[layer] = path
    return paths
