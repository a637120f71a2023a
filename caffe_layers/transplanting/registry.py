"""Layer types and the macros that register them."""

import re
from typing import NamedTuple

from .errors import Refused
from .source_text import closing, code_of, edited, line_end, line_of

FACTORY = "include/caffe/layer_factory.hpp"
LAYER = "include/caffe/layer.hpp"
USE = re.compile(r"\b(REGISTER_LAYER_CLASS|REGISTER_LAYER_CREATOR)\s*\(\s*(\w+)\s*[,)]")
DEFINE = re.compile(r"^[ \t]*#[ \t]*define\b(?:\\\r?\n|[^\n])*", re.MULTILINE)
CREATOR = re.compile(
    r"shared_ptr\s*<\s*Layer\s*<\s*\w+\s*>\s*>\s*\(\s*\*\s*\w+\s*\)\s*\(\s*const\s+LayerParameter\s*&\s*\w*\s*\)"
)


class Registration(NamedTuple):
    type: str
    path: str
    start: int
    end: int
    """Behind its semicolon, if it has one."""
    by_class: bool
    """By REGISTER_LAYER_CLASS, not by a creator."""


def registrations(text: str, path: str) -> "list[Registration]":
    if "REGISTER_LAYER_C" not in text:
        return []
    code = DEFINE.sub(lambda found: re.sub(r"[^\r\n]", " ", found.group()), code_of(text))
    result = []
    for found in USE.finditer(code):
        closed = closing(code, code.index("(", found.start()))
        if closed < 0:
            raise Refused(f"{path}:{line_of(text, found.start())}: the bracket of {found.group(1)} is never closed")
        semicolon = re.compile(r"\s*;").match(code, closed + 1)
        end = semicolon.end() if semicolon else closed + 1
        result.append(Registration(found.group(2), path, found.start(), end, found.group(1).endswith("CLASS")))
    return result


def without(text: str, registration: Registration, chosen_by: str) -> str:
    """``text`` with the registration commented out in place."""
    start, end = registration.start, registration.end
    statement, note = text[start:end], f"chosen by {chosen_by}"
    rest = text[end : line_end(text, end)].strip()
    if "\n" not in statement and not rest.endswith("\\") and (not rest or rest.startswith("//")):
        return edited(text, [(start, end, f"// {statement}  // {note}")])
    if "*/" in statement:
        line = line_of(text, start)
        raise Refused(f"{registration.path}:{line}: take the comment out of the registration of {registration.type}")
    return edited(text, [(start, end, f"/* {statement}  {note} */")])


def _fork_of(parameters: str) -> str:
    """Which Caffe has these parameters of Layer, and which relative of it takes the face layers."""
    if "MItype" in parameters:
        return "as in the branch opencl of BVLC Caffe; its branch master takes them"
    return "unlike BVLC Caffe, which takes them"


def check_factory(factory: str, layer: str) -> None:
    """Raises Refused unless our sources can register themselves: Layer<Dtype>, and macros that make one of a type."""
    layer_code, code = code_of(layer), code_of(factory)
    for text, path in ((layer_code, LAYER), (code, FACTORY)):
        for found in re.finditer(r"template\s*<([^<>]*)>\s*class\s+(?:\w+\s+)?Layer\s*[:;{]", text):
            if found.group(1).count(","):
                parameters = " ".join(found.group(1).split())
                raise Refused(
                    f"{path}: Layer has the template parameters <{parameters}>, {_fork_of(parameters)}; the face layers"
                    " are written for Layer<Dtype>"
                )
    for name, count, expected in (
        ("REGISTER_LAYER_CREATOR", 2, r"\b{1}\s*<\s*float\s*>[\s\S]*\b{1}\s*<\s*double\s*>"),
        ("REGISTER_LAYER_CLASS", 1, r"\b{0}\s*##\s*Layer\s*<"),
    ):
        found_ = re.search(rf"^[ \t]*#[ \t]*define\s+{name}\s*\(([^()]*)\)((?:\\\r?\n|[^\n])*)", code, re.MULTILINE)
        if not found_:
            raise Refused(f"{FACTORY} doesn't define {name}; the face layers register themselves with it")
        names = [word.strip() for word in found_.group(1).split(",")]
        if len(names) != count or not re.search(expected.format(*names), found_.group(2)):
            raise Refused(f"{FACTORY}: {name} has another shape than BVLC Caffe's, so the face layers can't use it")
    if not CREATOR.search(code):
        raise Refused(f"{FACTORY}: expected creators shared_ptr<Layer<Dtype> > (*)(const LayerParameter&), as in BVLC")
