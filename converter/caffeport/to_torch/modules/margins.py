"""The formulas of margins on the score of the label's class: those of the papers, and the forks' gradients.

N samples, K features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from .gradients import given_gradient

COSINE_EPS = 1e-9
"""Added to |x| |w| that a cosine is divided by, as the fork's L-Softmax has it; its SphereFace has none and divides
by 0."""

Number = TypeVar("Number", float, Tensor)


def annealing(base: float, gamma: float, power: float, t: Number, raised: Callable[[Number, float], Number]) -> Number:
    """Return base (1 + gamma t)^-power; ``raised`` is the power of what t is: np.power or torch.pow."""
    return base * raised(1.0 + gamma * t, -power)


def annealed(base: float, gamma: float, power: float, iteration: int) -> float:
    """Return base (1 + gamma t)^-power as a number; NaN or infinity where C's pow has them and math.pow raises."""
    with np.errstate(all="ignore"):
        return float(annealing(base, gamma, power, float(iteration), np.power))


def risen(base: float, gamma: float, power: float, iteration: int) -> float:
    """Return base + (1 + gamma t)^power - 1, which starts from base; otherwise as ``annealed``."""
    return base + annealed(1.0, gamma, -power, iteration) - 1


def psi(c: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """Return (-1)^k cos(m theta) - 2k on theta in [k pi / m, (k+1) pi / m], as a polynomial of c = cos theta, and d/dc.

    Liu et al. 2016 and 2017. The signs are constants between the kinks, and so to autograd.
    """
    if m == 1:
        return c, torch.ones_like(c)
    s0 = c.sign()
    if m == 2:
        return 2 * s0 * c**2 - 1, 4 * s0 * c
    if m == 3:
        s1 = (c.abs() - 0.5).sign()
        return s1 * (4 * c**3 - 3 * c) + s0 * (1 + s1) - 2, s1 * (12 * c**2 - 3)
    s3 = s0 * (2 * c**2 - 1).sign()
    return s3 * (8 * c**4 - 8 * c**2 + 1) + 2 * s0 + s3 - 3, s3 * (32 * c**3 - 16 * c)


def multiplied_angle(
    dot: Tensor, length: Tensor, m: int, decay: float | Tensor, *, eps: float = 0.0,
    published: tuple[Tensor, Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """Return (|x| |w| psi(theta) + lambda x . w) / (1 + lambda), (N, 1): SphereFace's and L-Softmax's score of the
    label.

    dot: x . w of the labels' classes, (N, 1). length: |x| |w|, (N, 1). decay: lambda. eps: added to the length where
    it divides. published: (x, w), both (N, K), to take the gradient of SphereFace's published code: the derivative
    of |x| psi is a w + b x with the coefficients below; they are scaled to a^2 + b^2 = 1, and the weight's gradient
    is x, as if there were no margin.
    """
    cosine = dot / (length + eps)
    value, slope = psi(cosine, m)
    target = (length * value + decay * dot) / (1 + decay)
    if published is None:
        return target
    x, w = published
    a, b = slope, (value - cosine * slope) / (length + eps)
    step = (a * w + b * x) / torch.sqrt(a**2 + b**2)
    return dot + given_gradient(x, target - dot, (step - w) / (1 + decay))


Angle = TypeVar("Angle", float, Tensor)


def added_angle(cosine: Tensor, sine: Tensor, cotangent: Tensor, cos_m: Angle, sin_m: Angle) -> tuple[Tensor, Tensor]:
    """Return cos(theta + m), and its derivative by cos(theta). ``cotangent`` is cosine / sine, bounded as the caller
    wants."""
    return cosine * cos_m - sine * sin_m, cos_m + cotangent * sin_m
