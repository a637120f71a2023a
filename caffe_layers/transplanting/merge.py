"""Fields and messages into the text of a caffe.proto."""

import re
from typing import NamedTuple

from . import proto_parser
from .errors import Refused
from .layers import EnumText, FieldText, MessageText
from .proto import LARGEST, SCALARS, Enum, File, Message
from .source_text import edited, indent_at, line_of, line_start, newline_of, with_newline

MARK = "// Of the face layers, put in by normface's transplant.py."
RESERVED_BY_PROTOBUF = (19000, 19999, "Protocol Buffers")
NEXT_ID = re.compile(r"(LayerParameter next available layer-specific ID: *)(\d+)( *\(last added: *)(\w+)(\))")


class Placed(NamedTuple):
    """A field of ours and the number it has in the tree."""

    message: str
    name: str
    number: int
    wanted: int
    added: bool
    instead_of: str
    """What has the wanted number, where an added field has another."""


class Merged(NamedTuple):
    text: str
    placed: "list[Placed]"
    notes: "list[str]"


def merge(text: str, path: str, wanted: "list[MessageText]", earlier: "dict[str, int]") -> Merged:
    """``text`` of ``path`` with the ``wanted`` fields that it lacks.

    A field takes the number it had ``earlier`` ("Message.field"), else the one it has in face_layers.proto, else the
    next free one.
    """
    file = proto_parser.parse(text, path)
    merger = _Merger(text, path, file)
    for message in wanted:
        merger.message(message, earlier)
    result = merger.result()
    _check(result.text, path, result.placed)
    return result


class _Merger:
    def __init__(self, text: str, path: str, file: File) -> None:
        self.text, self.path, self.file = text, path, file
        self.newline = newline_of(text)
        self.edits: list[tuple[int, int, str]] = []
        self.appended: list[list[str]] = []
        self.placed: list[Placed] = []
        self.notes: list[str] = []

    def refuse(self, position: int, problem: str) -> "Refused":
        return Refused(f"{self.path}:{line_of(self.text, position)}: {problem}")

    def message(self, ours: MessageText, earlier: "dict[str, int]") -> None:
        theirs = self.file.message(ours.name)
        other = next((enum for enum in self.file.enums if enum.name == ours.name), None)
        if other:
            raise self.refuse(other.start, f"{ours.name} is an enum here and a message of the face layers; rename it")
        if theirs is None:
            theirs = Message(ours.name, 0)
            numbers = self.numbers(ours, theirs, earlier)
            lines = _lines(ours.enums, [(field, numbers[field.field.name]) for field in ours.fields])
            body = ["  " + line if line else "" for line in lines]
            self.appended.append([*ours.comment, f"message {ours.name} {{", *body, "}"])
            return
        numbers = self.numbers(ours, theirs, earlier)
        enums = [enum for enum in ours.enums if not self.has_enum(theirs, enum.enum)]
        fields = [(field, numbers[field.field.name]) for field in ours.fields if field.field.name in numbers]
        if enums or fields:
            self.insert(theirs, [MARK, *_lines(enums, fields)])
            if ours.name == "LayerParameter":
                self.next_id(theirs, numbers)

    def has_enum(self, theirs: Message, ours: Enum) -> bool:
        enum = theirs.enum(ours.name)
        if enum is None:
            return False
        for name, number in ours.values.items():
            if enum.values.get(name) != number:
                raise self.refuse(
                    enum.start,
                    f"{theirs.name}.{ours.name} has to have {name} = {number} for the face layers; rename the tree's",
                )
        return True

    def numbers(self, ours: MessageText, theirs: Message, earlier: "dict[str, int]") -> "dict[str, int]":
        """The numbers of the fields that are to be added; all are put down in ``placed``."""
        kept = {}
        for text in ours.fields:
            field = text.field
            there = theirs.field(field.name)
            if there is None:
                if field.name in theirs.reserved_names:
                    raise self.refuse(theirs.start, f"{ours.name} reserves the name {field.name}; take that back")
                continue
            if (there.label, there.plain_type) != (field.label, field.plain_type):
                raise self.refuse(
                    there.start,
                    f"{ours.name}.{field.name} is {there.label} {there.type} here, and {field.label} {field.type} for"
                    " the face layers; rename the tree's field",
                )
            if there.unset != field.unset and there.default != field.default:
                tree, own = (f"default {value}" if value else "no default" for value in (there.default, field.default))
                self.notes.append(f"{ours.name}.{field.name} keeps the tree's {tree}; the face layers' has {own}")
            kept[field.name] = there.number
        missing = [text.field for text in ours.fields if text.field.name not in kept]
        holders = {field.number: field.name for field in theirs.fields}
        taken = dict(holders)
        chosen: dict[str, int] = {}
        for field in missing:
            for number in (earlier.get(f"{ours.name}.{field.name}"), field.number):
                if number and field.name not in chosen and not _holder(theirs, taken, number):
                    chosen[field.name] = number
                    taken[number] = field.name
        for field in missing:
            if field.name not in chosen:
                free = _next_free(theirs, taken)
                if free is None:
                    raise self.refuse(theirs.start, f"{ours.name} has no number left for {field.name}")
                chosen[field.name] = free
                taken[free] = field.name
        for text in ours.fields:
            name, number = text.field.name, text.field.number
            if name in kept:
                self.placed.append(Placed(ours.name, name, kept[name], number, False, ""))
            else:
                holder = _holder(theirs, holders, number) or "an earlier transplant"
                why = "" if chosen[name] == number else holder
                self.placed.append(Placed(ours.name, name, chosen[name], number, True, why))
        return chosen

    def insert(self, message: Message, lines: "list[str]") -> None:
        """Before the closing brace, indented as the message's last field is."""
        indent = "  " + indent_at(self.text, message.start)
        if message.fields:
            last = message.fields[-1].start
            if not self.text[line_start(self.text, last) : last].strip():
                indent = indent_at(self.text, last)
        added = "".join((indent + line).rstrip() + self.newline for line in lines)
        start = line_start(self.text, message.close)
        if self.text[start : message.close].strip():
            outer = indent_at(self.text, message.start)
            self.edits.append((message.close, message.close, self.newline + added + outer))
        else:
            self.edits.append((start, start, added))

    def next_id(self, message: Message, added: "dict[str, int]") -> None:
        """Where a comment says which number is the next, and it is taken now."""
        ends = [other.close for other in self.file.messages] + [enum.end for enum in self.file.enums]
        start = max([end for end in ends if end < message.start], default=0)
        found = NEXT_ID.search(self.text, start, message.start)
        taken = {field.number: field.name for field in message.fields}
        taken.update((number, name) for name, number in added.items())
        number = int(found.group(2)) if found else 0
        last = ""
        while _holder(message, taken, number):
            last = taken.get(number, last)
            number += 1
        if found and last in added:
            new = f"{found.group(1)}{number}{found.group(3)}{last}{found.group(5)}"
            self.edits.append((found.start(), found.end(), new))

    def result(self) -> Merged:
        text = edited(self.text, self.edits)
        if self.appended:
            final = text.endswith("\n")
            blocks = ["\n".join(block) + "\n" for block in self.appended]
            more = with_newline("\n".join(["", MARK + "\n", *blocks]), self.newline)
            text = text + more if final else text + self.newline + more[: -len(self.newline)]
        return Merged(text, self.placed, self.notes)


def _lines(enums: "list[EnumText]", fields: "list[tuple[FieldText, int]]") -> "list[str]":
    lines = [line for enum in enums for line in enum.lines]
    for field, number in fields:
        lines += field.lines(number)
    return lines


def _holder(message: Message, taken: "dict[int, str]", number: int) -> str:
    """What keeps a field from having ``number``: a field's name or the like; "" if nothing does."""
    if number in taken:
        return taken[number]
    for first, last, kind in [*message.ranges, RESERVED_BY_PROTOBUF]:
        if first <= number <= last:
            return kind
    return ""


def _next_free(message: Message, taken: "dict[int, str]") -> "int | None":
    """Above the largest in use, or where nothing is left there the smallest."""
    for start in (max(taken, default=0) + 1, 1):
        number = start
        while number <= LARGEST and _holder(message, taken, number):
            ends = [last for first, last, _ in [*message.ranges, RESERVED_BY_PROTOBUF] if first <= number <= last]
            number = max([number, *ends]) + 1
        if number <= LARGEST:
            return number
    return None


def _check(text: str, path: str, placed: "list[Placed]") -> None:
    """What protoc would say of the messages with our fields; mostly of what was wrong with them before."""
    file = proto_parser.parse(text, path)
    types = {message.name for message in file.messages} | {enum.name for enum in file.enums}
    for message in file.messages:
        if message.name not in {place.message for place in placed}:
            continue
        names = [field.name for field in message.fields] + [inner.name for inner in message.messages]
        names += [name for enum in message.enums for name in [enum.name, *enum.values]]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise Refused(f"{path}: {message.name} would declare {twice} twice; rename the tree's")
        numbers: dict[int, str] = {}
        for field in message.fields:
            other = _holder(message, numbers, field.number)
            if other:
                raise Refused(
                    f"{path}: {message.name}.{field.name} has a number, {field.number}, of {other}; change it"
                )
            numbers[field.number] = field.name
        inner_types = {inner.name for inner in message.messages} | {enum.name for enum in message.enums}
        for place in placed:
            field_ = message.field(place.name) if place.message == message.name else None
            if field_ and field_.plain_type not in SCALARS | types | inner_types:
                raise Refused(f"{path}: {message.name}.{field_.name} needs {field_.type}, which the tree lacks")
    for place in placed:
        found = file.message(place.message)
        field_ = found.field(place.name) if found else None
        assert field_ and field_.number == place.number, place
