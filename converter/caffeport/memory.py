"""The memory that there is, so that a small text that asks for more than that is refused and not killed."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path

from .errors import CaffeportError

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_MMAP_THRESHOLD = -3
"""glibc's M_MMAP_THRESHOLD: blocks from this size on are the system's again as soon as they are freed."""
_LARGE, _LARGEST = 1 << 22, 1 << 25
"""Bytes: what counts as large; and the threshold to which glibc raises its own in a process with large blocks."""


def available() -> float:
    """Bytes that this process may still take; infinity where the system does not tell."""
    room = float("inf")
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = _MEMINFO.read_text().splitlines()
        room = min(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    with contextlib.suppress(OSError, ValueError):  # a container's limit; "max" for none
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        room = min(room, max(limit - used, 0))
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            room = min(room, limit)
    return room


def check_room(needed: int, what: str) -> None:
    """Raise CaffeportError if ``what`` would take more than is there."""
    if needed > 2**28 and needed > (room := available()):  # what fits anywhere is not worth asking about
        raise CaffeportError(f"{what} would take {needed / 1e9:.1f} GB of memory, and {room / 1e9:.1f} GB are free")


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Put off the collection of cyclic garbage.

    Reading a net makes hundreds of thousands of objects that all stay, and next to no cycle: looking through them again
    and again took a third of the time, and once at the end a fifth. So they count as old ones then, which a later
    collection of everything looks through.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled and not gc.get_freeze_count():  # what a program has frozen stays frozen
            gc.freeze()
            gc.unfreeze()
        if enabled:
            gc.enable()


@contextlib.contextmanager
def large_blocks_given_back() -> Iterator[None]:
    """Let the C library return blocks of 4 MB and more to the system when they are freed; glibc's alone.

    By itself it keeps those below 32 MB for later, and of a net's blobs, which come and go, next to none fit where one
    has been: a process then takes twice what it uses.
    """
    mallopt = None
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library, or none to be found
        mallopt = ctypes.CDLL(None).mallopt
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, _LARGEST)
