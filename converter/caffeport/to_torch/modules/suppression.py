"""Non-maximum suppression, which every detector's layers do, each with its own measure of what boxes share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

BLOCK = 256  # rows of the overlaps computed at once


def not_suppressed(
    boxes: Tensor, threshold: float, overlaps: Callable[[Tensor, Tensor], Tensor], *, most: int = 0, eta: float = 1.0
) -> Tensor:
    """Indices of the boxes (K, 4), best first, that overlap no box kept before by more than ``threshold``.

    overlaps: of every box (A, 4) with every other (B, 4). 0 < most: the first so many of them. Each box kept multiplies
    the threshold by eta while that is below 1 and the threshold above 0.5.
    """
    device, boxes = boxes.device, boxes.detach().cpu()
    boxes = boxes if boxes.dtype == torch.float64 else boxes.float()  # NumPy has no bfloat16
    worst = np.zeros(len(boxes), boxes.numpy().dtype)  # each box's largest overlap with one that is kept
    limit = worst.dtype.type(threshold)
    survivors: list[int] = []
    for start in range(0, len(boxes), BLOCK):
        shared = overlaps(boxes[start : start + BLOCK], boxes).numpy()
        for index, row in enumerate(shared, start):
            if worst[index] > limit:
                continue
            survivors.append(index)
            if len(survivors) == most:
                return torch.tensor(survivors, device=device)
            np.maximum(worst, row, out=worst)
            if eta < 1 and limit > 0.5:
                limit *= worst.dtype.type(eta)
    return torch.tensor(survivors, dtype=torch.long, device=device)
