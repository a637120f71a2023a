"""Made-up people: vectors that show an identity through much that is not identity, for experiments on many classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

IDENTITY, NUISANCE, SHOWN = 16, 16, 64
"""Numbers of what a person is, of the circumstances, and of what is seen of both."""
WITHIN = 0.25
"""Spread of a person around what it is, where people spread by 1."""


@dataclass(frozen=True)
class People:
    """images: float32 (N, SHOWN), labels: int64 (N,) from 0 to count - 1."""

    images: Tensor
    labels: Tensor
    count: int


def people(seed: int, known: int, unseen: int, each: int, each_unseen: int = 8) -> tuple[People, People]:
    """(known, unseen): tanh(B tanh(A (identity, circumstances))), A and B random and the same for all.

    No direct look at the vectors tells people apart, since the circumstances weigh as much as the identity;
    a network that is trained on the known ones can unmix them, for the unseen ones too.
    """
    random = np.random.default_rng(seed)
    inside = IDENTITY + NUISANCE
    first = random.normal(size=(inside, SHOWN)) / np.sqrt(inside)
    second = random.normal(size=(SHOWN, SHOWN)) / np.sqrt(SHOWN)
    sets = []
    for count, shown in ((known, each), (unseen, each_unseen)):
        labels = np.repeat(np.arange(count), shown)
        identity = random.normal(size=(count, IDENTITY))[labels] + WITHIN * random.normal(size=(len(labels), IDENTITY))
        circumstances = random.normal(size=(len(labels), NUISANCE))
        seen = np.tanh(1.5 * np.tanh(np.concatenate([identity, circumstances], 1) @ first) @ second)
        sets.append(People(torch.from_numpy(seen.astype(np.float32)), torch.from_numpy(labels), count))
    return sets[0], sets[1]
