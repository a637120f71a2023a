"""``normface finetune`` in a process that then writes the names of its threads into FOLDER/threads-RANK.txt."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

from normface.cli.main import main


def threads() -> list[str]:
    """The names of this process's threads; one that ends meanwhile has none."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            names.append((task / "comm").read_text().strip())
    return names


if __name__ == "__main__":
    folder, *words = sys.argv[1:]
    code = main(words)
    names, until = threads(), time.monotonic() + 5
    while any("gloo" in name for name in names) and time.monotonic() < until:  # the system lists one that has ended
        time.sleep(0.1)  # a moment longer
        names = threads()
    Path(folder, f"threads-{os.environ['RANK']}.txt").write_text("\n".join(names))
    sys.exit(code)
