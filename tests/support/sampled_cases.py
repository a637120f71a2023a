"""Losses of a sample of the classes beside one process that has a copy of each class that a sampled one stands for."""

from __future__ import annotations

from typing import Any

import torch
from normface import losses, parallel
from torch import Tensor

from .parallel_cases import apart

SIZE = 4
ROWS, SCORED = 9, 3
"""Of a rank, so that each other class stands for 9 / 3 on it, or for 8 / 2 beside the label's: whole numbers."""
LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("softmax", {}),
    ("normalized-softmax", {}),
    ("positive-scale-softmax", {}),
    ("l2-softmax", {"alpha": "learned"}),
    ("am-softmax", {"scale": 10.0}),
    ("arcface", {"scale": 8.0}),
    ("combined-margin", {"scale": 8.0}),
    ("sv-x-softmax", {"scale": 8.0}),
    ("magface", {"scale": 8.0, "shortest": 0.6, "longest": 2.5}),
    ("sphereface", {"base": 2.0, "lambda_min": 0.0}),
    ("large-margin-softmax", {"base": 2.0, "lambda_min": 0.0}),
    ("c-contrastive", {}),
    ("c-triplet", {"hardest_only": False}),
    ("sphereface2", {"scale": 10.0}),
]


def beside_copies() -> dict[str, dict[str, float]]:
    """{loss: {what: how far apart}} of a step of every rank's samples, which all are the first rank's."""
    return {name: _step(name, options) for name, options in LOSSES}


def _step(name: str, options: dict[str, Any]) -> dict[str, float]:
    torch.manual_seed(3)
    size = parallel.make("softmax", 1, SIZE).shard.size
    head = parallel.make(
        name, ROWS * size, SIZE, dtype=torch.float64, reduction="none", backbone_gradients="summed",
        sample_rate=SCORED / ROWS, sample_seed=5, **options,
    )  # fmt: skip
    own = head.loss.weight
    table = head.shard.gather(own).flatten(0, 1)
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(4, SIZE, generator=generator, dtype=torch.float64)
    labels = torch.tensor([1, 1, ROWS * size - 2, ROWS * (size // 2) + 4])
    x, pull = x.requires_grad_(), torch.tensor([0.5, 1.0, -2.0, 1.5], dtype=torch.float64)
    mine = slice(None) if head.shard.rank == 0 else slice(0)
    values = head(x[mine], labels[mine])
    (values * pull).sum().backward()
    gradient = x.grad
    assert own.grad is not None and gradient is not None
    rows = _scored(head, own.grad)
    x.grad, table = None, table.clone().requires_grad_()
    expected = torch.cat([_with_copies(head, name, options, x[i : i + 1], table, labels[i], rows) for i in range(4)])
    (expected * pull).sum().backward()
    found = {"values": apart(values.detach(), expected.detach()), "scored": abs(len(rows) - SCORED * size)}
    if head.shard.rank == 0:
        found["features"] = apart(gradient, x.grad)
    assert table.grad is not None
    found["weights"] = apart(own.grad.to_dense(), head.shard.own_rows(table.grad))
    return found


def _scored(head: parallel.ClassParallel, gradient: Tensor) -> list[int]:
    """Return the classes of all ranks that had scores."""
    mask = torch.zeros(ROWS, dtype=torch.bool)
    mask[gradient.coalesce().indices()[0]] = True
    return head.shard.gather(mask).flatten().nonzero()[:, 0].tolist()


def _with_copies(
    head: parallel.ClassParallel, name: str, options: dict[str, Any], x: Tensor, table: Tensor, label: Tensor,
    rows: list[int],
) -> Tensor:  # fmt: skip
    """Return the loss of one sample, of its label and so many copies of each other scored class as it stands for."""
    copies = [int(label)]
    for row in rows:
        if row != label:
            times = (ROWS - 1) // (SCORED - 1) if row // ROWS == label // ROWS else ROWS // SCORED
            copies += [row] * times
    plain = losses.make(name, len(copies), SIZE, dtype=torch.float64, reduction="none", **options)
    learned = {key: value for key, value in head.loss.named_parameters() if key != "weight"}
    given = (x, torch.zeros(1, dtype=torch.int64))
    value: Tensor = torch.func.functional_call(plain, {**learned, "weight": table[copies]}, given)
    return value
