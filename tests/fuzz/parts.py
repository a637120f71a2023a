"""Files of a million of the smallest parts: ``python -m fuzz.parts [NAME ...]`` prints the table of docs/security.md.

The files (support/hostile_parts.py) are written to a temporary folder, 3 GB in all, and read in one process.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from support.bounded_reads import readings
from support.hostile_parts import PARTS


def main(names: list[str]) -> None:
    """Print a row a file: its parts, its size, the seconds that reading it takes and may take, and what comes of it."""
    print("| file | parts | MB | seconds | limit | MB of memory |\n|---|---|---|---|---|---|", flush=True)
    for name in names or PARTS:
        reader, write, count = PARTS[name]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            write(path, count)
            files = [path] if path.is_file() else path.iterdir()
            size = sum(file.stat().st_size for file in files) / 1e6
            (reading,) = readings([(reader, path)])
        limit = 1 + 10 * reading.bytes_seconds
        seconds = f"{reading.seconds:.2f} | {limit:.1f}"
        print(f"| {name} | {count:,} | {size:.0f} | {seconds} | {reading.megabytes:.0f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
