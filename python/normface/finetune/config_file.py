"""config.toml: read with every key checked later, written so that it starts the same run again."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from caffeport.files import replacing

from ..errors import TrainingError
from .config import Config

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
    toml = _library()
    try:
        given = toml.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise TrainingError(f"{path}: is no text in UTF-8; expected TOML") from error
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{path}: is no TOML: {error}") from error
    given = {key.replace("-", "_"): value for key, value in given.items()}
    for entry in fields(Config):
        value = given.get(entry.name)
        if entry.metadata["kind"] == "path" and isinstance(value, str):
            beside = path.parent / value
            if not os.path.exists(value) and beside.exists():
                given[entry.name] = str(beside)
    return given


def write(config: Config, path: str | Path) -> None:
    """All settings with their defaults; paths as absolute ones, so that the file works from any folder."""
    lines = ["# normface finetune --config THIS_FILE --out ANOTHER_FOLDER runs this again.\n"]
    tables: list[str] = []
    group = ""
    for entry in fields(Config):
        value = getattr(config, entry.name)
        if entry.metadata["kind"] == "table":
            if value:
                tables.append(f"\n[{entry.name}]\n")
                tables += [f"{_key(key)} = {_value(one)}\n" for key, one in value.items()]
            continue
        if value is None:
            continue
        if entry.metadata["group"] != group:
            group = entry.metadata["group"]
            lines.append(f"\n# {group}\n")
        if entry.metadata["kind"] in ("path", "folder"):
            value = os.path.abspath(value)
        lines.append(f"{entry.name} = {_value(value)}\n")
    with replacing(path) as stream:
        stream.write("".join([*lines, *tables]).encode())


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").isalnum() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items()) + " }"
    # JSON's text, numbers and truth values are TOML's too, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _library() -> Any:
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib
    import tomli  # Python 3.10 has none of its own

    return tomli
