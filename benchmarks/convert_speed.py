"""Converting a real model to ONNX, against the package caffe-onnx, as whole processes.

Claim: `caffeport convert --onnx` takes at most 1/15 of the time and 1/3 of the peak memory of
`caffe2onnx` (caffe-onnx 0.1.2) on Yahoo's open_nsfw, and both files give the same answer.

    python benchmarks/convert_speed.py [--repeats 3] [--json FILE]

The first call makes caffe-onnx's environment and downloads the model (see _rivals.py). With Python 3.11
or later, protobuf < 3.21, which caffe-onnx needs, exists only in pure Python; that is part of its time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import _rivals
from _measure import Row, cache, median_peak, median_seconds, parser, report, run

AGREE = """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
sessions = [onnxruntime.InferenceSession(path, options) for path in sys.argv[1:]]
x = 50 * numpy.random.default_rng(0).standard_normal((4, 1, 3, 224, 224)).astype(numpy.float32)
ours, rival = ([s.run(["prob"], {s.get_inputs()[0].name: one})[0] for one in x] for s in sessions)
print((abs(numpy.array(ours) - numpy.array(rival)) / numpy.array(rival)).max())
"""


def main() -> None:
    options = parser(__doc__ or "", repeats=3).parse_args()
    net, weights = _rivals.open_nsfw()
    caffe2onnx = _rivals.environment("caffe-onnx") / "caffe2onnx"
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        ours_path, rival_path = Path(folder, "ours.onnx"), Path(folder, "rival.onnx")
        ours, rival = [], []
        for _ in range(options.repeats + 1):
            ours.append(run([sys.executable, "-m", "caffeport", "convert", net, weights, "--onnx", ours_path]))
            rival.append(run([caffe2onnx, net, weights, rival_path.stem, folder], keep_pythonpath=False))
        ours, rival = ours[1:], rival[1:]  # the first round compiles both to .pyc and warms the file cache
        difference = float(run([sys.executable, "-c", AGREE, ours_path, rival_path]).output)
    rows = [
        Row("time", "s", median_seconds(ours), median_seconds(rival), 1 / 15),
        Row("peak memory", "MB", median_peak(ours), median_peak(rival), 1 / 3),
    ]
    notes = [
        f"the probabilities that the two files give differ by at most {difference:.1e} of themselves",
        f"rival: {_rivals.versions('caffe-onnx')}",
    ]
    report("open_nsfw to ONNX", "caffeport", "caffe-onnx", rows, notes, options)


if __name__ == "__main__":
    main()
