"""config.toml: read with every key checked later, written so that it starts the same run again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from caffeport.files import replacing

from .. import toml_text
from ..errors import TrainingError
from .config import Config
from .setting_values import flag

NAME = "config.toml"
"""The name of the file in a run's folder."""
MAX_BYTES = 1 << 20
"""A config holds about fifty lines; what is longer is another file."""


def read(path: str | Path) -> dict[str, Any]:
    """{key: value} as the file says it. Paths are looked for here first, then beside the file."""
    path = Path(path)
    try:
        with open(path, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror or error}") from error
    if len(raw) > MAX_BYTES:
        raise TrainingError(f"{path}: is too large for a TOML file of settings")
    try:
        given = toml_text.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise TrainingError(f"{path}: is no text in UTF-8; expected TOML") from error
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{path}: is no TOML: {error}") from error
    given = {key.replace("-", "_"): value for key, value in given.items()}
    for entry in fields(Config):
        value = given.get(entry.name)
        if entry.metadata["kind"] not in ("path", "paths", "count or path"):
            continue
        if isinstance(value, str):
            given[entry.name] = _found(value, path)
        elif isinstance(value, list):
            given[entry.name] = [_found(one, path) if isinstance(one, str) else one for one in value]
    return given


def _found(value: str, path: Path) -> str:
    """A path as it is, or beside the file ``path`` where it is only there."""
    beside = path.parent / value
    return str(beside) if not os.path.exists(value) and beside.exists() else value


def text(config: Config) -> str:
    """All settings with their defaults; paths as absolute ones, so that the file works from any folder.

    Raises TrainingError, which lists the settings, unless the text read again is this very config: TOML holds no
    bytes that are no UTF-8, no None within a list, and no objects.
    """
    lines = ["# normface finetune --config THIS_FILE --out ANOTHER_FOLDER runs this again.\n"]
    tables: list[str] = []
    problems: list[str] = []
    values: dict[str, Any] = {}
    group = ""
    for entry in fields(Config):
        value = getattr(config, entry.name)
        kind = entry.metadata["kind"]
        is_table = kind in ("table", "steps of blobs")
        if value is None or (is_table and not value):
            continue
        if kind in ("path", "folder") or (kind == "count or path" and not isinstance(value, int)):
            value = os.path.abspath(value)
        elif kind == "paths":
            value = [os.path.abspath(one) for one in value]
        values[entry.name] = plain(value)
        try:
            written = toml_text.dumps({entry.name: values[entry.name]})
            written.encode()
        except (TypeError, ValueError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
            words = "is no text in UTF-8" if isinstance(error, UnicodeError) else str(error)
            problems.append(_refusal(entry.name, values[entry.name], words))
            continue
        if is_table:
            tables.append(f"\n{written}")
            continue
        if entry.metadata["group"] != group:
            group = entry.metadata["group"]
            lines.append(f"\n# {group}\n")
        lines.append(written)
    if problems:
        raise TrainingError("; ".join(problems))
    content = "".join([*lines, *tables])
    if len(content.encode()) > MAX_BYTES:
        raise TrainingError(f"the settings take more than the {MAX_BYTES >> 20} MB that config.toml may have")
    again = Config.from_settings(toml_text.loads(content))
    problems = [
        _refusal(name, value, f"comes back as {plain(getattr(again, name))!r}")
        for name, value in values.items()
        if not same(value, plain(getattr(again, name)))
    ]
    if problems:
        raise TrainingError("; ".join(problems))
    return content


def _refusal(name: str, value: Any, words: str) -> str:
    shown = value if isinstance(value, str) else repr(value)
    return (
        f"{flag(name)} {shown.encode(errors='backslashreplace').decode()}: cannot be kept in config.toml, as it {words}"
    )


def write(config: Config, path: str | Path) -> None:
    """Write the file of ``text``."""
    content = text(config).encode()
    with replacing(path) as stream:
        stream.write(content)


def plain(value: Any) -> Any:
    """Paths as text, and numbers of NumPy and torch, which TOML's writer does not know, as Python's."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if getattr(value, "ndim", None) == 0 else value


def same(one: Any, other: Any) -> bool:
    """Return whether two plain values are equal, NaN being NaN, and 1 not true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    both_or_none = isinstance(one, bool) == isinstance(other, bool)
    return both_or_none and bool(one == other or (one != one and other != other))
