"""The face layers in real Caffe on a GPU, beside the device's memory, cuBLAS, and Caffe's own layers.

Claims, in float32, each layer's forward and backward pass at a size of a real net (layer_speed_gpu_cases.hpp):
- a layer that goes once over its numbers: at most 1.5 of the device's copy of as many bytes as it has to read and write
  (AdaCosAddmScale, which needs all scores before it changes one, 2.5 forward; DepthwiseConvolution 2 and 3);
- InnerDistance and the margins' inner products: at most 1.5 of cuBLAS's products alone, InnerDistance's L1 4;
- InnerProduct with `normalize`: at most 1.15 of Caffe's InnerProduct without it; others of Caffe's layers, 1.1 to 3.
The same is told in float64, where it is no claim.

    python benchmarks/layer_speed_gpu.py BUILD [--samples 31] [--json FILE] [--only PART]
    python benchmarks/layer_speed_gpu.py --program FILE

BUILD is the folder of a build with CUDA, `cmake -S . -B BUILD -DCAFFE_ROOT=... -DCPU_ONLY=OFF`; layer_speed_gpu.cpp is
compiled there. --program runs one that is compiled already. A time is the median of samples by the device's events, a
sample ten passes one after another, after three to warm up.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SETTINGS = ("CMAKE_CUDA_COMPILER", "CMAKE_CUDA_FLAGS", "CMAKE_EXE_LINKER_FLAGS", "CBLAS_INCLUDE")
YARDSTICKS = {"copy": "the device's copy", "product": "cuBLAS", "layer": "Caffe's layer"}


@dataclass(frozen=True)
class Pass:
    """A layer's pass forward or back, and its yardstick's, in microseconds; claimed is at most ``limit`` of that."""

    layer: str
    direction: str
    number: str
    yardstick: str
    ours_us: float
    yardstick_us: float
    limit: float

    @property
    def ratio(self) -> float:
        return self.ours_us / self.yardstick_us

    @property
    def verdict(self) -> str:
        if self.number == "double":
            return ""
        return "holds" if self.ratio <= self.limit else "missed"


def passes(figures: dict[str, Any]) -> list[Pass]:
    """Return the passes in what the program printed, in its order."""
    rows = []
    for case in figures["cases"]:
        for direction in ("forward", "backward"):
            times = case[f"{direction}_us"], case[f"{direction}_yardstick_us"], case[f"{direction}_limit"]
            if times[0]:
                rows.append(Pass(case["name"], direction, case["type"], case["yardstick"], *times))
    return rows


def table(rows: list[Pass]) -> str:
    """Return the passes as an aligned table, its head first."""
    cells = [("layer", "", "", "us", "yardstick", "us", "ratio", "claim", "")]
    for row in rows:
        times = f"{row.ours_us:.1f}", YARDSTICKS[row.yardstick], f"{row.yardstick_us:.1f}"
        claim = f"<= {row.limit:g}" if row.verdict else ""
        cells.append((row.layer, row.number, row.direction, *times, f"{row.ratio:.2f}", claim, row.verdict))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def summary(rows: list[Pass]) -> str:
    """Return the ratios alone, a line for each layer: float forward and back, then double."""
    ratios: dict[str, list[str]] = {}
    for row in rows:
        ratios.setdefault(row.layer, []).append(f"{row.ratio:.2f}" + ("!" if row.verdict == "missed" else ""))
    return "\n".join(f"{layer}: {' '.join(numbers)}" for layer, numbers in ratios.items())


def compile_in(build: Path) -> Path:
    """Compile the program against the libraries of a build folder; exits where there is no such build."""
    cache, library = build / "CMakeCache.txt", build / "lib" / "libcaffe.so"
    if not cache.is_file() or not library.is_file():
        sys.exit(f"{build}: expected a build folder with lib/libcaffe.so; make one by cmake -S . -B {build} "
                 "-DCAFFE_ROOT=... -DCPU_ONLY=OFF, then cmake --build")  # fmt: skip
    said = dict(re.findall(r"^(\w+):\w+=(.*)$", cache.read_text(), re.MULTILINE))
    if not said.get("CMAKE_CUDA_COMPILER"):
        sys.exit(f"{build}: was built without CUDA; configure it with -DCPU_ONLY=OFF")
    compiler, flags, linker, cblas = (said.get(name, "") for name in SETTINGS)
    program = build / "layer_speed_gpu"
    folders = [build / "caffe/include", build / "include", "/usr/include/hdf5/serial", *filter(None, [cblas])]
    command = [compiler, "-std=c++17", "-O2", "-DUSE_HDF5", "-DGLOG_USE_GLOG_EXPORT", *flags.split()]
    command += [f"-I{folder}" for folder in folders]
    command += [str(HERE / "layer_speed_gpu.cpp"), "-o", str(program), f"-L{library.parent}", "-lcaffe"]
    command += ["-cudart=shared", str(library.parent / "libcaffeproto.a"), "-lprotobuf", "-lglog", "-lgflags"]
    command += ["-lboost_system", "-lboost_thread", "-Xlinker", f"-rpath={library.parent}"]
    for word in linker.split():
        command += ["-Xlinker", word.removeprefix("-Wl,")]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"{program} was not made: the compiler's words are above")
    return program


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, nargs="?", metavar="BUILD", help="the folder of a build with CUDA")
    parser.add_argument("--program", type=Path, metavar="FILE", help="run this one; nothing is compiled")
    parser.add_argument("--samples", type=int, default=31, help="medians are of so many (default 31)")
    parser.add_argument("--only", default="", metavar="PART", help="layers whose name has this in it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    parser.add_argument("--summary", action="store_true", help="print ratios alone")
    options = parser.parse_args()
    if (options.build is None) == (options.program is None):
        parser.error("expected either BUILD or --program")
    program = (options.program or compile_in(options.build)).resolve()
    command = [str(program), str(options.samples), options.only]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return done.returncode
    figures = json.loads(done.stdout)
    rows = passes(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"Face layers on {figures['device']}; medians of {figures['samples']}")
    print(summary(rows) if options.summary else table(rows))
    missed = sum(row.verdict == "missed" for row in rows)
    print(f"{missed} of {sum(bool(row.verdict) for row in rows)} claims missed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
