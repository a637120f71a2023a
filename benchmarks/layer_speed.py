"""The face layers in real Caffe on the CPU, beside the plainest code, Caffe's own layer, and the memory's speed.

Claims, in float32 on all cores:
- InnerDistance, 64 x 512 to 10572 classes, forward and backward: at most 1/15 of the time of a plain triple loop
  compiled with -O3 (a loop a gradient, as the fork that published the layer has it).
- InnerProduct with `normalize`, 256 x 512 to 10572 classes: at most 1.15 of Caffe's InnerProduct without it.
- Normalize: forward at most 1.5 of a loop that only doubles its numbers, backward 1.5 of one that adds two such blobs:
  what the memory allows.

    python benchmarks/layer_speed.py [--repeats 7] [--json FILE]

Builds official BVLC Caffe with the layers as the tests do (tests/support/caffe_trees.py), once, and compiles
layer_speed.cpp against it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

from _measure import Row, cache, parser, report

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support import caffe_trees


def program() -> Path:
    tree = caffe_trees.built("bvlc")
    made = cache() / "layer_speed"
    source = Path(__file__).with_suffix(".cpp")
    library = tree.folder / "lib"
    includes = [tree.copy / "include", tree.folder / "include", "/usr/include/hdf5/serial"]
    command = ["g++", "-std=c++14", "-O3", "-DCPU_ONLY", str(source), "-o", str(made)]
    command += [f"-I{folder}" for folder in includes]
    command += [f"-L{library}", f"-Wl,-rpath,{library}", "-lcaffe", str(library / "libcaffeproto.a"), "-lprotobuf"]
    command += ["-lglog", "-lgflags", "-lboost_system", "-lboost_thread", "-lpthread"]
    subprocess.run(command, check=True)
    return made


def main() -> None:
    options = parser(__doc__ or "", repeats=7).parse_args()
    output = subprocess.run([str(program()), str(options.repeats)], check=True, capture_output=True, text=True).stdout
    times = {name: statistics.median(values) for name, values in json.loads(output).items()}
    rows = [
        Row("InnerDistance", "ms", times["distance"], times["loop_forward"] + times["loop_backward"], 1 / 15),
        Row("InnerProduct normalize, forward", "ms", times["normalized_forward"], times["plain_forward"], 1.15),
        Row("InnerProduct normalize, both", "ms", times["normalized"], times["plain"], 1.15),
        Row("Normalize (N, C), forward", "ms", times["rows_forward"], times["rows_scale"], 1.5),
        Row("Normalize (N, C), backward", "ms", times["rows_backward"], times["rows_add"], 1.5),
        Row("Normalize (N, C, H, W), forward", "ms", times["maps_forward"], times["maps_scale"], 1.5),
        Row("Normalize (N, C, H, W), backward", "ms", times["maps_backward"], times["maps_add"], 1.5),
    ]
    notes = [
        f"InnerDistance's forward alone: {times['distance_forward']:.3g} ms to {times['loop_forward']:.3g} ms",
        f"the distances differ by at most {times['distance_apart']:.1e} of themselves",
    ]
    report("Face layers in BVLC Caffe", "ours", "yardstick", rows, notes, options)


if __name__ == "__main__":
    main()
