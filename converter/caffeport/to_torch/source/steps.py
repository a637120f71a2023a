"""A net as the steps of a program: a step calls a module that is an attribute, or is an expression of torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...graph.layer import Layer

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Registered:
    """A parameter, or a buffer, that the module's constructor leaves to whoever makes the module."""

    name: str
    shape: tuple[int, ...]
    trained: bool


@dataclass
class Attribute:
    """A module: its constructor, all of its arguments, defaults too, and its part of the state_dict.

    ``owners`` says which of Caffe's blobs a key of ``state`` is, for those that layers may share.
    """

    constructor: str
    arguments: Arguments
    state: dict[str, np.ndarray] = field(default_factory=dict)
    by_place: int = 99
    """How many of the arguments, the first ones, are given by place."""
    defaults: Arguments = field(default_factory=dict)
    registered: tuple[Registered, ...] = ()
    owners: dict[str, int] = field(default_factory=dict)
    copied: type | None = None
    """The class whose source goes into the file."""
    kind: str = ""
    """What an attribute that has no name of its own is called."""
    repeated: int = 0
    """How many equal modules, each as this says, follow each other; 0 for one alone."""
    features: tuple[Any, ...] = ()
    """What tells modules of one constructor apart when repeated blocks are looked for."""


@dataclass
class Step:
    """Values are numbers. ``template`` has ``{0}``, ``{1}`` … for the inputs and ``{m}`` for the module."""

    template: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    name: str = ""
    """The layer's name, or a block's: what it is called as an attribute."""
    layers: tuple[Layer, ...] = ()
    attribute: Attribute | None = None
    parts: tuple[Step, ...] = ()
    """A block's own steps, and of a run of equal blocks the blocks."""
    names: tuple[str, ...] = ()
    """The attributes of ``parts``."""
    tops: tuple[str, ...] = ()
    """The blobs' names of ``outputs``."""

    @property
    def is_operation(self) -> bool:
        """Whether the template is an operator between its operands, not a call."""
        return is_operation(self.template)


def is_operation(template: str) -> bool:
    """Whether a text of source has an operator outside all brackets."""
    depth = 0
    for place, character in enumerate(template):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0 and character in "+-*/>" and template[place - 1 : place + 2] == f" {character} ":
            return True
    return False


def uses(steps: Sequence[Step], outputs: Sequence[int]) -> dict[int, int]:
    """How often each value is read, by the steps and as an output."""
    counts: dict[int, int] = {}
    for value in [*(value for step in steps for value in step.inputs), *outputs]:
        counts[value] = counts.get(value, 0) + 1
    return counts


def leaves(step: Step, path: str) -> Iterator[tuple[str, Step]]:
    """The steps with weights of their own within this one, each with the path of its module."""
    if not step.parts:
        yield path, step
        return
    for name, part in zip(step.names, step.parts, strict=True):
        if part.attribute is not None:
            yield from leaves(part, f"{path}.{name}")
