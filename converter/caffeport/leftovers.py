"""What killed runs left in a folder: temporary files whose lock died with their process.

A process cannot clean up after SIGKILL or a power cut. Each temporary file is therefore locked while it is written, and
the next run that writes into the folder removes those that nobody holds. The locks are Linux's of an open file (OFD),
which HDF5's own do not disturb; elsewhere nothing is removed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import struct
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".part"
YOUNG = 10.0
"""Seconds: a file may be made and not locked yet."""
_NAME = re.compile(r"\..+\.[A-Za-z0-9_]{8}" + re.escape(SUFFIX))
_cleaned: set[str] = set()


def lock(handle: int) -> bool:
    """Lock an open file for as long as ``handle`` is open; return whether that was possible."""
    command = getattr(fcntl, "F_OFD_SETLK", None)
    if command is None:
        return False
    try:
        # struct flock: type, whence, start, length (0: the whole), process (0, as it is no process's)
        fcntl.fcntl(handle, command, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError:
        return False
    return True


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of this user's that no process holds; looks into each folder once a process."""
    place = os.path.abspath(folder)
    if place in _cleaned:
        return
    _cleaned.add(place)
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name):
                _remove_unheld(entry.path)


def _remove_unheld(path: str) -> None:
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            facts = os.fstat(handle)
            own = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.getuid()
            if own and time.time() - facts.st_mtime > YOUNG and lock(handle):
                os.unlink(path)
        finally:
            os.close(handle)
