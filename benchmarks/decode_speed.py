"""Images of a folder and of a zip decoded and mirrored by normface.data, against a bare loop of OpenCV.

Claim: at least 0.9 times as many images a second of a core as the bare loop, which checks nothing (a file that is cut
short, a header that declares gigabytes, a checksum), and as many again with every core.

    python benchmarks/decode_speed.py [FACES.zip] [--images 2000] [--repeats 5] [--json FILE]

FACES.zip is by default LFW's 112x96 faces in ../shared beside the repository: small images, where what is done beside
decoding counts most. Both read the same files, every other image mirrored, in turn within one process; the time of one
core is that of the process, and of all cores the clock's, with a thread a core on both sides.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from _measure import Row, parser, report
from caffeport.cores import usable_cores
from extract_speed import SHARED
from normface.data import open_reader

Read = Callable[[int], np.ndarray]


def mirrored(image: np.ndarray, index: int) -> np.ndarray:
    return cv2.flip(image, 1) if index % 2 else image


def seconds(read: Read, count: int, threads: int) -> float:
    """Of a core for one thread, of the clock for several."""
    if threads == 1:
        start = time.process_time()
        for index in range(count):
            mirrored(read(index), index)
        return time.process_time() - start
    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        for _ in pool.map(lambda index: mirrored(read(index), index).shape, range(count), chunksize=16):
            pass
        return time.perf_counter() - start


def main() -> None:
    arguments = parser(__doc__ or "", repeats=5)
    arguments.add_argument("faces", nargs="?", type=Path, default=SHARED / "lfw" / "lfw-112x96.zip")
    arguments.add_argument("--images", type=int, default=2000, help="how many of them (default 2000)")
    options = arguments.parse_args()
    if not options.faces.is_file():
        print(f"skipped: {options.faces} is missing; give a zip of images as an argument")
        return
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(options.faces) as archive:
        packed = open_reader(options.faces)
        names = packed.names[: options.images]
        archive.extractall(folder, names)
        unpacked = open_reader(folder)
        paths = [os.path.join(folder, name) for name in names]
        own = threading.local()  # an open zip for each thread, since one is not read by several at once

        def bare_folder(index: int) -> np.ndarray:
            return cv2.imread(paths[index], cv2.IMREAD_COLOR)

        def bare_zip(index: int) -> np.ndarray:
            if not hasattr(own, "archive"):
                own.archive = zipfile.ZipFile(options.faces)
            return cv2.imdecode(np.frombuffer(own.archive.read(names[index]), np.uint8), cv2.IMREAD_COLOR)

        pairs: dict[str, tuple[Read, Read]] = {
            "folder, cv2.imread": (unpacked.read, bare_folder),
            "zip, zipfile and cv2.imdecode": (packed.read, bare_zip),
        }
        rows = []
        for threads in sorted({1, usable_cores()}):
            for name, (ours, bare) in pairs.items():
                ours(0), bare(0)
                times: list[tuple[float, float]] = []
                for _ in range(options.repeats):
                    times.append((seconds(ours, len(names), threads), seconds(bare, len(names), threads)))
                mine, theirs = (1e6 * statistics.median(column) / len(names) for column in zip(*times, strict=True))
                rows.append(Row(f"{name}, {threads} thread{'s' * (threads > 1)}", "us", mine, theirs, 1 / 0.9))
    title = f"{len(names)} images read and decoded, every other one mirrored"
    report(title, "normface.data", "bare loop", rows, [f"OpenCV {cv2.__version__}"], options)


if __name__ == "__main__":
    main()
