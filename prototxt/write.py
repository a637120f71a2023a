"""Write the networks and solvers of this folder, or with --check say which are not what would be written.

    python prototxt/write.py [--check]

The networks share their backbones; so they come from one place, source/.
"""

from __future__ import annotations

import sys
from pathlib import Path

from source.files import all_files

HERE = Path(__file__).parent


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    wanted = all_files()
    there = {path.relative_to(HERE).as_posix(): path.read_text() for path in HERE.glob("*/*.prototxt")}
    different = [name for name, text in wanted.items() if there.get(name) != text]
    unknown = sorted(set(there) - set(wanted))
    for name in unknown:
        print(f"{name} is not written by {Path(__file__).name}: delete it, or add it to source/files.py")
    if arguments:
        for name in different:
            print(f"{name} is not what source/ says: python prototxt/{Path(__file__).name}")
        return 1 if different or unknown else 0
    for name in different:
        path = HERE / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(wanted[name])
    print(f"{len(different)} of {len(wanted)} files written")
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
