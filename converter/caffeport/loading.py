"""Ctrl-C while a command is still loading this package, which takes some tenths of a second: one line, as later.

Importing this module first of all prepares for it, and ``done`` ends that. In a program of anyone else it does nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

_COMMANDS = ("caffeport", "normface")
_INTERRUPTED = 130


def _command() -> str:
    """Return the name of the command that this process is; an empty string for another program."""
    words = sys.orig_argv
    module = words[words.index("-m") + 1 :][:1] if sys.argv[:1] == ["-m"] and "-m" in words else []
    name = module[0] if module else os.path.basename(sys.argv[0] if sys.argv else "").removesuffix(".exe")
    return name if name in _COMMANDS else ""


def _end(number: int, frame: Any) -> None:
    """End the process where an exception would be a traceback; nothing is open yet that would have to be closed."""
    os.write(2, f"{_command()}: error: interrupted\n".encode())
    os._exit(_INTERRUPTED)


def done() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _prepare() -> None:
    if _command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


_prepare()
