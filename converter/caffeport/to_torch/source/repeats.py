"""Runs of steps that occur again and again with one structure, and may differ in numbers alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .literals import literal
from .steps import Step

LONGEST = 48
"""Steps of a block."""
MOST_INPUTS = 2
MOST_OUTPUTS = 3
_CLASS_LINES = 8
"""What a class costs beyond the lines of its steps."""
_TELLING = 4.5
"""Lines from which on a structure within another is worth a class of its own."""
_NEVER_READ = -1

Place = tuple[str, int, int]
"""Where a step's input comes from: an input of the region, or an earlier step's output."""


Wired = tuple[Any, tuple[Place, ...]]
"""A step's structure, and where its inputs come from."""
Exit = tuple[int, int]
"""An output of a region: the step, counted from its first, and which of that step's."""


@dataclass
class Repeat:
    """Where a structure occurs: the first steps' places, how many steps it has, and what is read behind it."""

    starts: list[int]
    length: int
    exits: tuple[Exit, ...]


@dataclass(frozen=True)
class Structure:
    """What all occurrences share."""

    steps: tuple[Wired, ...]
    exits: tuple[Exit, ...]


def can_vary(value: Any) -> bool:
    """Whether an argument may be one of a block's own arguments."""
    if isinstance(value, tuple):  # lists of numbers too, which are Listed
        return all(can_vary(entry) for entry in value)
    return isinstance(value, (int, float))


def token(step: Step) -> tuple[Any, ...] | None:
    """What two steps of one structure share; None for a step that no block may hold."""
    a = step.attribute
    if a is None:
        return (step.template, len(step.inputs), len(step.outputs))
    if a.registered:
        return None
    fixed = tuple((name, literal(value)) for name, value in a.arguments.items() if not can_vary(value))
    shape = (a.constructor, a.repeated, tuple(a.arguments), fixed, tuple(a.state), a.features)
    return (step.template, len(step.inputs), len(step.outputs), *shape)


def best_repeat(steps: Sequence[Step], outputs: Sequence[int]) -> Repeat | None:
    """The repeated structure that saves the most lines; None where none saves any."""
    groups: dict[Structure, list[int]] = {}
    for start, structure in _regions(steps, outputs):
        starts = groups.setdefault(structure, [])
        if not starts or start >= starts[-1] + len(structure.steps):
            starts.append(start)
    gains = {structure: _gained(steps, starts, structure) for structure, starts in groups.items()}
    paying = sorted((structure for structure, gain in gains.items() if gain > 0), key=lambda one: -gains[one])
    inner = {one.steps for one in paying if _lines(steps, groups[one][0], len(one.steps)) >= _TELLING}
    for structure in paying:
        if not _holds_repeat(structure.steps, inner):
            return Repeat(groups[structure], len(structure.steps), structure.exits)
    return None


def _gained(steps: Sequence[Step], starts: Sequence[int], structure: Structure) -> float:
    if len(starts) < 2 or _is_periodic(structure.steps):
        return 0
    length = len(structure.steps)
    gain = gain_of(steps[starts[0] : starts[0] + length], len(starts))
    if gain <= 0:
        return 0
    gain *= 1 + 0.3 * _coherence(steps, starts, length)
    entries = {place for _, wiring in structure.steps for place in wiring if place[0] == "in"}
    gain *= 0.7 ** (len(entries) - 1) * 0.8 ** (len(structure.exits) - 1)
    # A block ends with an activation rather than that it begins with the one before it.
    first = steps[starts[0]].attribute
    return 0.8 * gain if first is not None and not first.state and not steps[starts[0]].parts else gain


def _holds_repeat(key: tuple[Wired, ...], others: set[tuple[Wired, ...]]) -> bool:
    """Whether the structure holds another, which pays by itself, twice: that is to be a class first."""
    counts: dict[tuple[Wired, ...], int] = {}
    for start in range(len(key)):
        for end in range(start + 2, len(key) + (start > 0)):
            part = _renumbered(key[start:end], start)
            if part in others:
                counts[part] = counts.get(part, 0) + 1
                if counts[part] > 1:
                    return True
    return False


def _renumbered(part: tuple[Wired, ...], first: int) -> tuple[Wired, ...]:
    """A part of a structure as a structure of its own."""
    entries: dict[Place, Place] = {}
    result = []
    for one, wiring in part:
        own: list[Place] = []
        for place in wiring:
            kind, index, number = place
            if kind == "step" and index >= first:
                own.append(("step", index - first, number))
            else:
                own.append(entries.setdefault(place, ("in", len(entries), 0)))
        result.append((one, tuple(own)))
    return tuple(result)


def _lines(steps: Sequence[Step], start: int, length: int) -> float:
    """The lines that steps take, about."""
    return sum(1.0 if step.attribute is None else 1.5 for step in steps[start : start + length])


def gain_of(region: Sequence[Step], occurrences: int) -> float:
    """The lines that a class for the region saves, about."""
    lines = _lines(region, 0, len(region))
    return occurrences * lines - (_CLASS_LINES + lines + 1.5 * occurrences)


def _coherence(steps: Sequence[Step], starts: Sequence[int], length: int) -> float:
    """How many of the occurrences have layers whose names begin alike."""
    alike = 0
    for start in starts:
        names = [step.name for step in steps[start : start + length] if step.attribute is not None]
        alike += len(names) > 1 and bool(common_start(names))
    return alike / len(starts)


def _is_periodic(key: tuple[Wired, ...]) -> bool:
    """Whether the structure is a shorter one several times over."""
    tokens = [one for one, _ in key]
    length = len(tokens)
    periods = (p for p in range(1, length // 2 + 1) if length % p == 0)
    return any(tokens == tokens[:p] * (length // p) for p in periods)


def _regions(steps: Sequence[Step], outputs: Sequence[int]) -> Iterator[tuple[int, Structure]]:
    """(first step, structure) of every run of steps with few inputs and outputs, the last step's among them."""
    last_read = {value: index for index, step in enumerate(steps) for value in step.inputs}
    last_read |= dict.fromkeys(outputs, len(steps))
    tokens = [token(step) for step in steps]
    # A run of equal blocks becomes a loop, and is in a region whole or not at all.
    alike = zip(tokens, tokens[1:], steps, strict=False)
    splits = [False, *(one == other and _is_block(step) for one, other, step in alike), False]
    for start in range(len(steps)):
        region = _Region(start)
        for index in range(start, min(start + LONGEST, len(steps))):
            one = tokens[index]
            if one is None or not region.add(steps[index], one):
                break
            if index == start or splits[start] or splits[index + 1]:
                continue
            exits = region.exits(last_read, index)
            if exits is not None and region.entries:
                yield start, Structure(tuple(region.wired), exits)


class _Region:
    """A run of steps that grows."""

    def __init__(self, start: int) -> None:
        self.wired: list[Wired] = []
        self.entries: list[int] = []
        self._start = start
        self._places: dict[int, Place] = {}
        self._read: set[int] = set()

    def add(self, step: Step, one: tuple[Any, ...]) -> bool:
        """Whether the region has few inputs with this step too."""
        for value in step.inputs:
            if value not in self._places:
                self._places[value] = ("in", len(self.entries), 0)
                self.entries.append(value)
            self._read.add(value)
        if len(self.entries) > MOST_INPUTS:
            return False
        self.wired.append((one, tuple(self._places[value] for value in step.inputs)))
        place = len(self.wired) - 1
        self._places |= {value: ("step", place, number) for number, value in enumerate(step.outputs)}
        return True

    def exits(self, last_read: dict[int, int], index: int) -> tuple[Exit, ...] | None:
        """What is read behind step ``index``, the region's last; None where that is no result of a block.

        The last step's output is one. Others are read by nothing within: else where a block ends would be anybody's
        guess in a chain of residual blocks.
        """
        exits = []
        for value, (kind, place, number) in self._places.items():
            if kind == "step" and last_read.get(value, _NEVER_READ) > index:
                if value in self._read:
                    return None
                exits.append((place, number))
        is_last = bool(exits) and exits[-1] == (len(self.wired) - 1, 0)
        return tuple(exits) if is_last and len(exits) <= MOST_OUTPUTS else None


def common_start(names: Sequence[str]) -> str:
    """What all names begin with, up to a separator; without the separators behind it."""
    first, last = min(names), max(names)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    if all(len(name) == length or not name[length].isalnum() for name in names):
        return first[:length].rstrip("_/-. ")
    while length and first[length - 1].isalnum():
        length -= 1
    return first[:length].rstrip("_/-. ")


def _is_block(step: Step) -> bool:
    return step.attribute is not None and step.attribute.kind == "block"
