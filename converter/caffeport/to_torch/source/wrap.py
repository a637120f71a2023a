"""Long lines broken as ruff's formatter breaks them, so that a file needs no formatter."""

from __future__ import annotations

import re

WIDTH = 88
"""The line length that ruff has where nobody sets one."""
WIDE = 120
"""That of this package, whose classes are copied as they are."""
_OPEN, _CLOSE = "([{", ")]}"


def wrapped(line: str, comment: str = "", width: int = WIDTH) -> list[str]:
    """The lines of one logical line, which starts with its indentation; ``comment`` goes behind it, or above."""
    indent = line[: len(line) - len(line.lstrip())]
    if comment and len(f"{line}  # {comment}") <= width:
        return [f"{line}  # {comment}"]
    above = [f"{indent}# {comment}"] if comment else []
    return above + _split(line, indent, width)


def _split(line: str, indent: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    place = _last_bracket(line)
    if place is None:
        return [line]
    start, end = place
    head, body, tail = line[: start + 1], line[start + 1 : end], line[end:]
    inner = indent + " " * 4
    parts = split_commas(body)
    generator = len(parts) == 1 and " for " in body and head[-1] == "("
    called = re.search(r"[\w\])][(\[]$", head) is not None
    if (called or len(parts) == 1 or generator) and len(inner + body) <= width and not body.endswith(","):
        comma = "," if len(parts) == 1 and head.lstrip().startswith(("def ", "class ")) else ""
        return [head, f"{inner}{body}{comma}", f"{indent}{tail}"]
    if len(parts) == 1:
        comma = "" if generator or body.startswith("*(") else ","
        pieces = _split(f"{inner}{parts[0]}", inner, width)
        pieces[-1] += comma
        return [head, *pieces, f"{indent}{tail}"]
    lines = [head]
    for part in parts:
        pieces = _split(f"{inner}{part},", inner, width)
        lines += pieces
    return [*lines, f"{indent}{tail}"]


def _last_bracket(line: str) -> tuple[int, int] | None:
    """Where the last outermost pair of brackets with something inside opens and closes."""
    bracket, depth, start, quote = None, 0, 0, ""
    for place, character in enumerate(line):
        if quote:
            quote = "" if character == quote and line[place - 1] != "\\" else quote
        elif character in "\"'":
            quote = character
        elif character in _OPEN:
            start = place if depth == 0 else start
            depth += 1
        elif character in _CLOSE:
            depth -= 1
            if depth == 0 and place > start + 1:
                bracket = start, place
    return bracket


def split_commas(text: str) -> list[str]:
    """The parts of a text between its outermost commas."""
    parts, depth, start, quote = [], 0, 0, ""
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote and text[place - 1] != "\\" else quote
        elif character in "\"'":
            quote = character
        elif character in _OPEN:
            depth += 1
        elif character in _CLOSE:
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    return [part for part in [*parts, text[start:].strip()] if part]
