"""`normface finetune --class-parallel --sample-rate`: a step's time and a rank's peak, beside those of all classes.

Made data: a net of one InnerProduct on 8x8 images, and a list of C identities of one image each. The head is all.
No claim; times are those of steps on a machine that has a core for each rank.

    OMP_NUM_THREADS=1 python benchmarks/finetune_sampled.py [--classes 200000] [--ranks 2] [--rates 1 0.1] [--steps 14]
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import caffeport
import cv2
import numpy as np

IMAGES, EMBEDDING, BATCH = 64, 512, 64
TEXT = f"""
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 1 dim: 8 dim: 8 }} }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
         inner_product_param {{ num_output: {EMBEDDING} weight_filler {{ type: "xavier" }} }} }}
"""


def make(folder: Path, classes: int) -> list[str]:
    """Write the net and the images; return the command that trains on them, without its rates."""
    (folder / "net.prototxt").write_text(TEXT)
    net = caffeport.load(folder / "net.prototxt")
    net.with_weights(net.to_torch()).save(folder / "net.caffemodel")
    pixels = np.random.default_rng(0).integers(0, 255, (IMAGES, 8, 8), dtype=np.uint8)
    for number, image in enumerate(pixels):
        cv2.imwrite(str(folder / f"{number}.png"), image)
    (folder / "list.txt").write_text("".join(f"{label % IMAGES}.png {label}\n" for label in range(classes)))
    words = [sys.executable, "-m", "normface", "finetune", folder / "net.prototxt", folder / "net.caffemodel"]
    words += ["--data", folder / "list.txt", "--root", folder, "--embedding", "fc", "--mean", 127.5, "--scale", 0.0078]
    words += ["--loss", "arcface", "--head-init", "random", "--val-share", 0, "--batch-size", BATCH, "--log-every", 1]
    words += ["--no-tensorboard", "--no-figure", "--device", "cpu", "--class-parallel", "--out", folder / "out"]
    return [str(word) for word in words]


def ranks_of(process: int) -> list[int]:
    """Return the process and the ranks that it has started."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    named = ((int(pid), Path(f"/proc/{pid}/cmdline").read_bytes()) for pid in children)
    return [process, *(pid for pid, line in named if b"normface.finetune.rank" in line)]


def peak_and_cpu(pid: int) -> tuple[float, float]:
    """Return the MB that a process had at most so far, and the seconds that it computed."""
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return peak * 1024 / 1e6, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(command: list[str], out: Path) -> str:
    """Run it; return the figures in words."""
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    training = whole = 0.0
    stamps: dict[int, tuple[float, float]] = {}
    while run.poll() is None:
        try:
            figures = [peak_and_cpu(pid) for pid in ranks_of(run.pid)]
            lines = (out / "metrics.csv").read_text().count("\n") if (out / "metrics.csv").exists() else 0
        except (OSError, StopIteration):  # one has just ended
            continue
        whole = max(whole, *(peak for peak, _ in figures))
        training = training if (out / "checkpoint").exists() else whole
        stamps.setdefault(lines, (time.monotonic(), sum(cpu for _, cpu in figures)))
        time.sleep(0.01)
    assert run.returncode == 0, run.communicate()[1][-2000:]
    steps = sorted(stamps)[3:-1]  # without the first, which meet cold memory, and the last, which is saved
    pairs = [(stamps[one], stamps[next_]) for one, next_ in itertools.pairwise(steps)]
    wall, cpu = (statistics.median(after[kind] - before[kind] for before, after in pairs) for kind in (0, 1))
    return f"{wall:.2f} s a step, {cpu:.2f} s of the cores; peak {training:.0f} MB, in saving {whole:.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name, default in (("classes", 200_000), ("ranks", 2), ("steps", 14), ("repeats", 1)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default {default})")
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0, 0.1])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        command = make(Path(place), options.classes)
        command += ["--devices", str(options.ranks), "--steps", str(options.steps), "--overwrite"]
        for _ in range(options.repeats):
            for rate in options.rates:
                shutil.rmtree(Path(place) / "out", ignore_errors=True)
                said = measure([*command, "--sample-rate", str(rate)], Path(place) / "out")
                print(f"rate {rate:g}: {said}", flush=True)


if __name__ == "__main__":
    main()
