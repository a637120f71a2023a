"""Reads pickles that hold nothing but lists, tuples, numbers, text and bytes, without Python's unpickler.

A pickle is a program, and the unpickler runs whatever it names. This walks its opcodes instead and builds plain
values only: no name in it is ever looked up. Four forms that look like calls are understood by what they stand for,
since old Pythons and NumPy write plain values so: bytes in protocol 2 (_codecs.encode), NumPy's booleans (scalar),
and one-dimensional NumPy arrays of booleans or bytes (_reconstruct, _frombuffer).
"""

from __future__ import annotations

import mmap
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..reading import opened, parsing, printable, unpacked_limit


def read_plain_pickle(path: str | Path) -> Any:
    """The value in the file; raises DataError that names file, byte and what is refused.

    Text that Python 2 wrote comes back as bytes, as it was there.
    """
    path = Path(path)
    with opened(path) as (stream, size):
        if not size:
            raise DataError(f"{path}: is no whole pickle: it is empty")
        # A length in the file cannot make an mmap allocate more than the file has.
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content, parsing(path, "is no whole pickle"):
            return _Reader(path, size).read(content)


class _Named:
    """A module's name in the pickle; never imported."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Array:
    """A NumPy array that is being put together: made empty, then given its contents by BUILD."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None


class _Type:
    """NumPy's dtype of one byte: b1 or u1."""

    def __init__(self, code: str) -> None:
        self.code = code


MOST_STEPS, BYTES_A_STEP = 200_000, 64
"""Opcodes of a file: NumPy's arrays take thirty an image, which has kilobytes."""

_MARK = object()
_PLAIN = {
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BININT", "BININT1", "BININT2", "LONG1", "INT", "UNICODE",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "NONE": lambda: None,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = {"PROTO", "FRAME"}
_BYTES = ("_codecs.encode",)
_EMPTY_BYTES = ("__builtin__.bytes", "builtins.bytes")
_NUMPY = ("numpy.core", "numpy._core")
_SCALAR = tuple(f"{core}.multiarray.scalar" for core in _NUMPY)
_RECONSTRUCT = tuple(f"{core}.multiarray._reconstruct" for core in _NUMPY)
_FROMBUFFER = tuple(f"{core}.numeric._frombuffer" for core in _NUMPY)
_TYPES = ("numpy.dtype", "numpy.ndarray")
_KNOWN = {*_BYTES, *_EMPTY_BYTES, *_SCALAR, *_RECONSTRUCT, *_FROMBUFFER, *_TYPES}


class _Reader:
    """The stack and the memo of one file.

    A pickle may refer to a value of its own any number of times: what a call makes of one is therefore counted, and
    so are the opcodes, of which an image needs some thirty.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._room = unpacked_limit(size)  # bytes that calls may still make
        self._steps = MOST_STEPS + size // BYTES_A_STEP
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def read(self, content: Any) -> Any:
        for opcode, argument, position in pickletools.genops(content):
            self._steps -= 1
            try:
                if self._steps < 0:
                    raise _RefusedError(f"it has more opcodes than {MOST_STEPS} and one for {BYTES_A_STEP} bytes")
                if opcode.name == "STOP":
                    return _finished(self._stack.pop())
                self._step(opcode.name, argument)
            except _RefusedError as refused:
                raise DataError(f"{self._path}: refused at byte {position}: {refused}; nothing was run") from None
            except (IndexError, KeyError, TypeError, ValueError, UnicodeError):
                raise DataError(f"{self._path}: is no whole pickle: {opcode.name} at byte {position}") from None
        raise DataError(f"{self._path}: is no whole pickle: it has no end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _PLAIN:
            stack.append(bytes(argument) if isinstance(argument, bytearray) else argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name == "MARK":
            self._marks.append(len(stack))
            stack.append(_MARK)
        elif name in _IGNORED:
            pass
        elif name in ("BINSTRING", "SHORT_BINSTRING"):  # Python 2's str; pickletools hands it over as Latin-1
            stack.append(argument.encode("latin-1"))
        elif name in _TUPLES:
            count = _TUPLES[name]
            if len(stack) < count:
                raise IndexError
            stack[-count:] = [tuple(_finished(value) for value in stack[-count:])]
        elif name == "TUPLE":
            stack.append(tuple(_finished(value) for value in self._since_mark()))
        elif name == "LIST":
            stack.append([_finished(value) for value in self._since_mark()])
        elif name == "APPEND":
            value = stack.pop()
            _list(stack[-1]).append(_finished(value))
        elif name == "APPENDS":
            values = self._since_mark()
            _list(stack[-1]).extend(_finished(value) for value in values)
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif name == "GLOBAL":
            stack.append(_known(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            if not (isinstance(attribute, str) and isinstance(module, str)):
                raise TypeError
            stack.append(_known(f"{module}.{attribute}"))
        elif name == "REDUCE":
            arguments, called = stack.pop(), stack.pop()
            value = _stands_for(called, arguments)
            self._room -= len(value) if isinstance(value, bytes) else 0
            if self._room < 0:
                raise _RefusedError("it makes far more bytes than it has")
            stack.append(value)
        elif name == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        else:
            raise _RefusedError(f"opcode {name}, which plain lists and bytes do not need")

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        if start >= len(self._stack) or self._stack[start] is not _MARK:
            raise IndexError
        values = self._stack[start + 1 :]
        del self._stack[start:]
        return values


class _RefusedError(Exception):
    pass


def _known(name: str) -> _Named:
    if name not in _KNOWN:
        raise _RefusedError(f"it names {printable(name)}, which is code")
    return _Named(name)


def _stands_for(called: Any, arguments: Any) -> Any:
    """The plain value that a known call would give."""
    name = called.name if isinstance(called, _Named) else type(called).__name__
    if name in _BYTES and _are(arguments, str, str) and arguments[1] in ("latin1", "latin-1"):
        return arguments[0].encode("latin-1")
    if name in _EMPTY_BYTES and arguments == ():
        return b""
    if name == "numpy.dtype" and isinstance(arguments, tuple) and arguments and _text(arguments[0]) in ("b1", "u1"):
        return _Type(_text(arguments[0]))
    if name in _SCALAR and _are(arguments, _Type, bytes) and arguments[0].code == "b1" and len(arguments[1]) == 1:
        return arguments[1] != b"\0"
    if name in _RECONSTRUCT:
        return _Array()
    if name in _FROMBUFFER and isinstance(arguments, tuple) and len(arguments) == 4:
        raw, kind, shape, _ = arguments
        return _array(kind, shape, raw)
    raise _RefusedError(f"a call of {name}, which plain values do not need")


def _build(made: Any, state: Any) -> None:
    if isinstance(made, _Type) and isinstance(state, tuple):
        return  # byte order and alignment: nothing to know about single bytes
    if isinstance(made, _Array) and isinstance(state, tuple) and len(state) == 5:
        _, shape, kind, _, raw = state
        made.value = _array(kind, shape, raw)
        return
    raise _RefusedError(f"it sets the state of a {type(made).__name__.strip('_').lower()}")


def _array(kind: Any, shape: Any, raw: Any) -> np.ndarray:
    if not (isinstance(kind, _Type) and _are(shape, int) and isinstance(raw, bytes) and shape[0] == len(raw)):
        raise _RefusedError("a NumPy array other than a row of booleans or bytes")
    return np.frombuffer(raw, np.bool_ if kind.code == "b1" else np.uint8)


def _finished(value: Any) -> Any:
    """Arrays are referred to before they are filled; what is put into a list or tuple has to be whole."""
    if isinstance(value, _Array):
        if value.value is None:
            raise _RefusedError("a NumPy array without contents")
        return value.value
    if value is _MARK:
        raise ValueError
    return value


def _are(values: Any, *types: type) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == len(types)
        and all(isinstance(value, kind) for value, kind in zip(values, types, strict=True))
    )


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise TypeError
    return value


def _text(value: Any) -> str:
    """A short text, "" for anything else: a value of the file may be a tree that is endless when written out."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return value if isinstance(value, str) else ""
