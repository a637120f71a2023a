"""A quick way through text format as nearly all files have it: whole fields on a line, without lists and escapes.

Of any other text it returns None, for the parser that knows all of the format and says what is wrong with it.
"""

from __future__ import annotations

import re

from ..errors import PrototxtError
from .tree import Field, Message, Scalar

_SPACES = " \t\r\f\v"
_SPACE = rf"[{_SPACES}]*"
_ITEM = re.compile(
    rf"""{_SPACE}(?:
      ([A-Za-z_][A-Za-z0-9_]*){_SPACE}
      (?: : {_SPACE} (?:
            "([^"\\]*)" | '([^'\\]*)'
          | ([-+]?(?:0[xX][0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?[fF]?))
          | ([A-Za-z_][A-Za-z0-9_]*)
          ) (?=[ \t\r\f\v;,}}\#]|$) {_SPACE}[;,]?
        | (?::{_SPACE})?(\{{)
      )
    | (\}}){_SPACE}[;,]?
    | (?:\#.*)?$
    )""",
    re.VERBOSE,
)
_NAME, _DOUBLE, _SINGLE, _NUMBER, _WORD, _OPEN, _CLOSE = range(1, 8)
_BEGIN, _END, _NOT_PLAIN = "{", "}", "?"
_KINDS = {
    _DOUBLE: "string", _SINGLE: "string", _NUMBER: "number", _WORD: "word", _OPEN: _BEGIN, _CLOSE: _END,
}  # fmt: skip

_Item = tuple[str, str, str | None, int, int, int]
"""(its kind: a scalar's, or one of the three above; a field's name; a scalar's text; where the space before the item
begins, where its name stands, and where the brace of its message: columns, from 1)."""


def too_many(most_fields: int) -> str:
    return f"more than {most_fields} fields, far more than a net has"


def parse_plain(text: str, source: str, most_depth: int, most_fields: int) -> Message | None:
    """Return the tree of the text, with every line and column, or None where it is not as plain as that.

    Raises PrototxtError where it has more than ``most_fields``.
    """
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, of which a string's bytes are not these
        return None
    message = Message([], source, 1, 1)
    outer: list[Message] = []
    fields, left = message.fields, most_fields
    items_of: dict[str, list[_Item]] = {}  # four in five lines of a large net stand there more than once
    for number, line in enumerate(text.split("\n"), 1):
        items = items_of.get(line)
        if items is None:
            if line.lstrip(_SPACES)[:1] in ("", "#"):
                continue
            items = items_of[line] = _items(line, 2 * left + most_depth + 3)  # enough to come to a stop below
        for kind, name, value, start, column, brace in items:
            if name:
                left -= 1
                if left < 0:
                    raise PrototxtError(f"{source}:{number}:{start}: {too_many(most_fields)}")
            if value is not None:
                fields.append(Field(name, Scalar(value, kind), number, column))
            elif kind == _BEGIN and len(outer) < most_depth:
                outer.append(message)
                message = Message([], source, number, brace)
                fields.append(Field(name, message, number, column))
                fields = message.fields
            elif kind == _END and outer:
                message = outer.pop()
                fields = message.fields
            else:
                return None
    return None if outer else message


def _items(line: str, most: int) -> list[_Item]:
    """Return what stands on a line, up to the first item that is not plain, and no more than so many."""
    items: list[_Item] = []
    position, end = 0, len(line)
    while position < end and len(items) < most:
        match = _ITEM.match(line, position)
        if match is None:
            items.append((_NOT_PLAIN, "", None, 0, 0, 0))
            break
        group = match.lastindex
        if group is None:  # nothing but space or a comment is left
            break
        value = match[group] if group not in (_OPEN, _CLOSE) else None
        columns = position + 1, match.start(_NAME) + 1, match.start(_OPEN) + 1
        items.append((_KINDS[group], match[_NAME] or "", value, *columns))
        position = match.end()
    return items
