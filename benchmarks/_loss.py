"""Times a loss: `python _loss.py normface|pytorch-metric-learning N D C RUNS`.

Runs in ours and in the rival's environment, so it imports nothing of ours for the rival. Prints, as JSON, the median
milliseconds of forward and backward together, and the numbers that both have to agree on.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import torch

THREADS = 2
SCALE = 16.0


def normface(samples: int, size: int, classes: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """The loss as it comes, its scale learned, and its class weights (C, D)."""
    from normface.losses import NormalizedSoftmaxLoss

    loss = NormalizedSoftmaxLoss(classes, size, initial_scale=SCALE)
    return loss, loss.weight


def pytorch_metric_learning(samples: int, size: int, classes: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """The same, its scale fixed: it learns none. Its class weights are (D, C)."""
    from pytorch_metric_learning.losses import NormalizedSoftmaxLoss

    loss = NormalizedSoftmaxLoss(classes, size, temperature=1 / SCALE)
    return loss, loss.W


def main() -> None:
    name, *numbers = sys.argv[1:]
    samples, size, classes, runs = map(int, numbers)
    torch.set_num_threads(THREADS)
    make = {"normface": normface, "pytorch-metric-learning": pytorch_metric_learning}[name]
    loss, weight = make(samples, size, classes)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        if weight.shape[0] == classes:
            torch.randn(classes, size, generator=random, out=weight.detach())
        else:
            weight.copy_(torch.randn(classes, size, generator=random).t())
    features = torch.randn(samples, size, generator=random, requires_grad=True)
    labels = torch.randint(classes, (samples,), generator=random)
    times = []
    for _ in range(runs + 1):
        features.grad = weight.grad = None
        start = time.perf_counter()
        value = loss(features, labels)
        value.backward()
        times.append(time.perf_counter() - start)
    agreed = [value.item(), features.grad.norm().item(), torch.linalg.vector_norm(weight.grad).item()]
    print(json.dumps({"milliseconds": 1000 * statistics.median(times[1:]), "agreed": agreed}))


if __name__ == "__main__":
    main()
