"""A reader of .proto text that keeps positions."""

import re
from typing import TYPE_CHECKING

from .errors import Refused
from .proto import LARGEST, Enum, Field, File, Message
from .source_text import line_of

if TYPE_CHECKING:
    from typing import NoReturn

TOKEN = re.compile(
    r"""
    (?P<blank> [\s\0]+ | //[^\n]* | /\*.*?\*/ )
    | (?P<string> "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' )
    | (?P<name> \.?[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)* )
    | (?P<number> (?:\d|\.\d)(?:[A-Za-z0-9_.]|(?<=[eE])[+-])* )
    | (?P<sign> [{}()\[\]<>=;,:+-] | /(?!\*) )
    """,
    re.ASCII | re.DOTALL | re.VERBOSE,
)
LABELS = ("optional", "required", "repeated")


def parse(text: str, path: str) -> File:
    """Raises Refused with the line of ``path`` that is no proto2 (or proto3) text."""
    try:
        return _Parser(text, path).file()
    except RecursionError:
        raise Refused(f"{path}: messages or options are nested too deep to be read") from None


class _Parser:
    def __init__(self, text: str, path: str) -> None:
        self.text, self.path = text, path
        self.tokens: list[tuple[str, str, int]] = []
        at = 3 if text.startswith("\xef\xbb\xbf") else 0
        while at < len(text):
            found = TOKEN.match(text, at)
            if not found:
                never_closed = {"/*": "this comment is never closed", '"': "this string is never closed"}
                unexpected = f"unexpected {text[at]!r}"
                self.fail(at, never_closed.get(text[at : at + 2], never_closed.get(text[at], unexpected)))
            if found.lastgroup != "blank":
                self.tokens.append((str(found.lastgroup), found.group(), at))
            at = found.end()
        self.tokens.append(("end", "the end of the file", len(text)))
        self.next = 0

    def fail(self, position: int, problem: str) -> "NoReturn":
        raise Refused(f"{self.path}:{line_of(self.text, position)}: {problem}; protoc would not read it either")

    def peek(self) -> str:
        return self.tokens[self.next][1] if self.tokens[self.next][0] != "string" else "a string"

    def at(self) -> int:
        return self.tokens[self.next][2]

    def end(self) -> int:
        """Behind the last token taken."""
        _, value, start = self.tokens[self.next - 1]
        return start + len(value)

    def take(self, kind: str, what: str) -> str:
        found, value, at = self.tokens[self.next]
        if found != kind:
            self.fail(at, f"expected {what}, got {value}")
        self.next += 1
        return value

    def sign(self, expected: str) -> None:
        if self.peek() != expected:
            self.fail(self.at(), f'expected "{expected}", got {self.peek()}')
        self.next += 1

    def accept(self, word: str) -> bool:
        if self.peek() != word:
            return False
        self.next += 1
        return True

    def integer(self, what: str) -> int:
        negative = self.accept("-")
        at, value = self.at(), self.take("number", what)
        if not re.match(r"(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\Z", value):
            self.fail(at, f"expected {what}, got {value}")
        octal = value.startswith("0") and value.isdigit()
        number = int(value, 8) if octal else int(value, 0)
        return -number if negative else number

    def file(self) -> File:
        result = File()
        while self.tokens[self.next][0] != "end":
            word = self.peek()
            if word in ("syntax", "edition"):
                self.next += 1
                self.sign("=")
                version = self.take("string", "a string")[1:-1]
                result.syntax = version if word == "syntax" else f"edition {version}"
                self.sign(";")
            elif word == "package":
                self.next += 1
                result.package = self.take("name", "a package")
                self.sign(";")
            elif word in ("import", "option"):
                self.skip_statement()
            elif word == "message":
                result.messages.append(self.message(result.syntax))
            elif word == "enum":
                result.enums.append(self.enum())
            elif word == "extend":
                self.extend(Message("", self.at()), result.syntax)
            elif word == "service":
                self.next += 1
                self.take("name", "a name")
                self.skip_braces()
            elif not self.accept(";"):
                self.fail(self.at(), f"expected a message, enum, option or the like, got {word}")
        return result

    def skip_statement(self) -> None:
        """To the semicolon that ends it."""
        while not self.accept(";"):
            if self.peek() == "{":
                self.skip_braces()
            elif self.tokens[self.next][0] == "end" or self.peek() == "}":
                self.fail(self.at(), f'expected ";", got {self.peek()}')
            else:
                self.next += 1

    def skip_braces(self) -> None:
        start = self.at()
        self.sign("{")
        depth = 1
        while depth:
            if self.tokens[self.next][0] == "end":
                self.fail(start, 'this "{" is never closed')
            depth += {"{": 1, "}": -1}.get(self.peek(), 0)
            self.next += 1

    def message(self, syntax: str) -> Message:
        result = Message("", self.at())
        self.next += 1
        result.name = self.take("name", "the name of a message")
        self.body(result, syntax)
        return result

    def body(self, result: Message, syntax: str) -> None:
        opened = self.at()
        self.sign("{")
        while self.peek() != "}":
            word = self.peek()
            follows = self.tokens[self.next + 1][1] if self.tokens[self.next][0] == "name" else ""
            if self.tokens[self.next][0] == "end":
                self.fail(opened, f'the "{{" of {result.name or "extend"} is never closed')
            elif word == "message" and follows != "=":
                result.messages.append(self.message(syntax))
            elif word == "enum":
                result.enums.append(self.enum())
            elif word == "extend":
                self.extend(result, syntax)
            elif word == "option":
                self.skip_statement()
            elif word == "oneof":
                self.next += 1
                self.take("name", "the name of a oneof")
                self.sign("{")
                while not self.accept("}"):
                    if self.peek() == "option":
                        self.skip_statement()
                    else:
                        self.field(result, "oneof", syntax)
            elif word in ("reserved", "extensions"):
                self.numbers(result, word)
            elif not self.accept(";"):
                self.field(result, "", syntax)
        result.close = self.at()
        self.next += 1

    def extend(self, around: Message, syntax: str) -> None:
        """Its fields have numbers of another message's extensions; its groups are messages of this one."""
        self.next += 1
        self.take("name", "the name of a message")
        inner = Message("", self.at())
        self.body(inner, syntax)
        around.messages += inner.messages

    def numbers(self, result: Message, kind: str) -> None:
        self.next += 1
        while True:
            if self.tokens[self.next][0] in ("string", "name"):
                value = self.take(self.tokens[self.next][0], "a name")
                result.reserved_names.append(value.strip("\"'"))
            else:
                first = last = self.integer("a number")
                if self.accept("to"):
                    last = LARGEST if self.accept("max") else self.integer('a number or "max"')
                result.ranges.append((first, last, "reserved numbers" if kind == "reserved" else kind))
            if not self.accept(","):
                break
        if self.accept("["):
            self.options()
        self.sign(";")

    def field(self, result: Message, label: str, syntax: str) -> None:
        start = self.at()
        if self.peek() in LABELS and not label:
            label = self.take("name", "a label")
        elif not label and self.peek() != "map" and syntax == "proto2":
            self.fail(start, f"expected optional, required or repeated, got {self.peek()}")
        type_ = self.take("name", "the type of a field")
        if type_ == "map" and self.accept("<"):
            key = self.take("name", "a type")
            self.sign(",")
            type_ = f"map<{key}, {self.take('name', 'a type')}>"
            self.sign(">")
        name = self.take("name", "the name of a field")
        self.sign("=")
        number_at = self.at()
        field = Field(label, type_, name, self.integer("the number of a field"), start)
        field.number_span = (number_at, self.end())
        if self.accept("["):
            field.default = self.options()
        if type_ == "group":
            group = Message(name, start)
            field.type, field.name = name, name.lower()
            self.body(group, syntax)
            result.messages.append(group)
        else:
            self.sign(";")
        field.end = self.end()
        result.fields.append(field)

    def options(self) -> "str | None":
        """Behind "[" up to and with "]"; the value of ``default``."""
        default = None
        while not self.accept("]"):
            if self.peek() == "{":
                self.skip_braces()
            elif self.tokens[self.next][0] == "end" or self.peek() == ";":
                self.fail(self.at(), f'expected "]", got {self.peek()}')
            elif self.accept("default") and self.accept("="):
                start = self.at()
                while self.peek() not in (",", "]", ";") and self.tokens[self.next][0] != "end":
                    self.next += 1
                default = self.text[start : self.end()]
            else:
                self.next += 1
        return default

    def enum(self) -> Enum:
        start = self.at()
        self.next += 1
        result = Enum(self.take("name", "the name of an enum"), start)
        self.sign("{")
        while not self.accept("}"):
            if (self.peek() == "option" and self.tokens[self.next + 1][1] != "=") or (
                self.peek() == "reserved" and self.tokens[self.next + 1][1] != "="
            ):
                self.skip_statement()
            elif not self.accept(";"):
                name = self.take("name", "the name of a value")
                self.sign("=")
                result.values[name] = self.integer("a number")
                if self.accept("["):
                    self.options()
                self.sign(";")
        result.end = self.end()
        return result
