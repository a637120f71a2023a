"""Repeated runs of steps as classes: what differs between them are the arguments of the constructor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...naming import Names
from .block_names import attribute_names, class_name, instance_name, is_channels, parameter_names
from .constructors import with_runs
from .literals import Listed
from .repeats import Exit, Repeat, best_repeat
from .steps import Arguments, Attribute, Step
from .units import separable, units

REQUIRED = object()
"""In place of a default."""


@dataclass
class Block:
    """A class: its steps as they are at its first place, and its arguments' texts in terms of its parameters."""

    name: str
    steps: list[Step]
    names: tuple[str, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    tops: tuple[str, ...] = ()
    """The outputs' names, where there are several."""
    parameters: dict[str, Any] = field(default_factory=dict)  # {name: default or REQUIRED}
    types: dict[str, str] = field(default_factory=dict)
    texts: list[dict[str, str]] = field(default_factory=list)  # of each step: {argument: text}, those that vary


def make_blocks(steps: list[Step], outputs: Sequence[int], taken: Names) -> tuple[list[Step], list[Block]]:
    """The steps with a step for every block, and the blocks, each after those that it consists of."""
    blocks: list[Block] = []
    steps = _replaced(steps, outputs, units(steps, outputs), blocks, taken)
    if pairs := separable(steps, outputs):
        steps = _replaced(steps, outputs, [pairs], blocks, taken)
    steps = with_runs(steps, outputs, {"block", "unit"})
    while repeat := best_repeat(steps, outputs):
        steps = with_runs(_replaced(steps, outputs, [repeat], blocks, taken), outputs, {"block"})
    return steps, blocks


def _replaced(
    steps: list[Step], outputs: Sequence[int], repeats: list[Repeat], blocks: list[Block], taken: Names
) -> list[Step]:
    """The steps with those of each repeat as one step."""
    calls: dict[int, tuple[int, Step]] = {}
    for repeat in repeats:
        occurrences = [steps[start : start + repeat.length] for start in repeat.starts]
        block, uses = _block(occurrences, repeat.exits, steps, taken)
        blocks.append(block)
        calls |= {start: (repeat.length, step) for start, step in zip(repeat.starts, uses, strict=True)}
    result, place = [], 0
    while place < len(steps):
        length, step = calls.get(place, (1, steps[place]))
        result.append(step)
        place += length
    return result


def _block(
    occurrences: list[list[Step]], exits: Sequence[Exit], all_steps: Sequence[Step], taken: Names
) -> tuple[Block, list[Step]]:
    first = occurrences[0]
    names = attribute_names(occurrences)
    title = _free(class_name(occurrences, _outside(first)), taken)
    block = Block(title, first, names, _outside(first), tuple(first[place].outputs[n] for place, n in exits))
    values = _parameters(block, occurrences)
    defaults = {name: default for name, default in block.parameters.items() if default is not REQUIRED}
    by_place = len(block.parameters) - len(defaults)
    calls = []
    for index, steps in enumerate(occurrences):
        inputs = _outside(steps)
        features = tuple(one for step in steps if step.attribute for one in step.attribute.features)
        attribute = Attribute(
            block.name,
            {name: values[name][index] for name in block.parameters},
            by_place=by_place,
            defaults=defaults,
            kind="block" if any(step.parts for step in steps) or len(steps) > 4 else "unit",
            features=features,
        )
        operands = ", ".join(f"{{{i}}}" for i in range(len(inputs)))
        layers = tuple(layer for step in steps for layer in step.layers)
        parts = tuple(steps)
        outputs = tuple(steps[place].outputs[n] for place, n in exits)
        tops = tuple(steps[place].tops[n] for place, n in exits)
        if len(exits) > 1:  # short names, since all stand before one =
            tops = tuple(_maker(steps, names, place) or top for (place, _), top in zip(exits, tops, strict=True))
        block.tops = block.tops or tops
        name = instance_name(steps, all_steps)
        calls.append(Step(f"{{m}}({operands})", inputs, outputs, name, layers, attribute, parts, names, tops))
    return block, calls


def _maker(steps: Sequence[Step], names: Sequence[str], place: int) -> str:
    """The attribute that a step calls, or that has made what the step's expression reads."""
    while not names[place]:
        makers = [i for i in range(place) if set(steps[i].outputs) & set(steps[place].inputs)]
        if len(makers) != 1:
            return ""
        place = makers[0]
    return names[place]


def _free(name: str, taken: Names) -> str:
    """A class name that nothing has: Block, Block2, Block3 …"""
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}{number}", number + 1
    return taken.take(free)


def _outside(steps: Sequence[Step]) -> tuple[int, ...]:
    """The values that steps read and do not make, in their order."""
    inner = {value for step in steps for value in step.outputs}
    return tuple(dict.fromkeys(value for step in steps for value in step.inputs if value not in inner))


def _parameters(block: Block, occurrences: list[list[Step]]) -> dict[str, list[Any]]:
    """Fill the block's parameters; returns the value of each at every occurrence."""
    groups: dict[tuple[Any, ...], list[tuple[int, str]]] = {}
    for place, step in enumerate(block.steps):
        block.texts.append({})
        for name in step.attribute.arguments if step.attribute else ():
            column = tuple(_key(steps[place].attribute, name) for steps in occurrences)
            if len(set(column)) > 1:
                groups.setdefault(column, []).append((place, name))
    derived = _derived(groups)
    free = {column: places for column, places in groups.items() if column not in derived}
    names = parameter_names(list(free.values()), block.steps, block.names)
    texts = dict(zip(free, names, strict=True))
    values = {}
    for places, name in zip(free.values(), names, strict=True):
        place, argument = places[0]
        values[name] = [_argument(steps[place].attribute, argument) for steps in occurrences]
    for column, (source, pattern) in derived.items():
        texts[column] = pattern.format(texts[source])
    for column, places in groups.items():
        for place, argument in places:
            block.texts[place][argument] = texts[column]
    _order(block, values, {name: free[column] for column, name in zip(free, names, strict=True)})
    return values


def _argument(attribute: Attribute | None, name: str) -> Any:
    return (attribute.arguments if attribute else {})[name]


def _key(attribute: Attribute | None, name: str) -> tuple[str, Any]:
    """A value that is equal to another only if the texts are: True is not 1. Hashable, also for a list."""
    value = _argument(attribute, name)
    return type(value).__name__, tuple(value) if isinstance(value, list) else value


def _derived(groups: dict[tuple[Any, ...], list[tuple[int, str]]]) -> dict[tuple[Any, ...], tuple[Any, str]]:
    """Columns that are another's multiple everywhere, or half of it as a padding is of its kernel."""
    derived: dict[tuple[Any, ...], tuple[Any, str]] = {}
    columns = [c for c in groups if all(kind == "int" for kind, _ in c)]
    for column in columns:
        numbers = [value for _, value in column]
        for other in columns:
            if other is column or other in derived or column in derived:
                continue
            theirs = [value for _, value in other]
            kinds = {name for _, name in groups[column]}, {name for _, name in groups[other]}
            if kinds == ({"padding"}, {"kernel_size"}):
                if all(n == t // 2 for n, t in zip(numbers, theirs, strict=True)):
                    derived[column] = other, "{} // 2"
            elif all(map(is_channels, (kinds[0] | kinds[1]) - {"groups"})) and min(theirs) > 0 and len(set(theirs)) > 1:
                factor = numbers[0] // theirs[0]
                if factor > 1 and all(n == factor * t for n, t in zip(numbers, theirs, strict=True)):
                    derived[column] = other, f"{factor} * {{}}"
    return derived


_USUAL = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}


def _order(block: Block, values: dict[str, list[Any]], places: dict[str, list[tuple[int, str]]]) -> None:
    """Parameters without a default first; what most occurrences have is the default."""
    required: Arguments = {}
    defaults: Arguments = {}
    for name, column in values.items():
        kinds = {argument for _, argument in places[name]}
        usual = _USUAL.get(next(iter(kinds))) if len(kinds) == 1 else None
        counts = Counter((type(value).__name__, value) for value in column)
        (_, common), number = counts.most_common(1)[0]
        if usual is not None and (type(usual).__name__, usual) in counts:
            defaults[name] = usual
        elif isinstance(common, Listed) or any(map(is_channels, kinds)) or 2 * number < len(column):
            required[name] = REQUIRED
        else:
            defaults[name] = common
        block.types[name] = annotation(column)
    block.parameters = {**required, **defaults}


def annotation(values: Sequence[Any]) -> str:
    """The type of all these values as text."""
    kinds = sorted({_type_text(value) for value in values})
    if kinds == ["float", "int"]:
        return "float"
    return " | ".join(kinds)


def _type_text(value: Any) -> str:
    if isinstance(value, Listed):
        return "list[float]"
    if isinstance(value, tuple):
        kinds = [_type_text(entry) for entry in value]
        return f"tuple[{', '.join(kinds)}]"
    return type(value).__name__
