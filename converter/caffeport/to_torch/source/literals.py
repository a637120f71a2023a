"""Python values as source text."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Any

import numpy as np


class Listed(tuple[Any, ...]):
    """Values that stand in a list in the source; hashable, unlike a list."""


def literal(value: Any) -> str:
    """The text of a number, string, tuple, list, dict, enum or dataclass; raises TypeError for any other thing."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return str(value)
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return number(float(value))
    if isinstance(value, str):
        text = repr(value)
        return f'"{text[1:-1]}"' if text[0] == "'" and '"' not in text else text
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f for f in dataclasses.fields(value) if f.init]
        return f"{type(value).__name__}({', '.join(f'{f.name}={literal(getattr(value, f.name))}' for f in fields)})"
    if isinstance(value, Listed):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(entry)}" for key, entry in value.items()) + "}"
    raise TypeError(f"a {type(value).__name__} has no text")


def number(value: float) -> str:
    """The shortest text that is this number in float32, where Caffe's fields are floats; else in full."""
    if not math.isfinite(value):
        return f'float("{value}")'
    if abs(value) < 3e38:
        short = str(np.float32(value))
        if float(np.float32(short)) == value or float(short) == value:
            value = float(short)
    return repr(value).replace("e-0", "e-").replace("e+", "e")


def classes_in(value: Any) -> set[type]:
    """The classes that the text of a value names."""
    if isinstance(value, enum.Enum):
        return {type(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = (classes_in(getattr(value, f.name)) for f in dataclasses.fields(value))
        return {type(value)}.union(*inner)
    if isinstance(value, (tuple, list)):
        return set().union(*map(classes_in, value))
    if isinstance(value, dict):
        return set().union(*map(classes_in, value.values()))
    return set()
