"""Lengths of vectors."""

from __future__ import annotations

import torch
from torch import Tensor

UNIT_EPS = 1e-12
"""Added to a squared length, under the root, where a loss makes vectors unit ones, as in the NormFace fork's GPU code
(its CPU code has 1e-6; SphereFace's fork has none and makes a row of zeros NaN)."""


def lengths(x: Tensor, eps: float, axes: int | tuple[int, ...] = 1) -> Tensor:
    """sqrt(sum x^2 + eps) over ``axes``, which stay with size 1."""
    return torch.sqrt((x * x).sum(axes, keepdim=True) + eps)
