"""A quick way through text format as nearly all files have it: whole fields on a line, without lists and escapes.

Of any other text it returns None, for the parser that knows all of the format and says what is wrong with it.
"""

from __future__ import annotations

import re

from ..errors import PrototxtError
from .tree import Field, Message, Scalar

_SPACE = r"[ \t\r\f\v]*"
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
_KINDS = {_DOUBLE: "string", _SINGLE: "string", _NUMBER: "number", _WORD: "word"}


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
    root = message = Message(source=source, line=1, column=1)
    outer: list[Message] = []
    match_at, left = _ITEM.match, most_fields
    for number, line in enumerate(text.split("\n"), 1):
        position, end = 0, len(line)
        while position < end:
            match = match_at(line, position)
            if match is None:
                return None
            kind = match.lastindex
            if kind is None:  # nothing but space or a comment is left
                break
            position = match.end()
            left -= kind != _CLOSE
            if left < 0:
                raise PrototxtError(f"{source}:{number}:{match.start() + 1}: {too_many(most_fields)}")
            if kind == _OPEN:
                if len(outer) >= most_depth:
                    return None
                inner = Message(source=source, line=number, column=match.start(_OPEN) + 1)
                message.fields.append(Field(match[_NAME], inner, number, match.start(_NAME) + 1))
                outer.append(message)
                message = inner
            elif kind == _CLOSE:
                if not outer:
                    return None
                message = outer.pop()
            else:
                scalar = Scalar(match[kind], _KINDS[kind])
                message.fields.append(Field(match[_NAME], scalar, number, match.start(_NAME) + 1))
    return None if outer else root
