"""Names of layers as places in a torch module.

A dot makes a nested module, as in torch. A name that torch's tools could not use as an attribute (``training``,
``forward``, ``class``, or ``x.y`` beside a layer ``x``) gives way to a safe one; the state_dict keeps Caffe's.
"""

from __future__ import annotations

import itertools
import keyword
import re
from collections.abc import Iterable, Sequence
from functools import cache

import torch
from torch import fx, nn

from .errors import NetError
from .net import Layer


def caffe_names(layers: Sequence[Layer]) -> list[str]:
    """A name of its own for every layer: Caffe's, which starts its blobs' keys; a number behind it where it has none.

    Raises NetError for two layers of one name that both have blobs.
    """
    taken: set[str] = set()
    for layer in layers:
        if layer.params:
            name = layer.name or layer.type
            if name in taken:
                raise NetError(
                    f'{layer.title}: another layer is called "{name}" too; layers with weights need own names'
                )
            taken.add(name)
    names = []
    for layer in layers:
        name = layer.name or layer.type
        if not layer.params:
            numbered = (f"{name}_{number}" for number in itertools.count(2))
            name = next(free for free in itertools.chain([name], numbered) if free not in taken)
            taken.add(name)
        names.append(name)
    return names


def module_paths(names: Sequence[str], reserved: Iterable[str]) -> list[str]:
    """Where the module of each name goes, with dots for nested modules; ``reserved``: attributes of the root."""
    refused = _attributes() | set(reserved)
    known = set(names)
    kept = {name for name in names if _usable(name, refused) and not _inside_another(name, known)}
    taken = known | refused | {name.partition(".")[0] for name in kept}
    paths = []
    for name in names:
        if name not in kept:
            name = re.sub(r"[^0-9A-Za-z_]", "_", name).strip("_")
            name = name if name.isidentifier() else f"layer_{name}"
            while name in taken or keyword.iskeyword(name):
                name += "_"
            taken.add(name)
        paths.append(name)
    return paths


def _usable(name: str, refused: set[str]) -> bool:
    return all(_usable_part(part, refused) for part in name.split("."))


def _usable_part(part: str, refused: set[str]) -> bool:
    if part.isidentifier():  # fx writes it behind a dot
        return part.isascii() and part not in refused and not keyword.iskeyword(part)
    return part.isprintable() and part != "" and not {'"', "\\"} & set(part)  # fx writes it between quotes


def _inside_another(name: str, known: set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:end]) in known for end in range(1, len(parts)))


@cache
def _attributes() -> set[str]:
    """What a module is asked for by itself, also after it went through fx or TorchScript."""
    return {"self", *dir(fx.GraphModule(nn.Module(), fx.Graph())), *dir(torch.jit.ScriptModule)}
