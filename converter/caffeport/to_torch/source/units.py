"""The small blocks that all networks are made of: a convolution with what follows it, and a separable pair of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .repeats import Repeat, gain_of, token
from .steps import Attribute, Step, uses

_WEIGHTED = ("nn.Conv", "nn.Linear")
_BEHIND = ("nn.BatchNorm", "nn.PReLU", "nn.ReLU", "nn.LeakyReLU", "nn.ELU", "nn.Sigmoid", "nn.Tanh", "nn.SiLU")


def units(steps: Sequence[Step], outputs: Sequence[int]) -> list[Repeat]:
    """A convolution or inner product with its batch normalisation and activation, wherever that pays."""
    counts = uses(steps, outputs)
    groups: dict[tuple[Any, ...], list[int]] = {}
    place = 0
    while place < len(steps):
        length = _unit_length(steps, place, counts)
        tokens = [token(step) for step in steps[place : place + length]]
        if length > 1 and None not in tokens:
            key = tuple(_without_features(one) for one in tokens if one is not None)
            groups.setdefault(key, []).append(place)
        place += length
    repeats = [Repeat(starts, len(key), ((len(key) - 1, 0),)) for key, starts in groups.items()]
    return [r for r in repeats if gain_of(steps[r.starts[0] : r.starts[0] + r.length], len(r.starts)) > 0]


def _without_features(one: tuple[Any, ...]) -> tuple[Any, ...]:
    return one[:-1] if len(one) > 3 else one


def _unit_length(steps: Sequence[Step], place: int, counts: dict[int, int]) -> int:
    first, length = steps[place], 1
    if not _constructs(first.attribute, _WEIGHTED):
        return 1
    while place + length < len(steps) and length < 4:
        before, step = steps[place + length - 1], steps[place + length]
        if step.inputs != before.outputs or counts.get(before.outputs[0]) != 1:
            break
        if not _constructs(step.attribute, _BEHIND):
            break
        length += 1
    return length


def _constructs(attribute: Attribute | None, constructors: tuple[str, ...]) -> bool:
    return attribute is not None and attribute.constructor.startswith(constructors)


def separable(steps: Sequence[Step], outputs: Sequence[int]) -> Repeat | None:
    """A convolution of each channel by itself and one across the channels behind it, alike but for their numbers.

    Where blocks of them follow each other, any three or five in a row repeat too, so that these are looked for first.
    """
    counts, starts, place = uses(steps, outputs), list[int](), 0
    while place + 1 < len(steps):
        one, other = steps[place], steps[place + 1]
        fits = other.inputs == one.outputs and counts.get(one.outputs[0]) == 1 and _alike(one, other)
        starts += [place] if fits else []
        place += 2 if fits else 1
    keys = {tuple(token(step) for step in steps[start : start + 2]) for start in starts}
    return Repeat(starts, 2, ((1, 0),)) if len(starts) > 3 and len(keys) == 1 else None


def _alike(one: Step, other: Step) -> bool:
    a, b = one.attribute, other.attribute
    if a is None or b is None or a.constructor != b.constructor or not a.constructor.startswith("Conv"):
        return False
    return "depthwise" in a.features and "depthwise" not in b.features
