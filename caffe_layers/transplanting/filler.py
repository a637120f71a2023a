"""The filler's class and its choice into the text of include/caffe/filler.hpp."""

import re

from .errors import Refused
from .source_text import (
    closing,
    code_of,
    comments,
    edited,
    indent_at,
    line_end,
    line_start,
    newline_of,
    with_newline,
)

FUNCTION = re.compile(
    r"template\s*<\s*(?:typename|class)\s+(?P<dtype>\w+)\s*>\s*(?:\w+\s+)*?(?:caffe\s*::\s*)?"
    r"Filler\s*<\s*(?P=dtype)\s*>\s*\*\s*GetFiller\s*"
    r"\(\s*(?:const\s+)?(?:caffe\s*::\s*)?FillerParameter\s*(?:const\s*)?&\s*(?P<param>\w+)\s*\)\s*\{"
)


def with_filler(text: str, path: str, name: str, class_text: str) -> "str | None":
    """``text`` with the filler ``name`` of ``class_text``; None if it has one of that name already."""
    code = code_of(text)
    class_name = re.findall(r"\bclass\s+(\w+)\s*:", code_of(class_text))[0]
    if f'"{name}"' in code_of(text, keep_strings=True):
        return None
    if re.search(rf"\bclass\s+{class_name}\b", code):
        raise Refused(f'{path} has a class {class_name}, but no "{name}" that chooses it; rename the class')
    functions = list(FUNCTION.finditer(code))
    if len(functions) != 1 or closing(code, functions[0].end() - 1) < 0:
        found = "defines GetFiller more than once" if len(functions) > 1 else "has no GetFiller of the known shape"
        raise Refused(f"{path} {found}; expected one Filler<Dtype>* GetFiller(const FillerParameter& param) {{ ... }}")
    function = functions[0]
    newline = newline_of(text)

    before = _with_comment_above(text, function.start())
    indent = indent_at(text, before)
    block = "".join((indent + line).rstrip() + "\n" for line in class_text.rstrip().split("\n"))
    edits = [(before, before, with_newline(block + "\n", newline))]

    at, value, inner = _choice(text, code, function)
    made = f"new {class_name}<{function.group('dtype')}>({function.group('param')})"
    choice = [f'if ({value} == "{name}") {{', f"  return {made};", "}"]
    end = line_end(text, at)
    lines = "".join(inner + line + newline for line in choice)
    if code[at:end].strip():  # more code on the line
        edits.append((at, at, newline + lines + inner))
    else:
        edits.append((end, end, lines))
    return edited(text, edits)


def _with_comment_above(text: str, position: int) -> int:
    """The start of the line of ``position`` or of the comments directly above it."""
    start = line_start(text, position)
    if text[start:position].strip():
        return position
    for first, last in reversed(comments(text)):
        if last > start:
            continue
        between = text[last:start]
        if between.strip() or between.count("\n") > 1 or text[line_start(text, first) : first].strip():
            break
        start = line_start(text, first)
    return start


def _choice(text: str, code: str, function: "re.Match[str]") -> "tuple[int, str, str]":
    """Behind what the choice goes, the expression for the type, and the indentation."""
    opened = function.end() - 1
    parameter = function.group("param")
    statement = re.compile(rf"(?:string|auto)\s*&?\s*(\w+)\s*=\s*{parameter}\s*\.\s*type\s*\(\s*\)\s*;")
    found = statement.search(code, opened, closing(code, opened))
    if found and code.count("{", opened, found.start()) - code.count("}", opened, found.start()) == 1:
        return found.end(), found.group(1), indent_at(text, found.start())
    return opened + 1, f"{parameter}.type()", indent_at(text, function.start()) + "  "
