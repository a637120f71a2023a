"""Cosines of angles that a margin was added to, without arccos: no slope is infinite."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

LEAST_SQUARED_SINE = 1e-12
"""The least sin^2: a cosine that is 1, or by rounding beyond, has this sine, and no infinite slope."""


def angle_plus(cosine: Tensor, margin: float | Tensor) -> Tensor:
    """cos(theta + margin) = cos(theta) cos(margin) - sin(theta) sin(margin), sin(theta) >= 0."""
    m = torch.as_tensor(margin, dtype=cosine.dtype, device=cosine.device)
    sine = (1 - cosine.square()).clamp_min(LEAST_SQUARED_SINE).sqrt()
    return cosine * m.cos() - sine * m.sin()


def cos_of(margin: float | Tensor) -> Any:
    return margin.cos() if isinstance(margin, Tensor) else math.cos(margin)


def sin_of(margin: float | Tensor) -> Any:
    return margin.sin() if isinstance(margin, Tensor) else math.sin(margin)
