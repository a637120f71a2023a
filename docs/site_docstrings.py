"""This repository's docstrings as Markdown, for mkdocstrings: an extension of griffe.

A docstring here is prose in which a line ``name: what it is`` tells of a parameter or an attribute, further lines of it
indented. Such lines become a list; examples (``>>>``) become code; what Markdown would take for its own marks stays as
it is written.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import griffe

ENTRY = re.compile(r"(\w+(?:, \w+)*): +(\S.*)")
CHOICE = re.compile(r'("[^"]*"): +(\S.*)')
ROLE = re.compile(r":(?:func|class|meth|mod):`([^`]*)`")
OWN = re.compile(r"\bself\.(\w+)")
CODE = re.compile(r"(``.+?``|`[^`]+`)")


class HouseStyle(griffe.Extension):
    """Rewrites every docstring of a package once it is read."""

    def on_package(self, *, pkg: griffe.Module, **others: Any) -> None:
        """Go through all that the package holds; what it imports from itself is met where it is defined."""
        for item in everything(pkg):
            if item.docstring is not None:
                item.docstring.value = as_markdown(item.docstring.value, names_of(item))


def everything(item: griffe.Object) -> Iterator[griffe.Object]:
    """Yield the object and all below it."""
    yield item
    for member in item.members.values():
        if isinstance(member, griffe.Object):
            yield from everything(member)


def names_of(item: griffe.Object) -> set[str]:
    """Return the names that a docstring may tell of: parameters, and a class's attributes."""
    names: set[str] = set()
    if isinstance(item, griffe.Class):
        names |= set(item.members)
        item = item.members.get("__init__", item)
    if isinstance(item, griffe.Function):
        names |= {parameter.name for parameter in item.parameters}
        if item.name == "__init__" and item.parent is not None:
            names |= set(item.parent.members) | set(OWN.findall(item.source))
    return names


def as_markdown(text: str, names: Iterable[str]) -> str:
    """Return the docstring as Markdown; ``names`` are those that entries may have."""
    known, lines, out = set(names), textwrap.dedent(text).splitlines(), []
    in_list, number = False, 0
    while number < len(lines):
        line = lines[number]
        number += 1
        entry = ENTRY.fullmatch(line)
        if line.startswith(">>>"):
            block = [line]
            while number < len(lines) and lines[number].strip():
                block.append(lines[number])
                number += 1
            out += ["", "```pycon", *block, "```", ""]
            in_list = False
        elif entry is not None and set(entry[1].split(", ")) <= known:
            out += [] if in_list else [""]
            titles = ", ".join(f"`{name}`" for name in entry[1].split(", "))
            out.append(f"- {titles}: {plain(entry[2])}")
            in_list = True
        elif in_list and line.startswith("    "):
            choice = CHOICE.fullmatch(line.strip())
            out.append(f"    - `{choice[1]}`: {plain(choice[2])}" if choice else f"    {plain(line.strip())}")
        elif line.startswith("    "):  # code, or a table of names
            out.append(line)
        else:
            out += ["", plain(line)] if in_list and line.strip() else [plain(line)]
            in_list = in_list and not line.strip()
    return "\n".join(out).strip() + "\n"


def plain(text: str) -> str:
    """Return prose that Markdown shows as it stands: formulas keep their stars, brackets and angles."""
    parts = CODE.split(ROLE.sub(r"`\1`", text))
    parts[::2] = [re.sub(r"([*\[\]<])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)
