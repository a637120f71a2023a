"""Names between Caffe's files, which hold any bytes, and Python's text.

Bytes that are no UTF-8 stand as ``\xe9`` in the text, so that two names stay two, and anything can print them or
put them into a file of its own; written back to a file of Caffe they are the same bytes again.
"""

from __future__ import annotations

import re

_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


def from_bytes(raw: bytes) -> str:
    """Return the text of a name in a file; never fails."""
    return raw.decode("utf-8", "backslashreplace")


def to_bytes(name: str) -> bytes:
    """Return the bytes that ``from_bytes`` made the name of."""
    return _ESCAPED.sub(lambda match: bytes([int(match.group(1), 16)]), name.encode("utf-8", "backslashreplace"))
