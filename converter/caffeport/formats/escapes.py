"""The strings of protobuf's text format: what a backslash means in them, and how bytes are written.

Escapes are those of protobuf's C++ parser, which Caffe uses: https://protobuf.dev/reference/protobuf/textformat-spec
"""

from __future__ import annotations

import re

from .byte_names import to_bytes

_ESCAPE = re.compile(
    r"""
    \\(?:
        (?P<letter>[abfnrtv\\?'"])
      | (?P<octal>[0-7]{1,3})
      | [xX](?P<hex>[0-9a-fA-F]{1,2})
      | u(?P<short>[0-9a-fA-F]{4})
      | U(?P<long>00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})
    )
    """,
    re.VERBOSE,
)
_LETTERS = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\udc80-\udcff]")


class EscapeError(ValueError):
    """A backslash that starts no escape, ``position`` characters into the string."""

    def __init__(self, position: int, text: str) -> None:
        super().__init__(f'"{text}" is no escape of a string; a backslash itself is written "\\\\"')
        self.position = position


def unescape(text: str) -> bytes:
    """Return the bytes of a string, given what stands between its quotes. Raises EscapeError."""
    parts, position = [], 0
    while (start := text.find("\\", position)) >= 0:
        match = _ESCAPE.match(text, start)
        if match is None:
            raise EscapeError(start, text[start : start + 2])
        parts.append(_encoded(text[position:start]))
        position = match.end()
        code = int(match["short"] or "0", 16)
        if 0xD800 <= code < 0xDC00:  # the first half of a character beyond 16 bits, as JSON writes it
            second = _ESCAPE.match(text, position)
            half = int(second["short"] or "0", 16) if second else 0
            if second and 0xDC00 <= half < 0xE000:
                parts.append(_encoded(chr(0x10000 + ((code - 0xD800) << 10) + half - 0xDC00)))
                position = second.end()
                continue
        parts.append(_meaning(match))
    parts.append(_encoded(text[position:]))
    return b"".join(parts)


def _meaning(match: re.Match[str]) -> bytes:
    if match["letter"]:
        return _LETTERS.get(match["letter"], match["letter"]).encode()
    if match["octal"]:
        return bytes([int(match["octal"], 8) & 0xFF])
    if match["hex"]:
        return bytes([int(match["hex"], 16)])
    return _encoded(chr(int(match["short"] or match["long"], 16)))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def quote(text: str) -> str:
    """Return a string as text format writes it; ``from_bytes(unescape(...))`` of what is inside gives ``text``
    again."""
    # Bytes that are no UTF-8 stand as lone surrogates here, for the octal escapes below to find.
    inside = to_bytes(text).decode("utf-8", "surrogateescape")
    inside = inside.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    # Three octal digits: a shorter escape would swallow a digit that follows it.
    return '"' + _UNPRINTABLE.sub(lambda match: f"\\{ord(match.group()) & 0xFF:03o}", inside) + '"'
