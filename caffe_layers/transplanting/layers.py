"""The face layers as they stand in caffe_layers/: manifest.json, the files, and the fields of face_layers.proto."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from . import proto_parser
from .errors import Refused
from .proto import Enum, Field, File, Message
from .source_text import decode, line_end, line_start

TEST_FOLDER = "src/caffe/test"


class Layer(NamedTuple):
    """A row of manifest.json."""

    type: str
    name: str
    messages: "list[str]"
    field: "str | None"
    """Of LayerParameter, where it is one that Caffe lacks."""
    stock: "str | None"
    """The file name of the class that Caffe has for the type."""
    stock_optional: bool
    """There are trees without that class."""
    stock_field: "str | None"
    """The field of LayerParameter by which to know that class, where trees differ in what they have for the type."""
    features: "list[str]"
    """Fields, as Message.field; a tree that has them all has the layer's features in a class of its own."""
    cuda: bool
    """It has a .cu file."""
    alone: "dict[str, list[str]]"
    """Fields to add where the tree has no class for the type: message -> declarations."""
    needs: "list[str]"
    """Fields of Caffe's own, as Message.field, that old trees lack; the layer is left out there."""
    test_headers: "list[str]"
    """What its test includes, which other layers' tests may share."""

    @property
    def sources(self) -> "list[str]":
        stem = f"src/caffe/layers/{self.name}_layer"
        return [self.header, f"{stem}.cpp", *([f"{stem}.cu"] if self.cuda else [])]

    @property
    def header(self) -> str:
        return f"include/caffe/layers/{self.name}_layer.hpp"

    @property
    def tests(self) -> "list[str]":
        """The file of its tests, and what that includes."""
        return [f"{TEST_FOLDER}/{name}" for name in (f"test_{self.name}_layer.cpp", *self.test_headers)]

    @property
    def stock_header(self) -> str:
        return f"include/caffe/layers/{self.stock}_layer.hpp"

    @property
    def stock_source(self) -> str:
        return f"src/caffe/layers/{self.stock}_layer.cpp"


class FieldText(NamedTuple):
    """A field to add, with its comments."""

    field: Field
    before: str
    after: str
    """The text before and after its number."""

    def lines(self, number: int) -> "list[str]":
        return f"{self.before}{number}{self.after}".split("\n")


class EnumText(NamedTuple):
    enum: Enum
    lines: "list[str]"


class MessageText(NamedTuple):
    """What a message should have."""

    name: str
    comment: "list[str]"
    enums: "list[EnumText]"
    fields: "list[FieldText]"


class Layers:
    """``source`` is caffe_layers/, ``tests`` the folder of the layers' tests."""

    def __init__(self, source: Path, tests: Path) -> None:
        self.source, self.tests = source, tests
        try:
            manifest = json.loads(self.read("manifest.json").decode())
            self.layers = [_layer(type_, row) for type_, row in sorted(manifest["layers"].items())]
            self.shared: list[str] = manifest["shared_files"]
            self.other_messages: list[str] = manifest["other_messages"]
            self.fillers: dict[str, str] = manifest["fillers"]
            self.field_macros: dict[str, str] = manifest["field_macros"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refused(f"{source}/manifest.json can't be read ({error}); check it out again") from None
        self.proto_text = decode(self.read("proto/face_layers.proto")).replace("\r\n", "\n")
        self.proto = proto_parser.parse(self.proto_text, "face_layers.proto")
        self.messages = {message.name: message_text(self.proto_text, message) for message in self.proto.messages}
        for layer in self.layers:
            for name in layer.messages:
                if name not in self.messages:
                    raise Refused(f"caffe_layers is incomplete: proto/face_layers.proto has no message {name}")

    def read(self, path: str) -> bytes:
        """A file by its path in the tree."""
        file = self.source / path
        if path.startswith(TEST_FOLDER):
            file = self.tests / path[len(TEST_FOLDER) + 1 :]
        try:
            return file.read_bytes()
        except FileNotFoundError:
            hint = "; --no-tests goes without the layers' tests" if path.startswith(TEST_FOLDER) else ""
            raise Refused(f"caffe_layers is incomplete: {file} is missing{hint}") from None


def _layer(type_: str, row: "dict[str, Any]") -> Layer:
    return Layer(
        type_,
        row["name"],
        row["messages"],
        row.get("field"),
        row.get("stock"),
        row.get("stock_optional", False),
        row.get("stock_field"),
        row.get("features", []),
        row.get("cuda", True),
        row.get("alone", {}),
        row.get("needs", []),
        row.get("test_headers", []),
    )


def message_text(text: str, message: Message) -> MessageText:
    """``message`` of a .proto ``text`` that has one declaration a line, with // comments above and behind."""
    enums = []
    for enum in message.enums:
        start, end = _with_comments(text, enum.start, enum.end)
        enums.append(EnumText(enum, _unindented(text[start:end]).split("\n")))
    fields = []
    for field in message.fields:
        start, end = _with_comments(text, field.start, field.end)
        first, last = field.number_span
        fields.append(FieldText(field, _unindented(text[start:first]), _unindented(text[last:end])))
    start = _with_comments(text, message.start, message.start)[0]
    comment = text[start : line_start(text, message.start)].splitlines()
    return MessageText(message.name, comment, enums, fields)


def declared(declarations: "dict[str, list[str]]") -> "list[MessageText]":
    """The fields of ``Layer.alone``."""
    text = "".join(f"message {name} {{\n{chr(10).join(lines)}\n}}\n" for name, lines in declarations.items())
    file: File = proto_parser.parse(text, "manifest.json")
    return [message_text(text, message) for message in file.messages]


def _with_comments(text: str, start: int, end: int) -> "tuple[int, int]":
    """From the comment lines above ``start`` to the end, without its newline, of the line of ``end``."""
    start = line_start(text, start)
    while start and text[line_start(text, start - 1) : start].lstrip().startswith("//"):
        start = line_start(text, start - 1)
    end = line_end(text, end)
    return start, end - 1 if text[end - 1 : end] == "\n" else end


def _unindented(text: str) -> str:
    return "\n".join(line[2:] if line.startswith("  ") else line for line in text.split("\n"))
