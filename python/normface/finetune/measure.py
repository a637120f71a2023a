"""The figures of one model: its verification of held-out people, and its loss on images that it trains on.

The loss is on the same images each time and of the model as it is. The mean over the steps between two lines of
metrics.csv is of no one model: each step's is of the model before it, on a batch of its own.

The leading rank runs the net. The loss is its too, but where the ranks share the class weights' rows: then all get
the features of those images, and compute it together.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import NotFiniteError
from .class_rows import shard_of
from .collectives import Ranks
from .feeding import in_order
from .figures import Measured
from .run import Run
from .validation import embedded

IMAGES = 512


Sample = list[tuple[Tensor, Tensor]]
"""(features (n, D), labels (n,)) of the batches of the training images that the loss is of, on the CPU."""


def measured(
    run: Run, step: int, device: torch.device, trunk: nn.Module, loss: nn.Module, ranks: Ranks
) -> Measured | str:  # fmt: skip
    """The figures of a model of this run as it is; in words, where it computes no numbers. Every rank calls it."""
    found = _of_trunk(run, device, trunk) if ranks.leads else None
    if shard_of(loss) is None:
        return ranks.from_leader(_figures(step, found, loss, device) if found is not None else None)
    return _figures(step, ranks.from_leader(found), loss, device)


def _of_trunk(run: Run, device: torch.device, trunk: nn.Module) -> tuple[dict[str, Any], Sample] | str:
    """Return how the net verifies, and its features of some training images."""
    score: dict[str, Any] = {}
    size, readers = run.config.batch_size, run.config.readers
    try:
        if run.validation is not None:
            score = asdict(run.validation.run(trunk, device))
        score["sets"] = {one.name: one.run(trunk, size, readers, device) for one in run.sets}
    except NotFiniteError as error:
        return str(error)
    places = sample(len(run.labels), run.config.seed)
    batches = in_order(len(places), size, places=places)
    embeddings = embedded(trunk, run.source, batches, readers, device)
    return score, [(features, torch.from_numpy(run.labels[rows])) for rows, features in embeddings]


def _figures(
    step: int, found: tuple[dict[str, Any], Sample] | str, loss: nn.Module, device: torch.device
) -> Measured | str:  # fmt: skip
    if isinstance(found, str):
        return found
    score, batches = found
    value = _training_loss(batches, loss, device)
    if value is not None and not math.isfinite(value):
        if step > 0:
            return f"the training loss is {value}"
        value = None  # which the first step tells
    return Measured(step, value, **score)


def sample(images: int, seed: int) -> np.ndarray:
    """Places of IMAGES of them, or all, by a seed."""
    if images <= IMAGES:
        return np.arange(images)
    return np.sort(np.random.default_rng([seed, 5]).permutation(images)[:IMAGES])


@torch.no_grad()
def _training_loss(batches: Sample, loss: nn.Module, device: torch.device) -> float | None:
    """The mean in evaluation mode, in float32, without mirroring; None where no image could be read."""
    mode = loss.training
    total, count = 0.0, 0
    loss.eval()
    try:
        for features, labels in batches:
            total += len(labels) * float(loss(features.to(device), labels.to(device)))
            count += len(labels)
    finally:
        loss.train(mode)
    return total / count if count else None
