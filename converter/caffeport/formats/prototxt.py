"""Protobuf text format to a message tree and back, without a schema.

Forks of Caffe add fields freely, so nothing here knows which fields exist: every field is kept, in
order, with the line and column it came from. :mod:`caffeport.formats.schema` gives the fields a type.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import PrototxtError, quoted
from .byte_names import from_bytes
from .escapes import EscapeError, unescape
from .other_files import CAFFEMODEL, START, kind_of, misplaced
from .plain_text import parse_plain, too_many
from .tree import Field, Message, Scalar

__all__ = ["Field", "Message", "Scalar", "load", "parse"]

# Google's parsers stop at 100 nested messages; a deeper file is an attack or an accident.
MAX_DEPTH = 100
# The largest published networks have about 1 MB of text; this only stops a weights file or a disk image.
MAX_BYTES = 64 << 20
# They have some 50,000 fields; a file of nothing else would take minutes, and fifty times its size of memory.
MAX_FIELDS = 200_000
MAX_ESCAPES = 100_000  # of one string

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n\f\v]+|\#[^\n]*)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?[fF]?))
    | (?P<string>"[^"\\\n]*(?:\\.[^"\\\n]*){0,MOST}"|'[^'\\\n]*(?:\\.[^'\\\n]*){0,MOST}')
    | (?P<mark>[{}<>\[\]:,;./-])
    | (?P<other>.)
    """.replace("MOST", str(MAX_ESCAPES)),
    re.VERBOSE,
)
_CLOSING = {"{": "}", "<": ">"}


def load(path: str | Path) -> Message:
    """Parse the text of a net, a solver or any other message of Caffe's, without knowing its fields.

    Raises PrototxtError with file:line:column for what is no such text, and for a file of weights or another kind.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "solver.prototxt")
    >>> _ = path.write_text('base_lr: 0.1 net: "train.prototxt"')
    >>> load(path).text("net")
    'train.prototxt'
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise PrototxtError(f"{path}: is a folder; expected a prototxt file{_within(path)}")
        with open(path, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise PrototxtError(f"{path}: {error.strerror or error}") from error
    kind = kind_of(raw[:START])
    if kind is CAFFEMODEL:
        raise PrototxtError(
            f"{path}: is {kind.name}; the text of a net (.prototxt) comes first, then its weights: NET WEIGHTS"
        )
    if kind is not None:
        raise PrototxtError(f"{path}: {misplaced(kind, 'the text of a net (.prototxt)')}")
    if len(raw) > MAX_BYTES:
        raise PrototxtError(
            f"{path}: more than {MAX_BYTES >> 20} MiB is too large for a prototxt; "
            "is this the weights file? The net's text comes first"
        )
    if b"\0" in raw:
        raise PrototxtError(f"{path}: is a binary file; expected the text of a net (.prototxt)")
    # Comments in old prototxts are often in a local encoding; within a string the escapes mean the same bytes.
    message = parse(from_bytes(raw.removeprefix(codecs.BOM_UTF8)), str(path))
    message.sha256 = hashlib.sha256(raw).hexdigest()
    return message


def _within(folder: Path) -> str:
    """The net and the weights that a folder has, if they are the only ones."""
    files = [sorted(folder.glob(f"*{ending}")) for ending in (".prototxt", ".caffemodel")]
    return f": give {files[0][0]} {files[1][0]}" if all(len(names) == 1 for names in files) else ""


def parse(text: str, source: str = "<text>") -> Message:
    """Parse prototxt text. ``source`` names it in error messages."""
    return parse_plain(text, source, MAX_DEPTH, MAX_FIELDS) or _Parser(text, source).parse()


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self.source, self.left = source, MAX_FIELDS
        self.tokens = self._tokens(text)
        self.kind, self.token, self.line, self.column = next(self.tokens)

    def _tokens(self, text: str) -> Iterator[tuple[str, str, int, int]]:
        position, line, start = 0, 1, 0
        for match in _TOKEN.finditer(text):
            begin, end = match.span()
            if match.lastgroup == "other":
                break
            position = end
            if match.lastgroup != "space":
                yield match.lastgroup or "", match.group(), line, begin - start + 1
            elif newlines := text.count("\n", begin, end):  # no other token has any
                line += newlines
                start = text.rfind("\n", begin, end) + 1
        if position < len(text):
            problem = f"unexpected character {text[position]!r}"
            if text[position] in "\"'":
                problem = "a string begins here that has no end on its line"
                if text.count("\\", position) > MAX_ESCAPES:
                    problem += f", or more than {MAX_ESCAPES} escapes"
            raise self._error(problem, line, position - start + 1)
        yield "end", "the end of the file", line, position - start + 1

    def _error(self, problem: str, line: int | None = None, column: int | None = None) -> PrototxtError:
        return PrototxtError(f"{self.source}:{line or self.line}:{column or self.column}: {problem}")

    def _next(self) -> str:
        token = self.token
        self.kind, self.token, self.line, self.column = next(self.tokens)
        return token

    def _accept(self, marks: str) -> bool:
        if self.kind == "mark" and self.token in marks:
            self._next()
            return True
        return False

    def parse(self) -> Message:
        message = Message(source=self.source, line=1, column=1)
        self._fields(message, "", 0)
        return message

    def _fields(self, message: Message, closing: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self._error(f"messages are nested more than {MAX_DEPTH} deep")
        while not (self.kind == "end" if not closing else self.token == closing and self.kind == "mark"):
            if self.kind == "end":
                raise self._error(
                    f'expected "{closing}" to close the message opened at line {message.line}; is the file cut short?'
                )
            self._field(message, depth)

    def _field(self, message: Message, depth: int) -> None:
        self._count()
        line, column = self.line, self.column
        name = self._name()
        colon = self._accept(":")
        if self.kind == "mark" and self.token in "{<":
            message.fields.append(Field(name, self._message(depth), line, column))
        elif not colon and self.token != "[":  # a list of messages needs none
            raise self._error(f'expected ":" or "{{" after "{name}", got {self._shown()}')
        elif self._accept("["):
            if not self._accept("]"):
                while True:
                    is_message = self.kind == "mark" and self.token in "{<"
                    self._count()
                    value: Scalar | Message = self._message(depth) if is_message else self._scalar(name)
                    message.fields.append(Field(name, value, line, column))
                    if self._accept("]"):
                        break
                    if not self._accept(","):
                        raise self._error(f'expected "," or "]" in the list of "{name}", got {self._shown()}')
        else:
            message.fields.append(Field(name, self._scalar(name), line, column))
        self._accept(",;")

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise self._error(too_many(MAX_FIELDS))

    def _name(self) -> str:
        if self._accept("["):  # an extension or Any: [some.package.name]
            parts = []
            while not self._accept("]"):
                if self.kind == "end":
                    raise self._error('expected "]" to close the extension name')
                parts.append(self._next())
            return "[" + "".join(parts) + "]"
        if self.kind != "word":
            raise self._error(f"expected the name of a field, got {self._shown()}")
        return self._next()

    def _message(self, depth: int) -> Message:
        message = Message(source=self.source, line=self.line, column=self.column)
        closing = _CLOSING[self._next()]
        self._fields(message, closing, depth + 1)
        self._next()
        return message

    def _scalar(self, name: str) -> Scalar:
        sign = "-" if self._accept("-") else ""
        if self.kind == "string" and not sign:
            parts = []
            while self.kind == "string":  # adjacent strings join
                self._count()
                parts.append(self._string())
            return Scalar(from_bytes(b"".join(parts)), "string")
        if self.kind == "word":
            return Scalar(sign + self._next(), "number" if sign else "word")
        if self.kind == "number":
            return Scalar(sign + self._next(), "number")
        raise self._error(f'expected a value for "{name}", got {self._shown()}')

    def _string(self) -> bytes:
        try:
            raw = unescape(self.token[1:-1])
        except EscapeError as error:
            raise self._error(str(error), column=self.column + 1 + error.position) from None
        self._next()
        return raw

    def _shown(self) -> str:
        return self.token if self.kind == "end" else quoted(self.token)
