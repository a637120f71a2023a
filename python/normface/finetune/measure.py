"""The figures of one model: its verification of held-out people, and its loss on images that it trains on.

The loss is on the same images each time and of the model as it is. The mean over the steps between two lines of
metrics.csv is of no one model: each step's is of the model before it, on a batch of its own.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import NotFiniteError
from .feeding import ahead
from .figures import Measured
from .run import Run
from .sampling import Chosen

IMAGES = 512


def measured(run: Run, step: int, device: torch.device, trunk: nn.Module, loss: nn.Module) -> Measured | str:
    """The figures of a model of this run as it is; in words, where it computes no numbers."""
    score: dict[str, Any] = {}
    size, readers = run.config.batch_size, run.config.readers
    try:
        if run.validation is not None:
            score = asdict(run.validation.run(trunk, device))
        score["sets"] = {one.name: one.run(trunk, size, readers, device) for one in run.sets}
    except NotFiniteError as error:
        return str(error)
    value = _training_loss(run, device, trunk, loss)
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
def _training_loss(run: Run, device: torch.device, trunk: nn.Module, loss: nn.Module) -> float | None:
    """The mean in evaluation mode, in float32, without mirroring; None where no image could be read."""
    places = sample(len(run.labels), run.config.seed)
    plain = np.zeros(len(places), bool)
    size = run.config.batch_size
    batches = (Chosen(places[i : i + size], plain[i : i + size]) for i in range(0, len(places), size))
    modes = [(module, module.training) for module in (trunk, loss)]
    total, count = 0.0, 0
    try:
        for module, _ in modes:
            module.eval()
        for chosen, inputs, kept in ahead(run.source, batches, run.config.readers):
            if kept.any():
                labels = torch.from_numpy(run.labels[chosen.places[kept]]).to(device)
                value = loss(trunk(inputs.to(device)).float(), labels)
                total += int(kept.sum()) * float(value)
                count += int(kept.sum())
    finally:
        for module, mode in modes:
            module.train(mode)
    return total / count if count else None
