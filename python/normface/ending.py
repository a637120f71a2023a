"""The end of this process from whichever thread, together with the processes that it started."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import NoReturn

CHILDREN: set[subprocess.Popen[str]] = set()
"""Processes that must not outlive this one; who starts one adds it, and takes it out when it has ended."""

_SHOW_CURSOR = "\x1b[?25h"  # a progress bar has hidden it
_first = threading.Lock()


def end_now(problem: str, code: int) -> NoReturn:
    """Print one line of error and exit, without waiting for anything: not for a thread, nor for a call into C.

    Without a problem nothing is printed: another process tells it. Files are safe, since all are written beside their
    targets and renamed. Where two threads come here, the first one speaks.
    """
    if not _first.acquire(blocking=False):
        while True:
            time.sleep(1)
    for child in list(CHILDREN):
        child.kill()
    if problem:
        line = f"normface: error: {' '.join(problem.split())}\n"
        on_terminal = sys.stderr is not None and sys.stderr.isatty()
        os.write(2, ((_SHOW_CURSOR if on_terminal else "") + line).encode(errors="backslashreplace"))
    os._exit(code)
