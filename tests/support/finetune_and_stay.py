"""``normface finetune`` in a process that then writes the names of its threads into FOLDER/threads-RANK.txt."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from normface.cli.main import main

if __name__ == "__main__":
    folder, *words = sys.argv[1:]
    code = main(words)
    names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    Path(folder, f"threads-{os.environ['RANK']}.txt").write_text("".join(names))
    sys.exit(code)
