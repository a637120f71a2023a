"""What headers of a tar say of the member that follows: GNU's long names, and PAX records (POSIX.1-2008, pax)."""

from __future__ import annotations

from ...reading import printable

_LONG_NAME, _LONG_LINK, _FOR_ALL = b"L", b"K", b"g"
KINDS = frozenset((_LONG_NAME, _LONG_LINK, b"x", b"X", _FOR_ALL))
"""Types of headers that extend others: GNU's for a name and a link's target, PAX's, Solaris's, and PAX's for all."""
_FREE_RECORDS, _RECORD_BYTES = 200_000, 64
"""A tar may have 200,000 PAX records, and one for 64 of its bytes; there are three or so for a member."""
_MOST_DIGITS = 18
_HOLES = b"GNU.sparse."


class Extensions:
    """The headers that were read since the last member, of a tar of ``size`` bytes.

    waiting: there are any. Where several name a member or its size, the first counts, as tarfile has it.
    """

    def __init__(self, size: int) -> None:
        self.waiting = False
        self._records, self._most = 0, _FREE_RECORDS + size // _RECORD_BYTES
        self._name: str | None = None
        self._size: int | None = None
        self._sparse = False

    def take(self, kind: bytes, content: bytes) -> None:
        """Take a header of one of the KINDS. Raises ValueError for records that are damaged, or for all members."""
        self.waiting = True
        if kind == _LONG_NAME:
            self._take_name(content.partition(b"\0")[0])
        elif kind != _LONG_LINK:
            records = self._parsed(content)
            path, size = records.get(b"path"), records.get(b"size")
            sparse = any(keyword.startswith(_HOLES) for keyword in records)
            if kind == _FOR_ALL:
                if path or size or sparse:
                    raise ValueError("a PAX header gives all members one name or size")
                return
            if path:
                self._take_name(path.rstrip(b"/"))
            if size and self._size is None:
                self._size = _number(size)
            self._sparse |= sparse

    def applied(self, name: str, size: int, sparse: bool) -> tuple[str, int, bool]:
        """Return the member's name, size, and whether it is sparse, as the headers before it have them."""
        name = name if self._name is None else self._name
        size = size if self._size is None else self._size
        sparse = sparse or self._sparse
        self._name, self._size, self._sparse, self.waiting = None, None, False, False
        return name, size, sparse

    def _take_name(self, raw: bytes) -> None:
        if self._name is None:
            self._name = raw.decode("utf-8", "replace")

    def _parsed(self, content: bytes) -> dict[bytes, bytes]:
        """Return the records, each ``length keyword=value`` and a newline, where length counts itself."""
        records: dict[bytes, bytes] = {}
        position, end = 0, len(content)
        while position < end and content[position]:
            digits = content[position : position + _MOST_DIGITS + 1].partition(b" ")[0]
            stop = position + _number(digits)
            keyword, equals, value = content[position + len(digits) + 1 : stop - 1].partition(b"=")
            if not keyword or not equals or content[stop - 1 : stop] != b"\n":
                raise ValueError(f"the PAX record {printable(repr(content[position:stop][:40]))} has another length")
            records[keyword] = value
            position = stop
            self._records += 1
            if self._records > self._most:
                raise ValueError(f"it has more than {self._most} PAX records")
        return records


def _number(digits: bytes) -> int:
    """Return a number in decimal digits, which are few enough for int() to be quick."""
    if not digits.isdigit() or len(digits) > _MOST_DIGITS:
        raise ValueError(f"a PAX record has {printable(repr(digits[:40]))} where a number is expected")
    return int(digits)
