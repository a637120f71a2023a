"""The tree that text format is read into and written from: messages, their fields, scalars."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .escapes import quote


@dataclass(slots=True)
class Scalar:
    """A value as written: ``kind`` is "number", "string" (already unquoted) or "word" (enum, bool)."""

    text: str
    kind: str


@dataclass(slots=True)
class Field:
    """One ``name: value`` or ``name { ... }``, with its place in the file (both counted from 1)."""

    name: str
    value: Scalar | Message
    line: int = 0
    column: int = 0


@dataclass(slots=True)
class Message:
    """A message: its fields in the order of the text."""

    fields: list[Field] = field(default_factory=list)
    source: str = ""
    line: int = 0
    column: int = 0
    sha256: str = ""  # of the file that the whole text was read from

    def named(self, name: str) -> list[Field]:
        """Return the fields of that name, in the order of the text."""
        return [entry for entry in self.fields if entry.name == name]

    def messages(self, name: str) -> list[Message]:
        """Return the values of a repeated field that holds messages: ``net.messages("layer")``."""
        return [entry.value for entry in self.named(name) if isinstance(entry.value, Message)]

    def texts(self, name: str) -> list[str]:
        """Return the values of a repeated scalar field, as written."""
        return [entry.value.text for entry in self.named(name) if isinstance(entry.value, Scalar)]

    def text(self, name: str, default: str = "") -> str:
        """Return the value of a scalar field as written, the last one where it stands twice, as protobuf does."""
        for entry in reversed(self.fields):
            if entry.name == name and isinstance(entry.value, Scalar):
                return entry.value.text
        return default

    def has(self, name: str) -> bool:
        """Return whether a field of that name is set."""
        return any(entry.name == name for entry in self.fields)

    def add(self, name: str, value: str | int | float | bool | Message, *, quoted: bool = False) -> Field:
        """Append a field and return it; a string is a word (enum) unless ``quoted``."""
        if isinstance(value, Message):
            entry = Field(name, value)
        elif isinstance(value, bool):
            entry = Field(name, Scalar("true" if value else "false", "word"))
        elif isinstance(value, str):
            entry = Field(name, Scalar(value, "string" if quoted else "word"))
        else:
            entry = Field(name, Scalar(repr(value), "number"))
        entry.line, entry.column = self.line, self.column
        self.fields.append(entry)
        return entry

    def remove(self, *names: str) -> list[Field]:
        """Take the fields of these names out and return them."""
        entries = [entry for entry in self.fields if entry.name in names]
        self.fields = [entry for entry in self.fields if entry.name not in names]
        return entries

    def where(self, at: Field | Message | None = None) -> str:
        """Return ``file:line:column`` of a field of this message, or of the message itself."""
        spot = self if at is None else at
        return f"{self.source}:{spot.line}:{spot.column}" if spot.line else self.source

    def __str__(self) -> str:
        return "".join(_lines(self, 0))


def _lines(message: Message, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for entry in message.fields:
        if isinstance(entry.value, Message):
            yield f"{indent}{entry.name} {{\n"
            yield from _lines(entry.value, depth + 1)
            yield f"{indent}}}\n"
        else:
            text = quote(entry.value.text) if entry.value.kind == "string" else entry.value.text
            yield f"{indent}{entry.name}: {text}\n"
