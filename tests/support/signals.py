"""Commands that take signals as one from a terminal does, whatever this process ignores."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

ASKED = ("SIGINT", "SIGTERM", "SIGHUP")
_START = """
import os, signal, sys
ignored = sys.argv[1].split()
for name in sys.argv[2].split():
    signal.signal(getattr(signal, name), signal.SIG_IGN if name in ignored else signal.SIG_DFL)
os.execv(sys.argv[3], sys.argv[3:])
"""


def as_from_a_terminal(command: Sequence[str], ignored: Sequence[str] = ()) -> list[str]:
    """Return a command that runs this one in its own process with signals as they are by default.

    A shell's background jobs, and nohup's, ignore some, and so would their children. ``command`` begins with a path;
    ``ignored``: names of signals that it shall ignore. Not by ``preexec_fn``, which forks this process with all the
    threads that its libraries have.
    """
    known = [name for name in ASKED if hasattr(signal, name)]
    return [sys.executable, "-S", "-c", _START, " ".join(ignored), " ".join(known), *command]
