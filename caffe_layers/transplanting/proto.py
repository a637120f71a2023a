"""What a .proto file declares, and where it stands in the text. proto_parser.py reads it."""

import struct

LARGEST = 536870911
"""The largest field number."""

INTEGERS = {f"{sign}int{bits}" for sign in ("", "u", "s") for bits in (32, 64)}
FIXED = {f"{sign}fixed{bits}" for sign in ("", "s") for bits in (32, 64)}
SCALARS = INTEGERS | FIXED | {"double", "float", "bool", "string", "bytes"}


class Field:
    def __init__(self, label: str, type_: str, name: str, number: int, start: int) -> None:
        self.label, self.type, self.name, self.number, self.start = label, type_, name, number, start
        self.end = start
        """Behind its semicolon."""
        self.number_span = (start, start)
        self.default: str | None = None

    @property
    def plain_type(self) -> str:
        """The type without package and outer messages."""
        return self.type.rpartition(".")[2]

    @property
    def unset(self) -> "float | str":
        """Its value where a text does not set it; numbers as numbers, since 1e-6 is 0.000001 and no default is 0."""
        text = self.default or ""
        try:
            if self.type == "float":
                return float(struct.unpack("f", struct.pack("f", float(text or 0)))[0])
            if self.type == "double":
                return float(text or 0)
            if self.type in INTEGERS | FIXED:
                return int(text or "0", 0)
        except (ValueError, OverflowError):  # an octal number, or none at all: as text
            return text
        if self.type == "bool":
            return text or "false"
        return text[1:-1] if text[:1] in ("'", '"') else text


class Enum:
    def __init__(self, name: str, start: int) -> None:
        self.name, self.start, self.end = name, start, start
        self.values: dict[str, int] = {}


class Message:
    def __init__(self, name: str, start: int) -> None:
        self.name, self.start = name, start
        self.close = start
        """Where its closing brace is."""
        self.fields: list[Field] = []
        self.enums: list[Enum] = []
        self.messages: list[Message] = []
        self.ranges: list[tuple[int, int, str]] = []
        """First and last number that no field may have, and why: "reserved numbers" or "extensions"."""
        self.reserved_names: list[str] = []

    def field(self, name: str) -> "Field | None":
        return next((field for field in self.fields if field.name == name), None)

    def enum(self, name: str) -> "Enum | None":
        return next((enum for enum in self.enums if enum.name == name), None)


class File:
    def __init__(self) -> None:
        self.syntax = "proto2"
        self.package = ""
        self.messages: list[Message] = []
        self.enums: list[Enum] = []

    def message(self, name: str) -> "Message | None":
        return next((message for message in self.messages if message.name == name), None)
