"""Names of layers in a torch module: what its state_dict's keys start with, and where each layer's module is.

Torch is not needed. A dot makes a nested module, as in torch. A name that torch's tools could not use as an attribute
(``training``, ``forward``, ``class``, or ``x.y`` beside a layer ``x``) gives way to a safe one; the keys keep Caffe's.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterable

from ..naming import Names
from ..operators.base import Role
from .layer import Layer

MAX_DEPTH = 32
"""Modules inside each other; torch's walks through them are recursive."""


def state_names(layers: Iterable[Layer]) -> dict[Layer, str]:
    """Return {layer: a name of its own}, which its blobs' keys start with: the layer's name, or its type where it has
    none.

    Layers of one name, which Caffe allows, get ``_2``, ``_3`` and so on from the second on, without taking another
    layer's name; those that have weights come first, so that their keys are the name where only one has any.
    """
    computing = [layer for layer in layers if layer.op.role is not Role.DATA]
    free = Names(layer.name or layer.type for layer in computing)
    owned: set[str] = set()
    names: dict[Layer, str] = {}
    for layer in sorted(computing, key=lambda layer: not layer.params):
        name = layer.name or layer.type
        names[layer] = free.take(name) if name in owned else name
        owned.add(name)
    return names


def module_paths(names: Collection[str], reserved: Iterable[str]) -> dict[str, str]:
    """Return {name: where its module goes}, with dots for nested modules; ``reserved`` names what the root has as
    attributes."""
    refused = {*reserved, *keyword.kwlist}
    known = set(names)
    usable = {name for name in names if _usable(name, refused) and not _inside_another(name, known)}
    namespace = Names(known | refused | {name.partition(".")[0] for name in usable})
    return {name: name if name in usable else _safe(name, namespace) for name in names}


def _safe(name: str, namespace: Names) -> str:
    name = re.sub(r"[^0-9A-Za-z_]", "_", name).strip("_")
    name = name if name.isidentifier() else f"layer_{name}"
    return namespace.take(f"{name}_" if name in namespace else name)


def _usable(name: str, refused: set[str]) -> bool:
    parts = name.split(".")
    return len(parts) <= MAX_DEPTH and all(_usable_part(part, refused) for part in parts)


def _usable_part(part: str, refused: set[str]) -> bool:
    if part.isidentifier():  # fx writes it behind a dot
        return part.isascii() and part not in refused
    return part.isprintable() and part != "" and not {'"', "\\"} & set(part)  # fx writes it between quotes


def _inside_another(name: str, known: set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:end]) in known for end in range(1, len(parts)))
