"""Writing files whole or not at all: beside the target first, then renamed over it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import CaffeportError


@contextlib.contextmanager
def replacing_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that is renamed to it when the block ends well, else removed.

    An interrupted run therefore leaves the old file as it was. Raises CaffeportError, naming the
    path, where the folder is missing or cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise CaffeportError(f"{path}: is a folder; name the file to write")
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise CaffeportError(f"{path}: cannot be written: {error.strerror} ({path.parent})") from error
    try:
        yield Path(temporary)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's files are private; the user's need not be
        os.replace(temporary, path)
    except OSError as error:
        raise CaffeportError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """As replacing_path, with the temporary file open for writing bytes."""
    with replacing_path(path) as temporary, open(temporary, "wb") as stream:
        yield stream
        stream.close()  # before the rename, so that a full disk shows
