"""The values of settings, as flags (text) or TOML (typed) give them, read to what a Config holds."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import did_you_mean


def flag(name: str) -> str:
    """Return the flag of the setting of that name."""
    return "--" + name.replace("_", "-")


def _read_text(raw: Any, about: Mapping[str, Any]) -> str:
    if isinstance(raw, (list, tuple)) and len(raw) == 1:
        (raw,) = raw
    if not isinstance(raw, (str, Path)) or not str(raw):
        raise ValueError(f"expected text, got {raw!r}")
    return str(raw)


def _read_choice(raw: Any, about: Mapping[str, Any]) -> str:
    choices = about["choices"]
    text = str(raw)  # TOML's precision = 32 is a number
    if text not in choices:
        raise ValueError(f'"{raw}" is unknown{did_you_mean(text, choices)}; expected {", ".join(choices)}')
    return text


def _read_number(raw: Any, about: Mapping[str, Any]) -> float:
    try:
        number = float(raw) if not isinstance(raw, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a number, got {raw!r}")
    return number


def _read_count(raw: Any, about: Mapping[str, Any]) -> int:
    try:
        number = int(raw) if isinstance(raw, (int, str)) and not isinstance(raw, bool) else _read_number(raw, about)
    except ValueError:
        number = _read_number(raw, about)  # 1e3
    if number != int(number) or number < 0 or number >= 2**63:
        raise ValueError(f"expected a whole number, got {raw!r}")
    return int(number)


def _read_numbers(raw: Any, about: Mapping[str, Any]) -> tuple[float, ...]:
    parts = raw if isinstance(raw, (list, tuple)) else [raw]
    words = [word for part in parts for word in (part.split(",") if isinstance(part, str) else [part]) if word != ""]
    if not words:
        raise ValueError("expected one number or more")
    return tuple(_read_number(word, about) for word in words)


def _read_flag(raw: Any, about: Mapping[str, Any]) -> bool:
    if not isinstance(raw, bool):
        raise ValueError(f"expected true or false, got {raw!r}")
    return raw


def _read_table(raw: Any, about: Mapping[str, Any]) -> dict[str, Any]:
    """{option: value} from a TOML table or from words KEY=VALUE."""
    if isinstance(raw, Mapping):
        return dict(raw)
    table: dict[str, Any] = {}
    for word in raw if isinstance(raw, (list, tuple)) else [raw]:
        key, equals, value = str(word).partition("=")
        if not key or not equals or not value:
            raise ValueError(f"expected KEY=VALUE, got {word!r}")
        table[key.replace("-", "_")] = _literal(value)
    return table


def _literal(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _read_paths(raw: Any, about: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths, in one text with commas between or in several; one that has a comma itself and is there stays whole."""
    parts = raw if isinstance(raw, (list, tuple)) else [raw]
    paths: list[str] = []
    for part in parts:
        text = _read_text(part, about)
        paths += [text] if os.path.exists(text) else [word for word in text.split(",") if word]
    if not paths:
        raise ValueError("expected one path or more")
    return tuple(paths)


def _read_count_or_path(raw: Any, about: Mapping[str, Any]) -> int | str:
    """A whole number, also as text; other text is a path."""
    if isinstance(raw, (str, Path)):
        try:
            float(str(raw))
        except ValueError:
            return _read_text(raw, about)
    return _read_count(raw, about)


def _read_steps_of_blobs(raw: Any, about: Mapping[str, Any]) -> dict[str, float]:
    """{blob: step or share} from a TOML table or from words BLOB=NUMBER; a blob's name may hold = itself."""
    if isinstance(raw, Mapping):
        return {str(blob): _read_number(at, about) for blob, at in raw.items()}
    table: dict[str, float] = {}
    for word in raw if isinstance(raw, (list, tuple)) else [raw]:
        blob, equals, at = str(word).rpartition("=")
        if not blob or not equals:
            raise ValueError(f"expected BLOB=STEP, got {word!r}")
        table[blob] = _read_number(at, about)
    return table


READERS: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "path": _read_text,
    "folder": _read_text,
    "text": _read_text,
    "choice": _read_choice,
    "number": _read_number,
    "count": _read_count,
    "numbers": _read_numbers,
    "flag": _read_flag,
    "table": _read_table,
    "paths": _read_paths,
    "count or path": _read_count_or_path,
    "steps of blobs": _read_steps_of_blobs,
}
"""{kind of a setting: its reader}, which raises ValueError in words."""
