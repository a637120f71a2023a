"""Nets in protobuf's binary form to message trees and back, with the names that caffe.proto gives its numbers.

Of a file only what an upgrade looks at is decoded. The rest, blobs above all, stays where it is: a ``span`` is a
Scalar that says where the bytes of a value lie, and writing the tree copies them from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from ..errors import PrototxtError, quoted
from . import wire
from .byte_names import from_bytes, to_bytes
from .caffe_proto import ENUMS, MESSAGES, ProtoField, fields_of, numbers_of
from .prototxt import Field, Message, Scalar
from .schema import scalar_of

SPAN, WHOLE, NUMBERS = "span", "whole", "numbers"
"""The kinds of a Scalar that stands for bytes: of a value, of a field with its tag, and of an array of numbers."""

_DECODED = frozenset(
    {"layers", "layer", "param", "data_param", "image_data_param", "window_data_param", "transform_param"}
)
"""Messages that an upgrade changes; all others are spans."""
_DTYPES: dict[str, np.dtype[Any]] = {"float": np.dtype("<f4"), "double": np.dtype("<f8")}
_PIECE = 1 << 22


def decode(walk: wire.Walk, start: int, end: int, message: str, unknown: set[str]) -> Message:
    """Return the message of that type between ``start`` and ``end``; ``unknown`` names fields without a name here.

    Raises wire.WireError where the bytes are none.
    """
    tree = Message()
    for number, kind, a, b in walk.fields(start, end):
        entry = numbers_of(message).get(number)
        if entry is None:
            unknown.add(f"{message} {number}")
        else:
            tree.fields += [Field(entry.name, value) for value in _values(walk, entry, kind, a, b, unknown)]
    return tree


def _decode_layer(walk: wire.Walk, start: int, end: int, unknown: set[str]) -> Message:
    """Return a V2 layer with its name, type and params decoded, and every other field, a fork's too, as it stands in
    the file."""
    tree = Message()
    decoded = {"name", "type", "param"}
    position = start
    for number, kind, a, b in walk.fields(start, end):
        entry = numbers_of("LayerParameter").get(number)
        if entry is not None and entry.name in decoded:
            tree.fields += [Field(entry.name, value) for value in _values(walk, entry, kind, a, b, unknown)]
        else:
            tree.fields.append(Field(f"#{number}", Scalar(f"{position}:{b}", WHOLE)))
        position = b
    return tree


def _values(
    walk: wire.Walk, entry: ProtoField, kind: int, a: int, b: int, unknown: set[str]
) -> Iterable[Scalar | Message]:
    data = walk.data
    if entry.kind in MESSAGES or entry.kind in ("string", "bytes"):
        if kind != wire.LENGTH:
            raise wire.WireError(f"field {entry.name} has wire type {kind}")
        if entry.kind == "string":
            return [Scalar(from_bytes(bytes(data[a:b])), "string")]
        if entry.kind == "LayerParameter":
            return [_decode_layer(walk, a, b, unknown)]
        if entry.name in _DECODED:
            return [decode(walk, a, b, entry.kind, unknown)]
        return [Scalar(f"{a}:{b}", SPAN)]
    if entry.kind in _DTYPES:
        dtype = _DTYPES[entry.kind]
        size = dtype.itemsize
        if kind == wire.VARINT or (b - a) % size:
            raise wire.WireError(f"field {entry.name} has wire type {kind}")
        return [_number(value) for value in np.ndarray(((b - a) // size,), dtype, data, a)]
    if kind not in (wire.VARINT, wire.LENGTH):
        raise wire.WireError(f"field {entry.name} has wire type {kind}")
    values = [a] if kind == wire.VARINT else []
    while kind == wire.LENGTH and a < b:
        value, a = wire.read_varint(data, a, b)
        values.append(value)
    return [_integer(value, entry.kind) for value in values]


def _number(value: np.floating) -> Scalar:
    return Scalar(str(value), "number" if np.isfinite(value) else "word")


def _integer(value: int, kind: str) -> Scalar:
    if kind == "bool":
        return Scalar("true" if value else "false", "word")
    if kind in ENUMS:
        names = {number: name for name, number in ENUMS[kind].items()}
        return Scalar(names[value], "word") if value in names else Scalar(str(wire.signed(value)), "number")
    return Scalar(str(wire.signed(value)), "number")


# Writing


@dataclass
class Encoded:
    """Bytes to be written: some at hand, some (start, end) in the file they come from."""

    pieces: list[bytes | tuple[int, int]] = field(default_factory=list)
    length: int = 0

    def add(self, piece: bytes | tuple[int, int]) -> None:
        self.pieces.append(piece)
        self.length += len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]

    def wrap(self, number: int, inner: Encoded) -> None:
        """Append ``inner`` as the length-delimited field of that number."""
        self.add(wire.header(number, inner.length))
        self.pieces += inner.pieces
        self.length += inner.length

    def write(self, stream: IO[bytes], source: wire.Buffer) -> None:
        for piece in self.pieces:
            if isinstance(piece, bytes):
                stream.write(piece)
                continue
            for start in range(piece[0], piece[1], _PIECE):
                stream.write(source[start : min(start + _PIECE, piece[1])])


def encode(tree: Message, message: str, unknown: set[str], arrays: Sequence[np.ndarray] = ()) -> Encoded:
    """Return the tree as bytes, fields in the order of their numbers, as protobuf writes them.

    A field that caffe.proto lacks is left out and named in ``unknown``. ``arrays``: what Scalars of kind NUMBERS
    stand for. Raises PrototxtError, with file:line:column, for a value of the wrong type.
    """
    known = fields_of(message)
    groups: dict[int, list[Field]] = {}
    for entry in tree.fields:
        if entry.name.startswith("#"):
            groups.setdefault(int(entry.name[1:]), []).append(entry)
        elif entry.name in known:
            groups.setdefault(known[entry.name].number, []).append(entry)
        else:
            unknown.add(entry.name)
    result = Encoded()
    for number in sorted(groups):
        whole = [entry for entry in groups[number] if entry.name.startswith("#")]
        for entry in whole:
            assert isinstance(entry.value, Scalar)
            result.add(_place(entry.value))
        rest = [entry for entry in groups[number] if not entry.name.startswith("#")]
        if rest:
            _encode_field(result, tree, known[rest[0].name], rest, unknown, arrays)
    return result


def _place(value: Scalar) -> tuple[int, int]:
    start, _, end = value.text.partition(":")
    return int(start), int(end)


def _encode_field(
    result: Encoded,
    tree: Message,
    spec: ProtoField,
    entries: list[Field],
    unknown: set[str],
    arrays: Sequence[np.ndarray],
) -> None:
    if spec.packed:
        payload = b"".join(_packed(tree, spec, entry, arrays) for entry in entries)
        result.add(wire.header(spec.number, len(payload)))
        result.add(payload)
        return
    for entry in entries if spec.repeated else entries[-1:]:
        if isinstance(entry.value, Message):
            if spec.kind not in MESSAGES:
                raise _wrong(tree, entry, "a value")
            result.wrap(spec.number, encode(entry.value, spec.kind, unknown, arrays))
        elif entry.value.kind == SPAN:
            place = _place(entry.value)
            result.add(wire.header(spec.number, place[1] - place[0]))
            result.add(place)
        elif spec.kind in MESSAGES:
            raise _wrong(tree, entry, "a message { ... }")
        else:
            result.add(_tag(spec) + _scalar(tree, spec, entry, entry.value))


def _tag(spec: ProtoField) -> bytes:
    kinds = {"float": wire.FIXED32, "double": wire.FIXED64, "string": wire.LENGTH, "bytes": wire.LENGTH}
    return wire.varint(spec.number << 3 | kinds.get(spec.kind, wire.VARINT))


def _packed(tree: Message, spec: ProtoField, entry: Field, arrays: Sequence[np.ndarray]) -> bytes:
    if isinstance(entry.value, Message):
        raise _wrong(tree, entry, "a number")
    if entry.value.kind == NUMBERS:
        return arrays[int(entry.value.text)].astype(_DTYPES[spec.kind]).tobytes()
    return _scalar(tree, spec, entry, entry.value)


def _scalar(tree: Message, spec: ProtoField, entry: Field, value: Scalar) -> bytes:
    if spec.kind in ("string", "bytes"):
        if value.kind != "string":
            raise _wrong(tree, entry, "a quoted string")
        raw = to_bytes(value.text)
        return wire.varint(len(raw)) + raw
    try:
        if spec.kind in ENUMS:
            return wire.varint(ENUMS[spec.kind][value.text] if value.kind == "word" else int(value.text, 0))
        if value.kind == "string":
            raise ValueError("a string")
        number = scalar_of(value.text, {"bool": bool, "float": float, "double": float}.get(spec.kind, int))
    except (KeyError, ValueError):
        raise _wrong(tree, entry, f"a value of the type {spec.kind}") from None
    if spec.kind in _DTYPES:
        with np.errstate(over="ignore"):
            return np.asarray(number).astype(_DTYPES[spec.kind]).tobytes()
    return wire.varint(int(number))


def _wrong(tree: Message, entry: Field, expected: str) -> PrototxtError:
    value = "a message" if isinstance(entry.value, Message) else quoted(entry.value.text)
    return PrototxtError(f'{tree.where(entry)}: "{entry.name}" expects {expected}, got {value}')
