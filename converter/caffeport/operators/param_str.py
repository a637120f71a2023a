"""The settings that a Python layer's ``param_str`` holds: a dictionary in Python's or YAML's words."""

from __future__ import annotations

import ast
import re
from typing import Any

_TAG = re.compile(r"!!python/(tuple|list)\b")
"""YAML's word for what kind of list follows."""
_WORDS = {"true": True, "false": False, "null": None, "~": None}


def settings(text: str) -> dict[str, Any] | None:
    """Return the dictionary, empty for an empty text; None where it cannot be read.

    Taken are Python's dictionary with its braces or without, and YAML's lines of ``key: value``. Nothing is run.
    """
    text = _TAG.sub("", text).strip()
    if not text:
        return {}
    for form in (text, "{" + text + "}"):
        try:
            value = ast.literal_eval(form)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return value
    values: dict[str, Any] = {}
    inside = text[1:-1] if text[0] == "{" and text[-1] == "}" and "," not in text else text
    for line in inside.splitlines():
        line = line.split(" #")[0].strip().rstrip(",")
        if not line or line == "---":
            continue
        key, colon, value = line.partition(":")
        key = key.strip().strip("'\"")
        if not colon or not key:
            return None
        values[key] = _value(value.strip())
    return values


def _value(text: str) -> Any:
    """Read a number, a list, a quoted string, YAML's true and false, or else the word itself."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
