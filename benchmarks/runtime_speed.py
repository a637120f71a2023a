"""Features of faces and of their mirror images: the runtime that ``auto`` chooses against ONNX Runtime.

Claim: with OpenVINO installed at least 1.25 times as many images a second as ONNX Runtime gives, decoding included, and
the features agree within 1e-5 of the largest number.

    python benchmarks/runtime_speed.py [MODEL_FOLDER] [FACES.zip] [--faces 512] [--threads 2] [--repeats 5]

MODEL_FOLDER and FACES.zip are as of extract_speed.py. Every repeat is a process of its own for each runtime, one after
the other in turn; the time counts from the open model to the last feature.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from _measure import Row, cache, parser, report, run
from extract_speed import DIFFERENCE, OURS, SHARED


def main() -> None:
    arguments = parser(__doc__ or "", repeats=5)
    arguments.add_argument("model", nargs="?", type=Path, default=SHARED / "models" / "mobilefacenet")
    arguments.add_argument("faces", nargs="?", type=Path, default=SHARED / "lfw" / "lfw-112x96.zip")
    arguments.add_argument("--faces", dest="count", type=int, default=512, help="how many of them (default 512)")
    arguments.add_argument("--threads", type=int, default=2, help="batches at the same time (default 2)")
    options = arguments.parse_args()
    files: list[str | Path] = [options.model / f"mobilefacenet{end}" for end in ("_deploy.prototxt", ".caffemodel")]
    for path in (*files, options.faces):
        if not Path(path).exists():
            print(f"skipped: {path} is missing; give the model's folder and a zip of faces as arguments")
            return
    times: dict[str, list[float]] = {"auto": [], "onnxruntime": []}
    notes = []
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        results = {name: Path(folder, f"{name}.npy") for name in times}
        for repeat in range(options.repeats):
            for name, seconds in times.items():
                script = OURS.replace("threads=2", f'threads={options.threads}, runtime="{name}", device="cpu"')
                script += "\nprint(extractor.runtime)"
                command = [sys.executable, "-c", script, *files, options.faces, str(options.count), results[name]]
                figures, runtime = run(command).output.strip().splitlines()
                seconds.append(json.loads(figures)[0])
                if repeat == 0:
                    notes.append(f"{name}: {runtime}")
        difference = float(run([sys.executable, "-c", DIFFERENCE, *results.values()]).output)
    ratios = sorted(mine / theirs for mine, theirs in zip(*times.values(), strict=True))
    notes.append(f"features differ by {difference:.1e} of the largest number")
    notes.append(f"ratios of the pairs: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    medians = [statistics.median(one) for one in times.values()]
    rows = [Row("an image and its mirror", "ms", *medians, 1 / 1.25)]
    title = f"features of {options.count} faces, MobileFaceNet, {options.threads} threads"
    report(title, "auto", "onnxruntime", rows, notes, options)


if __name__ == "__main__":
    main()
