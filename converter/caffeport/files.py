"""Writing files whole or not at all: beside the target first, then renamed over it."""

from __future__ import annotations

import contextlib
import os
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from .errors import CaffeportError
from .leftovers import SUFFIX, lock, remove_leftovers

_PIECE = 1 << 18
_STREAMS = ("/dev/std", "/dev/fd/", "/proc/")


def same_file(one: str | Path, other: str | Path) -> bool:
    """Return whether two names are of one file, through links, or would be where case and accents do not count."""
    with contextlib.suppress(OSError):
        if os.path.samefile(one, other):
            return True
    return _plain_name(one) == _plain_name(other)


def _plain_name(path: str | Path) -> str:
    return unicodedata.normalize("NFC", os.path.realpath(path)).casefold()


def target_of(path: str | Path) -> Path:
    """Return the file that is written under the name ``path``: itself, or where a link leads, so that the link stays.

    Raises CaffeportError for what is no place for a file: a folder, a device or pipe, ``-``, a link to itself.
    """
    path = Path(path)
    if str(path) == "-":
        raise CaffeportError("-: a file is written beside its place and renamed, not to standard output; name a file")
    target = path
    try:
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        if target.is_symlink():
            raise CaffeportError(f"{path}: is a link that leads to itself; name a file to write")
        if target.is_dir():
            raise CaffeportError(f"{path}: is a folder; name the file to write")
        # root could rename over /dev/null, and a redirected /dev/stdout is a file
        if (target.exists() and not target.is_file()) or os.path.abspath(path).startswith(_STREAMS):
            raise CaffeportError(f"{path}: is a device or pipe, which is not replaced; name a file to write")
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise _not_written(path, target, error) from error
    return target


def _not_written(path: str | Path, target: Path, error: OSError) -> CaffeportError:
    return CaffeportError(f"{path}: cannot be written: {error.strerror} ({target.parent})")


@contextlib.contextmanager
def replacing_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that is renamed to it when the block ends well, else removed.

    An interrupted run therefore leaves the old file as it was, and what a killed one left is removed by the next. A
    link stays, and the file it leads to is replaced. Raises CaffeportError, naming the path, where the folder is
    missing or cannot be written.
    """
    target = target_of(path)
    remove_leftovers(target.parent)
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=SUFFIX, dir=target.parent)
    except OSError as error:
        raise _not_written(path, target, error) from error
    lock(handle)
    try:
        yield Path(temporary)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's files are private; the user's need not be
        os.replace(temporary, target)
    except OSError as error:
        raise CaffeportError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        os.close(handle)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """Do as replacing_path does, with the temporary file open for writing bytes."""
    # Opened without truncating: ext4 flushes a truncated file to the disk when it is closed.
    with replacing_path(path) as temporary, os.fdopen(os.open(temporary, os.O_WRONLY), "wb") as stream:
        yield stream
        stream.close()  # before the rename, so that a full disk shows


def write_numbers(stream: IO[bytes], array: np.ndarray) -> None:
    """An array's numbers as little-endian float32; in pieces, which the page cache takes twice as fast as a whole."""
    write_bytes(stream, np.ascontiguousarray(array, "<f4").reshape(-1).view(np.uint8).data)


def write_bytes(stream: IO[bytes], numbers: memoryview) -> None:
    """Bytes in pieces, as write_numbers does."""
    for start in range(0, len(numbers), _PIECE):
        stream.write(numbers[start : start + _PIECE])
