"""Where a tree keeps a layer's class of its own, whatever the names of its files; and what is put in its place."""

import re
from typing import NamedTuple

from .registry import Registration
from .source_text import closing, code_of, decode
from .tree import HEADER, Tree

DEFINED = re.compile(r"\b(?:class|struct)\s+(?:\w+\s+)?(\w+)\s*(?:final\s*)?[:{]")
INSTANTIATED = re.compile(r"\b(?:INSTANTIATE_CLASS|INSTANTIATE_LAYER_GPU_\w+|STUB_GPU\w*)\s*\(\s*(\w+)")
MEMBER = re.compile(r"\b(\w+Layer)\s*<\s*\w+\s*>\s*::\s*~?\w+\s*\(")
BEHIND_A_DEFINITION = re.compile(r"\s*(?:const\s*)?[{:]")
TESTS = "src/caffe/test/"


class OwnClass(NamedTuple):
    headers: "list[str]"
    sources: "list[str]"
    problem: str
    """Why its files can't be replaced; "" if they can."""


def find(tree: Tree, type_: str, ours: "list[str]", registrations: "dict[str, list[Registration]]") -> OwnClass:
    """The files of ``type_`` and those in the place of ``ours``, which hold nothing else if there is no problem.

    ``registrations`` are the tree's.
    """
    name = f"{type_}Layer"
    headers = [path for path in tree.headers() if _mentions(tree, path, name) and name in _declared(tree, path)]
    sources = [registration.path for registration in registrations[type_]]
    for path in tree.sources():
        if path not in sources and not path.startswith(TESTS) and _mentions(tree, path, name):
            sources += [path] if name in _implemented(tree, path) else []
    there = [path for path in ours if tree.find(path) is not None and path not in [*headers, *sources]]
    headers += [path for path in there if path.endswith(HEADER)]
    sources += [path for path in there if not path.endswith(HEADER)]
    return OwnClass(headers, sources, _problem(tree, type_, headers, sources, registrations))


def _problem(
    tree: Tree, type_: str, headers: "list[str]", sources: "list[str]", registrations: "dict[str, list[Registration]]"
) -> str:
    for path in sources:
        for other, found in registrations.items():
            if other != type_ and path in [registration.path for registration in found]:
                return f"{path} registers {other} too"
        others = sorted(_implemented(tree, path) - {f"{type_}Layer"})
        if others:
            return f"{path} has {others[0]} too"
    for path in headers:
        others = sorted(_declared(tree, path) - {f"{type_}Layer"})
        if others:
            return f"{path} declares {others[0]} too"
    return ""


def moved(path: str, layer_header: str, type_: str) -> str:
    """The text of a file of the tree's class that has another name than ours: the build and others' includes find it.

    An empty file in the place of one with code also renews the object that a static library has of it.
    """
    if path.endswith(HEADER):
        include = layer_header[len("include/") :]
        return f'#include "{include}"  // normface\'s {type_}; transplant.py --revert brings this file back\n'
    return f"// {type_} is normface's now, see {layer_header}; transplant.py --revert brings this file back.\n"


def _mentions(tree: Tree, path: str, name: str) -> bool:
    return name.encode() in (tree.find(path) or b"")


def _declared(tree: Tree, path: str) -> "set[str]":
    """The classes that a header defines."""
    return set(DEFINED.findall(code_of(decode(tree.find(path) or b""))))


def _implemented(tree: Tree, path: str) -> "set[str]":
    """The layers' classes of which a source has members or instances."""
    code = code_of(decode(tree.find(path) or b""))
    result = set(INSTANTIATED.findall(code))
    for found in MEMBER.finditer(code):
        closed = closing(code, found.end() - 1)
        if closed >= 0 and BEHIND_A_DEFINITION.match(code, closed + 1):
            result.add(found.group(1))
    return result
