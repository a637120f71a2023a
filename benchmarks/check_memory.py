"""`caffeport check` on a net with large blobs: its peak memory and time, against what a forward pass takes.

Claims: of a VDSR (20 convolutions, 64 channels, ReLU in place) the peak is at most BLOBS of its largest blobs beyond
what the check of the same net takes for an image of 32x32, which has the weights and both runtimes; its time is at most
4 forward passes, of which two are in ONNX Runtime, as exported and folded, and one in torch. Blobs that wait lie in
mapped temporary files, whose pages the system holds as long as it has room for them: no memory of the process.

    python benchmarks/check_memory.py [--size 512x990] [--net NET WEIGHTS] [--before FOLDER] [--repeats 3] [--json FILE]

--net: another net than the VDSR, which is written anew with weights from its fillers; BLOB sizes are then its own.
--before: the folder of another checkout (`git worktree add FOLDER COMMIT`), measured in turn with this one.
Every figure is a process of its own.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from _measure import Row, cache, median_peak, median_seconds, parser, report, run

BLOBS = 3
"""The two blobs of the layer that runs, and what its runtime reorders one of them into: 1.5 of the largest pair."""
SMALL = "32x32"

INPUT = (
    'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 1 dim: {} dim: {} }} }} }}\n'
)
CONVOLUTION = """layer {{ name: "conv{0}" type: "Convolution" bottom: "{1}" top: "conv{0}"
  convolution_param {{ num_output: {2} kernel_size: 3 pad: 1 weight_filler {{ type: "msra" }} }} }}
"""
RELU = 'layer {{ name: "relu{0}" type: "ReLU" bottom: "conv{0}" top: "conv{0}" }}\n'
SUM = 'layer { name: "sum" type: "Eltwise" bottom: "conv20" bottom: "data" top: "sum" }\n'

MAKE = "import sys, caffeport; caffeport.load(sys.argv[1]).save(sys.argv[2])"
CHECK = """
import json, sys, caffeport
report = caffeport.check(caffeport.load(*sys.argv[1:]))
print(json.dumps([report.ok, len(report.rows), report.summary]))
"""
IMPORTS = "import caffeport.parity.compare, torch, onnx, onnxruntime"
SHAPES = """
import json, math, sys, caffeport
net = caffeport.load(*sys.argv[1:])
blobs, weights = ([4 * math.prod(one.shape) for one in several] for several in (net.values, net.params))
print(json.dumps([max(blobs), sum(weights)]))
"""
FORWARD = """
import sys, time, caffeport, numpy, torch
net = caffeport.load(*sys.argv[1:])
inputs = net.sample_inputs()
model = net.to_torch().eval()
tensors = [torch.from_numpy(inputs[name]) for name in net.inputs]
with torch.inference_mode():
    start = time.perf_counter()
    model(*tensors)
    print(time.perf_counter() - start)
"""


def vdsr(height: int, width: int) -> str:
    """The text of VDSR: 18 convolutions of 64 channels between one that widens and one that narrows, and the sum."""
    text = INPUT.format(height, width) + CONVOLUTION.format(1, "data", 64) + RELU.format(1)
    for number in range(2, 20):
        text += CONVOLUTION.format(number, f"conv{number - 1}", 64) + RELU.format(number)
    return text + CONVOLUTION.format(20, "conv19", 1) + SUM


def main() -> None:
    arguments = parser(__doc__ or "", repeats=3)
    arguments.add_argument("--size", default="512x990", metavar="HxW", help="of the VDSR's image (default 512x990)")
    arguments.add_argument("--net", nargs=2, metavar=("NET", "WEIGHTS"), help="another net, and its weights")
    arguments.add_argument("--before", type=Path, metavar="FOLDER", help="another checkout, measured in turn")
    options = arguments.parse_args()
    python = sys.executable
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        net = options.net or [str(Path(folder, "net.prototxt")), str(Path(folder, "net.caffemodel"))]
        if not options.net:
            height, width = map(int, options.size.split("x"))
            Path(net[0]).write_text(vdsr(height, width))
            run([python, "-c", MAKE, *net])
        rest = None
        if not options.net:
            small = str(Path(folder, "small.prototxt"))
            Path(small).write_text(vdsr(*map(int, SMALL.split("x"))))
            rest = run([python, "-c", CHECK, small, net[1]]).peak_mb
        blob, weights = json.loads(run([python, "-c", SHAPES, *net]).output)
        imports = run([python, "-c", IMPORTS]).peak_mb
        ours, before, passes = [], [], []
        for _ in range(options.repeats):
            ours.append(run([python, "-c", CHECK, *net]))
            passes.append(float(run([python, "-c", FORWARD, *net]).output))
            if options.before:
                os.environ["PYTHONPATH"] = str(options.before / "converter")
                before.append(run([python, "-c", CHECK, *net]))
                del os.environ["PYTHONPATH"]
    room = BLOBS * blob / 1e6 + (imports + 4 * weights / 1e6 if rest is None else rest)
    rows = [
        Row("peak, against what is claimed", "MB", median_peak(ours), room, 1),
        Row("time, against 4 forward passes", "s", median_seconds(ours), 4 * statistics.median(passes), 1),
    ]
    if before:
        rows.append(Row("peak, before", "MB", median_peak(ours), median_peak(before), 1))
        rows.append(Row("time, before", "s", median_seconds(ours), median_seconds(before), 1))
    notes = [
        f"the largest blob has {blob / 1e6:.1f} MB, the weights {weights / 1e6:.1f} MB, imports take {imports:.0f} MB",
        *([f"the check of an image of {SMALL} takes {rest:.0f} MB"] if rest is not None else []),
        f"the check says {ours[-1].output.strip()}",
        *([f"before: it says {before[-1].output.strip()}"] if before else []),
    ]
    report("caffeport check", "now", "limit or before", rows, notes, options)


if __name__ == "__main__":
    main()
