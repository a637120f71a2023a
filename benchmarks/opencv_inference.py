"""Running a face network: converted by caffeport and in ONNX Runtime, against OpenCV 4's own Caffe importer.

Claim: ONNX Runtime is faster at batch 1 and at batch 32, both with two threads, and the outputs agree
within 1e-3 of the largest number.

    python benchmarks/opencv_inference.py [PROTOTXT] [--repeats 5] [--json FILE]

PROTOTXT is by default center-loss's face_deploy.prototxt in ../shared/models beside the repository; its
weights come from caffeport's fillers. The first call makes OpenCV's environment (see _rivals.py). Every
repeat is a process of its own for each runtime and batch size, one after the other in turn; its figure is
the median of several runs after a few that warm up.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import _rivals
from _measure import Row, cache, parser, report, run

DEFAULT_NET = Path(__file__).parents[2] / "shared" / "models" / "center_face" / "face_deploy.prototxt"
RUNS = {1: 30, 32: 4}
"""Batch size -> timed runs in each process."""

PREPARE = """
import sys, caffeport, numpy
net, weights, onnx, inputs, batch = sys.argv[1:]
net = caffeport.load(net)
net.save(weights)
net.to_onnx(onnx)
shape = net.blob_shapes[net.inputs[0]]
numpy.save(inputs, numpy.random.default_rng(0).standard_normal((int(batch), *shape[1:])).astype(numpy.float32))
"""
DIFFERENCE = """
import sys, numpy
ours, rival = map(numpy.load, sys.argv[1:])
assert ours.shape == rival.shape, f"{ours.shape} and {rival.shape}"
print(abs(ours - rival).max() / abs(rival).max())
"""


def main() -> None:
    arguments = parser(__doc__ or "", repeats=5)
    arguments.add_argument("net", nargs="?", type=Path, default=DEFAULT_NET, help="a deploy prototxt with one input")
    options = arguments.parse_args()
    if not options.net.exists():
        print(f"skipped: {options.net} is missing; give a deploy prototxt as the argument")
        return
    rival_python = _rivals.environment("opencv") / "python"
    worker = Path(__file__).with_name("_infer.py")
    times: dict[tuple[str, int], list[float]] = {(name, batch): [] for batch in RUNS for name in ("ours", "rival")}
    notes = []
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        paths = {name: Path(folder, name) for name in ("w.caffemodel", "net.onnx", "x.npy", "ours.npy", "rival.npy")}
        weights, onnx_path, inputs, ours, rival = paths.values()
        run([sys.executable, "-c", PREPARE, options.net, weights, onnx_path, inputs, str(max(RUNS))])
        for repeat in range(options.repeats):
            for batch, runs in RUNS.items():
                counts: list[str | Path] = [str(batch), str(runs), inputs]
                done = run([sys.executable, worker, "onnx", *counts, ours, onnx_path])
                times["ours", batch].append(float(done.output))
                command = [rival_python, worker, "opencv", *counts, rival, options.net, weights]
                times["rival", batch].append(float(run(command, keep_pythonpath=False).output))
                if repeat == 0:
                    difference = float(run([sys.executable, "-c", DIFFERENCE, ours, rival]).output)
                    notes.append(f"batch {batch}: outputs differ by {difference:.1e} of the largest number")
    medians = {key: statistics.median(values) for key, values in times.items()}
    rows = [Row(f"batch {batch}", "ms", medians["ours", batch], medians["rival", batch], 1) for batch in RUNS]
    notes.append(f"rival: {_rivals.versions('opencv')}")
    report(f"{options.net.name}, two threads", "ONNX Runtime", "OpenCV", rows, notes, options)


if __name__ == "__main__":
    main()
