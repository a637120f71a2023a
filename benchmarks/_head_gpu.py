"""The measurements of head_gpu.py, each in a process of its own: `python _head_gpu.py` imports, prints "ready", reads a
task as a line of JSON and prints what came of it as another.

C classes, D features, N samples; bytes are counted as read or written, each time.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
for place in ("converter", "python"):  # from the clone, installed or not
    sys.path.insert(0, str(ROOT / place))

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from normface import parallel  # noqa: E402
from normface.losses import NormalizedSoftmaxLoss  # noqa: E402
from normface.parallel.row_keeper import SampledRows  # noqa: E402

SCALE, RATE, MOMENTUM, SHARE = 16.0, 1e-3, 0.9, 0.1
WARM_UP, STEPS = 3, 10
COPY_BYTES = 4 * 10**9
AGREED = ("normalized-softmax", "am-softmax", "arcface", "sphereface", "c-contrastive", "c-triplet")
Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def times(device: str, work: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each run, by CUDA's events, which also count a device that waits for its next operation."""
    if device == "cpu":
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        return seconds
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    torch.cuda.synchronize()
    return [one.elapsed_time(other) / 1000 for one, other in itertools.pairwise(marks)]


def ceilings(task: dict[str, Any]) -> dict[str, Any]:
    """Bytes a second of a copy within the device, and operations a second of a product like the head's."""
    device, size = task["device"], COPY_BYTES if task["device"] != "cpu" else 4 * 10**7
    source = torch.randn(size // 4, device=device)
    target = torch.empty_like(source)
    copies = times(device, lambda: target.copy_(source), WARM_UP + STEPS)[WARM_UP:]
    rates = {}
    for precision in ("highest", "high"):
        torch.set_float32_matmul_precision(precision)
        for samples in task["samples"]:
            x = torch.randn(samples, task["features"], device=device)
            rows = source[: task["features"] * (2**18 if device != "cpu" else 2**10)].view(-1, task["features"])
            seconds = statistics.median(times(device, lambda x=x, rows=rows: x @ rows.t(), WARM_UP + STEPS)[WARM_UP:])
            rates[f"{precision} {samples}"] = 2 * samples * rows.numel() / seconds
    name = torch.cuda.get_device_name() if device != "cpu" else "the CPU, which says nothing of a GPU"
    return {"copy": 2 * 4 * len(source) / statistics.median(copies), "products": rates, "name": name}


def steps_of(task: dict[str, Any]) -> Step:
    """A step of what is measured: forward, backward, and SGD with momentum."""
    device, classes, features, kind = (task[key] for key in ("device", "classes", "features", "head"))
    torch.manual_seed(0)
    if kind == "pytorch-metric-learning":
        from pytorch_metric_learning.losses import NormalizedSoftmaxLoss as Rival

        # Its class weights (D, C) start on the CPU; these are drawn on the device.
        loss: Any = Rival(classes, features, temperature=1 / SCALE, weight_init_func=lambda weight: None)
        loss.W = torch.nn.Parameter(torch.randn(features, classes, device=device))
    elif kind == "plain":
        loss = NormalizedSoftmaxLoss(classes, features, SCALE, device=device)
    else:
        rate = SHARE if "sampled" in kind else 1.0
        dtype = torch.bfloat16 if "bfloat16" in kind else torch.float32
        options = {"sample_rate": rate, "device": device, "dtype": dtype}
        loss = parallel.make("normalized-softmax", classes, features, scale=SCALE, **options)
    optimizer: torch.optim.Optimizer
    if isinstance(loss, parallel.ClassParallel):
        optimizer = parallel.RowSGD(loss, RATE, momentum=MOMENTUM, weight_decay=0.0, fused=True)
    else:
        optimizer = torch.optim.SGD(loss.parameters(), RATE, momentum=MOMENTUM, fused=True)

    def step(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        value: torch.Tensor = loss(x, labels)
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def measure(task: dict[str, Any]) -> dict[str, Any]:
    """Median seconds of a step, in float32 and with products in TF32, and the most memory that was held in one."""
    device = task["device"]
    step = steps_of(task)
    batches = []
    for _ in range(4):
        x = torch.randn(task["samples"], task["features"], device=device, requires_grad=True)
        batches.append((x, torch.randint(task["classes"], (task["samples"],), device=device)))
    losses: list[torch.Tensor] = []

    def one() -> None:
        x, labels = batches[len(losses) % len(batches)]
        x.grad = None
        losses.append(step(x, labels))

    found: dict[str, Any] = {}
    for precision in ("highest", "high"):
        torch.set_float32_matmul_precision(precision)
        times(device, one, WARM_UP if not found else 1)
        if device != "cpu" and not found:
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        seconds = times(device, one, STEPS)
        if not found:
            peak = torch.cuda.max_memory_allocated() if device != "cpu" else 1024 * _peak_kb()
            found["peak"], found["wall"] = peak, (time.perf_counter() - start) / STEPS
        found[precision] = statistics.median(seconds)
        found[f"{precision} range"] = [min(seconds), max(seconds)]
    values = torch.stack(losses).tolist()
    return found | {"losses": [values[0], values[-1]], "sound": all(value == value for value in values)}


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def agree(task: dict[str, Any]) -> dict[str, Any]:
    """Losses, gradients and class weights of three steps beside the CPU's, as the largest difference of each, relative
    to the largest number of the CPU's."""
    device, apart = task["device"], {}
    # The draws of the two devices differ; these do not.
    SampledRows._draw = lambda self, rows, labels: torch.cat(  # type: ignore[method-assign]
        [labels, torch.arange(0, rows, 10, device=labels.device)]
    ).unique()
    cases = [(name, "plain", torch.float32, 1.0) for name in AGREED]
    for name in AGREED:
        cases += [(name, "fused", dtype, 1.0) for dtype in (torch.float32, torch.bfloat16)]
    cases += [("normalized-softmax", "kept", torch.float32, rate) for rate in (1.0, SHARE)]
    cases += [("normalized-softmax", "fused", dtype, SHARE) for dtype in (torch.float32, torch.bfloat16)]
    for name, kind, dtype, rate in cases:
        one, other = (_three_steps(where, name, kind, dtype, rate) for where in ("cpu", device))
        most = max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(one, other, strict=True))
        apart[f"{name}, {kind}, {str(dtype)[6:]}, {rate:g}"] = most
    limits = {name: 2e-2 if "bfloat16" in name else 1e-4 for name in apart}  # a bfloat16 has 8 bits of mantissa
    return {"apart": apart, "sound": all(most < limits[name] for name, most in apart.items())}


def _three_steps(device: str, name: str, kind: str, dtype: torch.dtype, rate: float) -> list[torch.Tensor]:
    from normface import losses

    generator = torch.Generator().manual_seed(3)
    classes, features = 700, 64
    start = torch.randn(classes, features, generator=generator)
    if kind == "plain":
        head: Any = losses.make(name, classes, features, device=device)
        optimizer: Any = torch.optim.SGD(head.parameters(), 0.1, momentum=MOMENTUM, weight_decay=5e-4)
    else:
        head = parallel.make(name, classes, features, device=device, dtype=dtype, sample_rate=rate)
        optimizer = parallel.RowSGD(head, 0.1, momentum=MOMENTUM, weight_decay=5e-4, fused=kind == "fused")
    with torch.no_grad():
        head.weight.copy_(start)
    found = []
    for _ in range(3):
        x = torch.randn(96, features, generator=generator).to(device).requires_grad_()
        labels = torch.randint(classes, (96,), generator=generator).to(device)
        optimizer.zero_grad()
        value = head(x, labels)
        value.backward()
        optimizer.step()
        found += [value.detach()[None], x.grad]
    if kind != "plain":
        optimizer.settle()
    return [one.double().cpu() for one in (*found, head.weight.detach())]


def group(task: dict[str, Any]) -> dict[str, Any]:
    """A head in a process group of one rank: its steps are those without a group, and its checkpoint is read again."""
    device = task["device"]
    alone = _three_steps(device, "arcface", "fused", torch.float32, 1.0)
    with _joined("gloo" if device == "cpu" else "nccl", 0, 1, None):
        ones = torch.ones(3, device=device)
        dist.all_reduce(ones)
        together = _three_steps(device, "arcface", "fused", torch.float32, 1.0)
        head = parallel.make("normalized-softmax", 700, 64, device=device)
        optimizer = parallel.RowSGD(head, 0.1)
        before = head.weight.detach().clone()
        with tempfile.TemporaryDirectory() as folder:
            path = parallel.save(folder, 3, {"head": head}, [optimizer])
            head.loss.reset_parameters()
            step, _ = parallel.load(path, {"head": head}, [optimizer])
    same = all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
    facts = {
        "all_reduce": ones.tolist(),
        "same steps": same,
        "loaded": step,
        "restored": torch.equal(head.weight, before),
    }
    return facts | {"sound": same and step == 3 and facts["restored"]}


def ranks(task: dict[str, Any]) -> dict[str, Any]:
    """Two ranks that share the device, by Gloo (NCCL wants a device each), beside one process."""
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for rank in (0, 1):
            words = json.dumps({"kind": "rank", "rank": rank, "store": f"{folder}/store", "device": task["device"]})
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            process = subprocess.Popen([sys.executable, __file__], text=True, **pipes)  # type: ignore[call-overload]
            assert process.stdin is not None
            process.stdin.write(words + "\n")
            process.stdin.flush()
            started.append(process)
        said = [process.communicate(timeout=40) for process in started]
    answers = [
        json.loads(output.splitlines()[-1]) if output.count("\n") > 1 else {"error": errors[-300:]}
        for output, errors in said
    ]
    if any("error" in one for one in answers):
        return {"error": "; ".join(one.get("error", "") for one in answers)}
    one = _two_losses(task["device"], slice(None))
    apart = max(abs(a - b) / abs(b) for two in answers for a, b in zip(two["losses"], one, strict=True))
    return {"apart": apart, "sound": apart < 1e-5}


def rank(task: dict[str, Any]) -> dict[str, Any]:
    with _joined("gloo", task["rank"], 2, task["store"]):
        return {"losses": _two_losses(task["device"], slice(task["rank"], None, 2))}


def _two_losses(device: str, own: slice) -> list[float]:
    torch.manual_seed(5)
    head = parallel.make("normalized-softmax", 701, 64, device=device, scale=SCALE)
    optimizer = parallel.RowSGD(head, 0.1, fused=True)
    values = []
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(96, 64, generator=generator)[own].to(device).requires_grad_()
        labels = torch.arange(96)[own].to(device) * 7
        value = head(x, labels)
        value.backward()
        optimizer.step()
        values.append(float(value))
    return values


@contextlib.contextmanager
def _joined(backend: str, rank: int, size: int, store: str | None) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        meeting = dist.FileStore(store or f"{folder}/store", size)
        if backend == "nccl":
            torch.cuda.set_device(0)
        dist.init_process_group(backend, store=meeting, rank=rank, world_size=size)
        try:
            yield
        finally:
            dist.destroy_process_group()


TASKS = {"ceilings": ceilings, "measure": measure, "agree": agree, "group": group, "ranks": ranks, "rank": rank}


def main() -> None:
    print("ready", flush=True)
    line = sys.stdin.readline()
    if not line:
        return
    task = json.loads(line)
    torch.set_num_threads(min(8, len(os.sched_getaffinity(0))))
    try:
        answer = TASKS[task["kind"]](task)
    except torch.OutOfMemoryError as error:
        answer = {"out": " ".join(str(error).split(" GPU 0 has")[0].split())}
    except ModuleNotFoundError as error:
        answer = {"out": f"{error.name} is not installed"}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
