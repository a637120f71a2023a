"""Nets drawn from a grammar: any operators in a row, with bottoms and parameters that are mostly sensible.

The fields of an operator's messages are those of its schema, so that a new operator is drawn without a word here.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from caffeport.formats.prototxt import Message
from caffeport.formats.schema import Word, field_types
from caffeport.operators import builtin
from caffeport.operators.base import Operator, Role
from support import nets

Shape = tuple[int, ...]

NUMBERS = (0.0, 0.1, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 8.0, 100.0, -0.5, -1.0, 1e-5, -2.0)
RARE_NUMBERS = (1e15, -1e15, 1e-30, float("inf"), float("nan"))
WHOLE = (0, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 8)
RARE_WHOLE = (-1, -2, -7, 16, 63, 1000, 2**31 - 1, -(2**31), 2**31, 2**40)
WORDS = ("", "x", "zero", "constant", "gaussian", "xavier", "1,2", "é", "\\001", "../a")
FILLERS = ("constant", "gaussian", "uniform", "xavier", "msra", "bilinear", "positive_unitball")
RARELY = 0.01


@dataclass(frozen=True)
class Drawn:
    """A net's text, the types of its layers, and whether one of them may only be trained."""

    text: str
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Dialect:
    """What a Caffe knows: its layer types, and the fields of each message."""

    types: tuple[str, ...]
    fields: Mapping[str, Sequence[str]]


def draw(random_: random.Random, kinds: Sequence[str] = (), dialect: Dialect | None = None) -> Drawn:
    """Draw a net of one to five layers; the first is one of ``kinds``, where any are given, all are of ``dialect``."""
    pool = [kind for kind in drawable() if dialect is None or kind in dialect.types]
    text, blobs = "", {}
    count = random_.choice((1, 1, 2, 3, 4, 5))
    chosen = [random_.choice(list(kinds) if kinds else pool)]
    chosen += [random_.choice(pool) for _ in range(count - 1)]
    for index, kind in enumerate(chosen):
        cls = builtin()[kind]
        bottoms = []
        for place in range(_between(random_, cls.bottoms)):
            if blobs and random_.random() < (0.9 if index and not place else 0.3):
                bottoms.append(random_.choice(list(blobs)))
            else:
                name = f"in{len(blobs)}"
                blobs[name] = _shape(random_, cls, place)
                text += nets.inputs(**{name: blobs[name]})
                bottoms.append(name)
        tops = [f"t{index}_{number}" for number in range(_between(random_, cls.tops))]
        if tops and bottoms and random_.random() < 0.1:
            tops[0] = bottoms[0]  # in place
        text += nets.layer(kind, " ".join(bottoms), " ".join(tops), _parameters(random_, cls, dialect), f"layer{index}")
        blobs |= dict.fromkeys(tops, ())
    return Drawn(text, tuple(chosen))


def drawable() -> list[str]:
    """Return all types but those that read data, whose sources are files."""
    return sorted(kind for kind, cls in builtin().items() if cls.role is not Role.DATA)


def _between(random_: random.Random, bounds: tuple[int, int | None]) -> int:
    least, most = bounds
    if random_.random() < RARELY:
        return random_.choice((0, 1, 2, 5))
    return random_.randint(least, min(least + 2, most if most is not None else least + 2))


def _shape(random_: random.Random, cls: type[Operator], place: int) -> Shape:
    least, most = cls.bottom_axes[min(place, len(cls.bottom_axes) - 1)]
    if random_.random() < 0.1:
        rank = random_.randint(0, 6)
    elif random_.random() < 0.6 and least <= 4 and (most is None or most >= 4):
        rank = 4
    else:
        rank = random_.randint(least, most if most is not None else max(least, 5))
    sizes = [random_.choice((1, 2, 3))]
    sizes += [random_.choice((1, 2, 3, 4, 6, 8)) for _ in range(rank - 1)]
    return tuple(sizes[:rank])


def _parameters(random_: random.Random, cls: type[Operator], dialect: Dialect | None) -> str:
    text = ""
    for name, schema in cls.schemas.items():
        known = None if dialect is None else dialect.fields.get(name, ())
        if random_.random() < 0.9 and (dialect is None or name in dialect.fields):
            text += f"{name} {{ {_message(random_, schema, 0, known)} }} "
    if random_.random() < 0.1:
        text += f"loss_weight: {_number(random_)} "
    if random_.random() < 0.05:
        text += "propagate_down: false "
    return text


def _message(random_: random.Random, schema: type, depth: int, known: Sequence[str] | None = None) -> str:
    text, share = "", random_.choice((0.0, 0.1, 0.3))
    for name, (kind, repeated) in field_types(schema).items():
        if known is not None and name not in known:
            continue
        needed = name in ("num_output", "kernel_size", "dim") and random_.random() < 0.9
        if not needed and random_.random() > share:
            continue
        for _ in range(random_.choice((1, 1, 2, 3)) if repeated else 1):
            value = _value(random_, name, kind, depth)
            text += f"{name} {value} " if value.startswith("{") else f"{name}: {value} "
    return text


def _value(random_: random.Random, name: str, kind: Any, depth: int) -> str:
    if kind is Message:
        return "{ }"
    if hasattr(kind, "__dataclass_fields__"):
        return "{ }" if depth > 3 else f"{{ {_message(random_, kind, depth + 1)} }}"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return random_.choice(list(kind)).name
    if kind is bool:
        return random_.choice(("true", "false"))
    if kind is int:
        return str(random_.choice(RARE_WHOLE if random_.random() < RARELY else WHOLE))
    if kind is float:
        return _number(random_)
    if kind is Word:
        return "DEFAULT"
    return f'"{random_.choice(FILLERS if name == "type" and random_.random() < 0.9 else WORDS)}"'


def _number(random_: random.Random) -> str:
    value = random_.choice(RARE_NUMBERS if random_.random() < RARELY else NUMBERS)
    return repr(value)
