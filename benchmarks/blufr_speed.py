"""BLUFR's ten trials: all 47 million impostor pairs of each, time and peak memory against a limit.

Claim: `normface evaluate blufr` on features of LFW's 13,233 images takes under 40 s and 2 GB, from the start of the
process to its end, and counts every pair.

    python benchmarks/blufr_speed.py [--features F.npz] [--config blufr_lfw_config.mat] [--repeats 3] [--json FILE]

Without --features random ones of 128 numbers are made; the time does not depend on what they are, and the rates then
mean nothing. The protocol file is by default ../shared/lfw's; without it there is nothing to measure.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from _measure import Row, cache, median_peak, median_seconds, parser, report, run

CONFIG = Path(__file__).parents[2] / "shared" / "lfw" / "blufr_lfw_config.mat"
SECONDS, MEGABYTES = 40.0, 2000.0
MAKE = """
import sys, numpy as np
from normface.evaluate.blufr_config import read_config
images = read_config(sys.argv[1]).images
features = np.random.default_rng(0).normal(size=(len(images), 128)).astype(np.float32)
np.savez(sys.argv[2], features=features, names=np.array(images))
"""


def main() -> None:
    made = parser(__doc__ or "", repeats=3)
    made.add_argument("--features", type=Path, metavar="F.npz", help="as normface extract writes them")
    made.add_argument("--config", type=Path, default=CONFIG, metavar="MAT", help="BLUFR's protocol file")
    options = made.parse_args()
    if not options.config.is_file():
        print(f"skipped: {options.config} is not here (BLUFR's protocol file)")
        return
    features = options.features
    if features is None:
        features = cache() / "blufr_random.npz"
        run([sys.executable, "-c", MAKE, options.config, features])
    command: list[str | Path] = [sys.executable, "-m", "normface", "evaluate", "blufr", "--json"]
    command += ["--features", features, "--config", options.config]
    runs = [run(command) for _ in range(options.repeats + 1)][1:]  # the first warms the file cache
    found = json.loads(runs[0].output)
    rows = [
        Row("time", "s", median_seconds(runs), SECONDS, 1),
        Row("peak memory", "MB", median_peak(runs), MEGABYTES, 1),
    ]
    trials = found["trials"]
    notes = [
        f"{trials} trials of {sum(found['genuine_pairs']) // trials:,} genuine and "
        f"{sum(found['impostor_pairs']) // trials:,} impostor pairs on average",
        f"times from {min(one.seconds for one in runs):.1f} to {max(one.seconds for one in runs):.1f} s",
    ]
    if options.features is not None:
        for name, rates in (("VR", found["vr_at_far"]), ("DIR", found["dir_at_far"])):
            told = ", ".join(f"{rate['reported']:.2f} at FAR {100 * float(far):g} %" for far, rate in rates.items())
            notes.append(f"{name} (mean - std): {told}")
    report("BLUFR's ten trials", "normface", "limit", rows, notes, options)


if __name__ == "__main__":
    main()
