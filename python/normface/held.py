"""A place that one process writes at a time: the lock dies with its process, however that ends."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]


def held_folder(folder: Path) -> contextlib.ExitStack | None:
    """Lock a folder; return what frees it again, or None where another process has it."""
    return _locked(folder, os.O_RDONLY) if fcntl else contextlib.ExitStack()


def held(path: Path) -> contextlib.ExitStack | None:
    """Lock a file that stands for one writer among those of a folder; return what frees and removes it, or None where
    another process has it.

    Raises OSError where it cannot be made.
    """
    if not fcntl:
        return contextlib.ExitStack()
    while True:
        lock = _locked(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
        if lock is None:
            return None
        if _is_current(path, lock.number):
            lock.callback(path.unlink, missing_ok=True)  # before the lock goes, so that no other holds what is removed
            return lock
        lock.close()


class _Lock(contextlib.ExitStack):
    """What frees the place; ``number``: of the open file."""

    number = -1


def _locked(path: Path, flags: int) -> _Lock | None:
    lock = _Lock()
    lock.number = os.open(path, flags, 0o666)
    lock.callback(os.close, lock.number)
    try:
        fcntl.flock(lock.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    except OSError:  # a file system without locks
        pass
    return lock


def _is_current(path: Path, number: int) -> bool:
    """Return whether the open file still is the one of that name: its holder before may have removed it."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(number))
    except FileNotFoundError:
        return False
