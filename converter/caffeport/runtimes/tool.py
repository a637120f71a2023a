"""Another package's program, run with a limit of time."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from .known import ModelRunError

SECONDS = 600.0


def run_tool(command: Sequence[str | Path], folder: str | Path) -> str:
    """Run the command in the folder and return what it printed, whether it ended well or not.

    Raises ModelRunError where it has not ended after SECONDS.
    """
    try:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ModelRunError(f"{Path(str(command[0])).name} has not ended after {SECONDS:.0f} s") from None
    return done.stdout.decode(errors="replace")
