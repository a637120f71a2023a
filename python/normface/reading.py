"""The one door for the user's files: bytes come in bounded, and a parser's error goes out naming the file.

Whatever a file says of itself, what is read of it takes at most ``unpacked_limit(its size)`` bytes of memory. A parser
(json, zipfile, h5py, ...) runs within ``parsing``, which turns whatever it raises into one of normface's errors.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from caffeport.formats.other_files import START, misplaced, substitute_of, substitute_of_file

from .errors import CaffeportError, DataError

MAX_FILE = 1 << 30
"""Bytes of a file that is read whole (a text, a table); a larger one is refused unread."""
MAX_IMAGE = 256 << 20
"""Bytes of an encoded image."""
UNPACKED_FLOOR, UNPACKED_GROWTH = 32 << 20, 20
_FREE_NODES, _NODE_CHARACTERS = 200_000, 8
"""Lists and objects of a JSON text that are read: each takes a hundred bytes, and may be "[]"."""
_SHOWN = 200
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""A pipe is opened without waiting for its other end, and refused."""


def unpacked_limit(size: int) -> int:
    """Bytes that a packed file of ``size`` bytes may hold: 32 MiB, and 20 times its size beyond.

    Deflate packs up to a thousand times, but only what is empty; real features and indices shrink to a tenth at most.
    """
    return UNPACKED_FLOOR + UNPACKED_GROWTH * size


def read_file(
    path: str | Path, most: int = MAX_FILE, *, start: int | None = None, error: type[CaffeportError] = DataError
) -> bytes:
    """A file's bytes, or its first ``start``. Raises ``error``, naming it, if it is no file or larger than ``most``."""
    try:
        handle = os.open(path, _OPEN)  # half the time of open(), which counts where images are small
    except (OSError, ValueError) as cause:  # ValueError: a NUL in the path
        raise _unreadable(path, error, cause) from cause
    try:
        status = os.fstat(handle)
        _refuse_no_file(path, status.st_mode, error)
        size = status.st_size if start is None else min(start, most)
        if size > most:
            raise error(f"{path}: has {size} bytes; at most {most} are read of such a file")
        return _read(handle, size)
    except OSError as cause:
        raise _unreadable(path, error, cause) from cause
    finally:
        os.close(handle)


def _read(handle: int, size: int) -> bytes:
    """Return up to ``size`` bytes from the start of a file; the system may give them in pieces."""
    raw = os.read(handle, size)
    while 0 < len(raw) < size and (piece := os.read(handle, size - len(raw))):
        raw += piece
    return raw


def _refuse_no_file(path: str | Path, mode: int, error: type[CaffeportError]) -> None:
    if stat.S_ISDIR(mode):
        raise error(f"{path}: is a folder; expected a file")
    if not stat.S_ISREG(mode):
        raise error(f"{path}: is a device or pipe; expected a file")


def _unreadable(path: str | Path, error: type[CaffeportError], cause: Exception) -> CaffeportError:
    return error(f"{path}: {getattr(cause, 'strerror', None) or _words(cause)}")


def read_text(path: str | Path, most: int = MAX_FILE, error: type[CaffeportError] = DataError) -> str:
    """A text in UTF-8. Raises ``error``, naming the file, for other bytes."""
    raw = read_file(path, most, error=error)
    substitute = substitute_of(raw[:START])
    if substitute is not None:
        raise error(f"{path}: {misplaced(substitute, 'a text')}")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(f"{path}: is no text file: byte {cause.start} is not UTF-8") from cause


def read_json(path: str | Path, problem: str, most: int = MAX_FILE, error: type[CaffeportError] = DataError) -> Any:
    """The value in a JSON file; for ``problem`` see ``parsing``."""
    text = read_text(path, most, error)
    with parsing(path, problem, error):
        return parsed_json(text)


def parsed_json(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError for what is none, or is made of empty lists and objects."""
    most = _FREE_NODES + len(text) // _NODE_CHARACTERS
    if text.count("[") + text.count("{") > most:
        raise ValueError(f"it holds more than {most} lists and objects, most of them empty")
    collecting = gc.isenabled()
    gc.disable()  # it would look at all of them again and again, and JSON has no cycles
    try:
        return json.loads(text)
    finally:
        if collecting:
            gc.enable()


@contextlib.contextmanager
def opened(path: str | Path, error: type[CaffeportError] = DataError) -> Iterator[tuple[IO[bytes], int]]:
    """(stream, size) of a regular file; opening a pipe would wait, and reading a device never end."""
    try:
        status = os.stat(path)
        _refuse_no_file(path, status.st_mode, error)
        with open(path, "rb") as stream:
            yield stream, status.st_size
    except (OSError, ValueError) as cause:  # ValueError: a NUL in the path
        raise _unreadable(path, error, cause) from cause


@contextlib.contextmanager
def parsing(title: str | Path, problem: str, error: type[CaffeportError] = DataError) -> Iterator[None]:
    """Within, whatever a parser raises becomes ``error``: "TITLE: PROBLEM: its words", as "x.zip: is no zip file: …".

    Errors of normface's own pass as they are.
    """
    try:
        yield
    except CaffeportError:
        raise
    except Exception as cause:
        substitute = substitute_of_file(title)
        words = f"{problem}: {_words(cause)}" if substitute is None else misplaced(substitute, "the file itself")
        raise error(f"{title}: {words}") from cause


def read_at(path: Path, position: int, size: int, title: str) -> bytes:
    """``size`` bytes from ``position``, with a handle of its own: threads and forks share no position."""
    try:
        with open(path, "rb") as stream:
            stream.seek(position)
            # A read of more than there is would set memory aside for it first.
            raw = stream.read(size) if position + size <= os.fstat(stream.fileno()).st_size else b""
    except OSError as error:
        raise DataError(f"{title}: {error.strerror or error}") from error
    if len(raw) != size:
        raise DataError(f"{title}: is cut short; {path.name} has changed since it was opened")
    return raw


def inflate(packed: bytes, most: int, bits: int = zlib.MAX_WBITS) -> bytes:
    """Return what zlib packed. Raises ValueError where it is more than ``most`` bytes, or damaged."""
    unpacking = zlib.decompressobj(bits)
    try:
        raw = unpacking.decompress(packed, most + 1)
    except zlib.error as error:
        raise ValueError(f"its packed data are damaged ({error})") from error
    if len(raw) > most:
        raise ValueError(f"it unpacks to more than {most} bytes")
    return raw


def printable(text: str, most: int = 80) -> str:
    """A text of the user's file as a message may show it: short, and without escape sequences."""
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text[: most + 1])
    return shown if len(shown) <= most else shown[: most - 3] + "..."


def _words(cause: Exception) -> str:
    """Return the first line of what a parser says; some say nothing, or repeat the file's content."""
    if isinstance(cause, MemoryError):
        return "it declares more than fits into memory"
    if isinstance(cause, RecursionError):
        return "it is nested too deeply"
    lines = str(cause).strip().splitlines()
    return printable(lines[0], _SHOWN) if lines else type(cause).__name__
