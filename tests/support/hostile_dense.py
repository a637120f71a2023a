"""Files of 16 MB that are nothing but the smallest parts that their format has: {name: (reader, content, message)}.

Every part takes a walk written in Python a microsecond or so, and keeping it a hundred bytes.
"""

from __future__ import annotations

from caffeport.formats import wire

SIZE = 1 << 24
FIELDS = f"more than {wire.MOST_FIELDS} fields"


def filled(part: bytes) -> bytes:
    return part * (SIZE // len(part))


def layer(raw: bytes) -> bytes:
    return wire.delimited(100, raw)


def blob(raw: bytes) -> bytes:
    return layer(wire.delimited(7, raw))


def pickle(start: bytes, part: bytes, end: bytes = b"") -> bytes:
    return b"\x80\x04" + start + filled(part) + end + b"."


DENSE: dict[str, tuple[str, bytes, str]] = {
    "fields.caffemodel": ("weights", filled(b"\x48\x01"), FIELDS),
    "layers.caffemodel": ("weights", filled(layer(b"")), FIELDS),
    "blobs.caffemodel": ("weights", layer(filled(wire.delimited(7, b""))), FIELDS),
    "shapes.caffemodel": ("weights", blob(filled(wire.delimited(7, b""))), FIELDS),
    "axes.caffemodel": ("weights", blob(filled(b"\x08\x01")), FIELDS),
    "runs.caffemodel": ("weights", blob(filled(wire.delimited(5, bytes(4)))), FIELDS),
    "fields.solverstate": ("solverstate", filled(b"\x08\x05"), FIELDS),
    "histories.solverstate": ("solverstate", filled(wire.delimited(3, b"")), FIELDS),
    "fields.prototxt": ("net", filled(b"a: 1 "), ":1:1000001: more than 200000 fields"),
    "messages.prototxt": ("net", filled(b"a{}"), ":1:600001: more than 200000 fields"),
    "list.prototxt": ("net", b"a: [" + filled(b"1,"), ":1:400.*: more than 200000 fields"),
    "strings.prototxt": ("net", b"a:" + filled(b"''"), ":1:.*: more than 200000 fields"),
    "escapes.prototxt": ("net", b'a: "' + filled(b"\\1") + b'"', ":1:4: .* more than 100000 escapes"),
    "backslashes.prototxt": ("net", b'a: "' + filled(b"\\"), ":1:4: .* more than 100000 escapes"),
    "lists.bin": ("bin", pickle(b"", b"]"), "it has more opcodes than"),
    "truths.bin": ("bin", pickle(b"(", b"\x88"), "it has more opcodes than"),
    "bytes.bin": ("bin", pickle(b"](", b"C\x04abcd", b"e"), "it has more opcodes than"),
}
