"""A head's step on a GPU: its time and memory beside pytorch-metric-learning's, and beside what the memory allows.

    python benchmarks/head_gpu.py [--json FILE]
    python benchmarks/head_gpu.py --device cpu --classes 20000      which only tries the script

A step is forward, backward and SGD with momentum of NormalizedSoftmaxLoss: the plain loss with torch's fused SGD;
normface.parallel's head in one rank with RowSGD(fused=True), of float32 and bfloat16 weights, and with a tenth of the
classes sampled; pytorch-metric-learning's loss with torch's fused SGD, if the package is there. Each is a process of
its own. Times are medians of ten steps by CUDA's events after three, once with torch's float32 products and once with
TF32 (torch.set_float32_matmul_precision("high")); memory is the most that torch held within such a step. The limit is
three reads of W at the bandwidth of a copy within the device, in the same run.

It also checks losses, gradients and steps against the CPU's, a process group of one rank by NCCL, and two ranks that
share the GPU by Gloo. What fails or takes too long is told, and the rest runs all the same; exits with 1 then.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("_head_gpu.py")
RIVAL = "pytorch-metric-learning"
HEADS = ("plain", "parallel, fused", "parallel, fused, bfloat16", "parallel, fused, sampled 0.1",
         "parallel, fused, bfloat16, sampled 0.1", RIVAL)  # fmt: skip
LIMIT_S = 40.0
"""Of one process, from the end of its imports."""
AHEAD = 6
"""Processes that import while another measures; they touch no GPU before their turn."""


class Worker:
    """A process that waits for its task."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def run(self, task: dict[str, Any], limit: float) -> dict[str, Any]:
        """Return the worker's answer, or {"error": a line} where it gives none within ``limit`` seconds."""
        process, limit = self._process, max(limit, 1.0)
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()  # after its imports, which take long where the files are not in memory yet
        late = threading.Timer(limit, process.kill)
        late.start()
        try:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            output, errors = process.communicate()
        except BrokenPipeError:
            output, errors = "", process.stderr.read() if process.stderr else ""
        finally:
            finished = late.is_alive()
            late.cancel()
        if output.strip():
            answer: dict[str, Any] = json.loads(output.splitlines()[-1])
            return answer
        if not finished:
            return {"error": f"took more than {limit:.0f} s"}
        return {"error": f"ended with {process.wait()}: {' '.join(errors.split())[-300:]}"}

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def tasks(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What is measured, the smaller first."""
    common = {"device": options.device, "features": options.features}
    if not options.only:
        yield {"kind": "agree", **common}
        yield {"kind": "group", **common}
    yield {"kind": "ceilings", "samples": options.samples, **common}
    for classes, samples, head in itertools.product(options.classes, options.samples, HEADS):
        if not options.only or head in options.only:
            yield {"kind": "measure", "head": head, "classes": classes, "samples": samples, **common}
    if not options.only:
        yield {"kind": "ranks", **common}


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every task with its answer, within options.seconds in all."""
    start, rows, waiting = time.monotonic(), [], deque[Worker]()
    todo = list(tasks(options))
    ahead = max(1, min(AHEAD, len(os.sched_getaffinity(0))))
    try:
        for number, task in enumerate(todo):
            while len(waiting) < min(ahead, len(todo) - number):
                waiting.append(Worker())
            left = options.seconds - (time.monotonic() - start)
            begun = time.monotonic()
            if left < 2:
                answer: dict[str, Any] = {"error": "left out: the time is over"}
            else:
                answer = waiting.popleft().run(task, min(LIMIT_S, left))
            rows.append({**task, **answer, "seconds": time.monotonic() - begun})
            print(f"head_gpu: {_words(rows[-1])}", file=sys.stderr, flush=True)
    finally:
        for worker in waiting:
            worker.end()
    return rows


def _excuse(row: dict[str, Any]) -> str:
    """Why there are no numbers: a failure, or "out", which is none; empty where there are."""
    return str(row.get("error") or row.get("out") or "")


def _words(row: dict[str, Any]) -> str:
    """A line for who waits."""
    what = f"{row['head']}, {row['classes']:,} classes, {row['samples']} samples" if "head" in row else row["kind"]
    milliseconds = f"{1000 * row['highest']:.2f} ms" if "highest" in row else "done"
    return f"{what}: {_excuse(row) or milliseconds} ({row['seconds']:.1f} s in all)"


def least(row: dict[str, Any]) -> float:
    """The bytes that a step must read and write of class weights and momentum.

    Fused: W for the scores; once they are all known W and momentum again, and both are written. Otherwise the gradient
    lies in between: W, then W, the gradient written, and W, gradient and momentum read and two of them written. Of
    sampled classes, a tenth.
    """
    weights = row["classes"] * row["features"] * (2 if "bfloat16" in row["head"] else 4)
    passes = 5 if "fused" in row["head"] else 8
    return weights * passes * (0.1 if "sampled" in row["head"] else 1.0)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: the checks, then a line a measurement."""
    ceilings = next((row for row in rows if row["kind"] == "ceilings" and "copy" in row), None)
    lines = []
    if ceilings is not None:
        rates = ", ".join(f"{name} {rate / 1e12:.1f}" for name, rate in ceilings["products"].items())
        lines += [
            f"On {ceilings['name']}: a copy moves {ceilings['copy'] / 1e12:.2f} TB/s; float32 products, TFLOP/s by"
        ]
        lines[-1] += f" precision and samples: {rates}."
    for row in rows:
        if row["kind"] in ("agree", "group", "ranks"):
            said = _excuse(row) or {key: row[key] for key in row if key not in ("kind", "device", "features")}
            lines.append(f"{row['kind']}: {said}")
    lines += ["", "| classes | samples | head | ms | with TF32 | peak GB | 3 reads of W, ms | the least, ms |"]
    lines.append("|---" * 8 + "|")
    for row in rows:
        if row["kind"] != "measure":
            continue
        first = f"| {row['classes']:,} | {row['samples']} | {row['head']} | "
        if _excuse(row):
            lines.append(f"{first}{_excuse(row)} | | | | |")
            continue
        itemsize = 2 if "bfloat16" in row["head"] else 4
        bounds = "| |"
        if ceilings is not None:
            reads = 3 * row["classes"] * row["features"] * itemsize / ceilings["copy"]
            bounds = f"{1000 * reads:.2f} | {1000 * least(row) / ceilings['copy']:.2f} |"
        numbers = f"{1000 * row['highest']:.2f} | {1000 * row['high']:.2f} | {row['peak'] / 1e9:.2f} | "
        lines.append(first + numbers + bounds)
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="head_gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu only tries the script")
    parser.add_argument("--classes", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--samples", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--only", nargs="+", choices=HEADS, metavar="HEAD", help=f"of: {'; '.join(HEADS)}")
    parser.add_argument("--seconds", type=float, default=115.0, help="of everything (default 115)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        how = "torch sees no CUDA device" if torch.version.cuda else "this torch is built for the CPU alone"
        print(f"head_gpu: there is no GPU to measure: {how} (--device cpu only tries the script)", file=sys.stderr)
        return 2
    rows = run(options)
    print(table(rows), end="")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if any("error" in row or row.get("sound") is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
