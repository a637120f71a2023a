"""Which source a layer's torch module becomes: the table of all that have a form of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from torch import nn

from ...errors import ExportError
from ...graph.layer import Layer, Value
from .steps import Arguments, Attribute


@dataclass
class Subject:
    """A layer, its module on the meta device, and its blobs by the attributes' names."""

    layer: Layer
    module: Any
    blobs: dict[str, np.ndarray]
    wanted: Collection[Value] = ()
    """What the source is to give, of the whole net."""

    @property
    def ranks(self) -> list[int]:
        """How many axes each bottom has."""
        return [len(value.shape) for value in self.layer.inputs]

    @property
    def owners(self) -> dict[str, int]:
        return {spec.name: id(param) for spec, param in zip(self.layer.specs, self.layer.params, strict=True)}

    def refuse(self, problem: str) -> ExportError:
        return ExportError(f"{self.layer.title}: {problem}")


Form = tuple[str, Attribute | None]
"""A step's template, and its module where it has one."""
Maker = Callable[[Subject], Form | None]
MakerType = TypeVar("MakerType", bound=Maker)
FORMS: dict[type, Maker] = {}


def form(*classes: type) -> Callable[[MakerType], MakerType]:
    """Function decorator: makes the form of these classes of modules, or returns None where it has none."""

    def mark(maker: MakerType) -> MakerType:
        FORMS.update(dict.fromkeys(classes, maker))
        return maker

    return mark


def plain(subject: Subject, constructor: str, arguments: Arguments, by_place: int, kind: str, **more: Any) -> Attribute:
    """A module that holds the layer's blobs as they are; ``by_place``: how many arguments are given so."""
    more.setdefault("state", {name: np.array(blob, np.float32) for name, blob in subject.blobs.items()})
    more.setdefault("owners", subject.owners)
    return Attribute(constructor, arguments, by_place=by_place, kind=kind, **more)


def even(sizes: Any) -> Any:
    """One number for sizes that are the same along every axis."""
    sizes = tuple(sizes) if isinstance(sizes, (tuple, list)) else (sizes,)
    return sizes[0] if len(set(sizes)) == 1 else sizes


def channels_of(module: nn.Module) -> int:
    """The first axis of a module's weight."""
    return int(module.get_parameter("weight").shape[0])
