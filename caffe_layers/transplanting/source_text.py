"""Texts of a tree: bytes and line endings kept, code told from comments and strings.

Files are read as Latin-1, which maps every byte to a character and back, whatever their encoding is.
"""

import re

COMMENT_OR_STRING = re.compile(
    r"""
    //(?:\\\r?\n|[^\n])*
    | /\*.*?(?:\*/|\Z)
    | \b(?:u8|[uUL])?R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)"
    | "(?:[^"\\\n]|\\\r\n|\\.)*"
    | (?<![0-9])'(?:[^'\\\n]|\\.)*'
    """,
    re.ASCII | re.DOTALL | re.VERBOSE,
)
NOT_NEWLINE = re.compile(r"[^\r\n]")


def decode(data: bytes) -> str:
    return data.decode("latin-1")


def encode(text: str) -> bytes:
    return text.encode("latin-1")


def newline_of(text: str) -> str:
    """The line ending that most lines have."""
    return "\r\n" if 2 * text.count("\r\n") > text.count("\n") else "\n"


def with_newline(text: str, newline: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", newline)


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def line_start(text: str, position: int) -> int:
    return text.rfind("\n", 0, position) + 1


def line_end(text: str, position: int) -> int:
    """Behind the line's newline, or the end of the text."""
    end = text.find("\n", position)
    return len(text) if end < 0 else end + 1


def indent_at(text: str, position: int) -> str:
    """The white space that the line of ``position`` begins with."""
    found = re.compile(r"[ \t]*").match(text, line_start(text, position))
    return found.group() if found else ""


def edited(text: str, edits: "list[tuple[int, int, str]]") -> str:
    """``text`` with each [start, end) replaced; those at one place in the order given."""
    parts = []
    at = 0
    for start, end, new in sorted(edits, key=lambda edit: edit[0]):
        parts += [text[at:start], new]
        at = end
    return "".join([*parts, text[at:]])


def comments(text: str) -> "list[tuple[int, int]]":
    """Where C++ comments are, without the newline of a // comment."""
    return [found.span() for found in COMMENT_OR_STRING.finditer(text) if found.group()[:2] in ("//", "/*")]


def code_of(text: str, keep_strings: bool = False) -> str:
    """C++ of the same length with blanks for comments, strings, and what #if 0 leaves out."""

    def blank(found: "re.Match[str]") -> str:
        is_comment = found.group()[:2] in ("//", "/*")
        return found.group() if keep_strings and not is_comment else NOT_NEWLINE.sub(" ", found.group())

    return _without_if_0(COMMENT_OR_STRING.sub(blank, text))


def _without_if_0(code: str) -> str:
    if not re.search(r"#[ \t]*if[ \t]+0\b", code):
        return code
    lines = []
    depth = 0  # of the #if 0 that is open, and of those within
    for line in code.splitlines(True):
        directive = re.match(r"\s*#\s*(if|el|endif)", line)
        kind = directive.group(1) if directive else ""
        if depth:
            depth += {"if": 1, "endif": -1, "el": -1 if depth == 1 else 0}.get(kind, 0)
            lines.append(NOT_NEWLINE.sub(" ", line))
        else:
            depth = 1 if re.match(r"\s*#\s*if\s+0\s*$", line) else 0
            lines.append(line)
    return "".join(lines)


def closing(code: str, position: int) -> int:
    """Where the bracket at ``position`` of code without comments and strings is closed; -1 if nowhere."""
    pairs = {"{": "}", "(": ")"}
    opening = code[position]
    depth = 0
    for at in range(position, len(code)):
        if code[at] == opening:
            depth += 1
        elif code[at] == pairs[opening]:
            depth -= 1
            if depth == 0:
                return at
    return -1
