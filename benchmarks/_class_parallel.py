"""One rank of class_parallel.py: `python _class_parallel.py RANK SIZE STORE THREADS STEPS 'JSON of the head'`.

Prints, as JSON, the seconds of each step, this process's peak memory above what it had after its imports, in bytes, and
the bytes of all class weights and their momentum.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from normface import parallel


def memory(key: str) -> int:
    """VmRSS, what the process holds, or VmHWM, the most that it held; in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def main() -> None:
    rank, size, store, threads, steps, text = sys.argv[1:]
    head_of = json.loads(text)
    torch.set_num_threads(int(threads))
    # What a first product of matrices, a first message and a first random number load belongs to the imports.
    torch.mm(torch.ones(64, 64), torch.ones(64, 64)).requires_grad_().sum().backward()
    if int(size) > 1:
        meeting = dist.FileStore(store, int(size))
        dist.init_process_group(
            "gloo", store=meeting, rank=int(rank), world_size=int(size), timeout=timedelta(minutes=20)
        )
        dist.all_reduce(torch.ones(1))
    imports = memory("VmRSS")
    dtype = getattr(torch, head_of["dtype"])
    head = parallel.make(
        head_of["loss"], head_of["classes"], head_of["features"], dtype=dtype, sample_rate=head_of["rate"]
    )
    optimizer = parallel.RowSGD(head, 0.1, fused=head_of["fused"])
    own = slice(int(rank), None, int(size))
    times = []
    for step in range(int(steps) + 1):
        generator = torch.Generator().manual_seed(step)
        embeddings = torch.randn(head_of["samples"], head_of["features"], generator=generator)[own].requires_grad_()
        labels = torch.randint(head_of["classes"], (head_of["samples"],), generator=generator)[own]
        start = time.perf_counter()
        optimizer.zero_grad()
        head(embeddings, labels).backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    weights = head_of["classes"] * head_of["features"] * dtype.itemsize
    print(json.dumps({"seconds": times[1:], "above": memory("VmHWM") - imports, "weights": weights}))
    if int(size) > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
