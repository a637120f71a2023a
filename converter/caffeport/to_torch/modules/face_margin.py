"""The margins of SphereFace, L-Softmax and NormFace on the score of the label's class.

N samples, C classes, K features.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .face_loss import given_gradient, label_column
from .inner_product import store_unit_rows, unit_rows

COSINE_EPS = 1e-9
"""Added to |x| |w|, as the fork's L-Softmax has it; its SphereFace has none and divides by 0."""
UNIT_EPS = 1e-12
"""Under the root of a weight row's length; the fork has none and makes a row of zeros NaN."""
SINE_EPS = 1e-12
"""Under the root: sin = sqrt(1 - cos^2 + eps), as in the fork."""
LEAST_SINE = 1e-3
"""What a smaller sin(theta) counts as in the slope of cos(theta + m); there a float's cosine hardly tells theta."""


def annealed(base: float, gamma: float, power: float, iteration: int) -> float:
    """base (1 + gamma t)^-power; NaN or infinity where C's pow has them and math.pow raises"""
    with np.errstate(all="ignore"):
        return float(base * np.power(1.0 + gamma * iteration, -power))


def psi(c: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """(-1)^k cos(m theta) - 2k on theta in [k pi / m, (k+1) pi / m], as a polynomial of c = cos theta, and d/dc.

    The signs are constants between the kinks, and so to autograd.
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


class MarginInnerProduct(nn.Module):
    """``unit``: weight rows of length 1 (SphereFace), else as they are (L-Softmax).

    ``iteration`` counts the forward passes in training, from the text's ``iteration`` on.
    ``exact``: let autograd find the gradient; the fork's SphereFace has another one.
    """

    weight: Tensor  # (C, K)
    running_state = ("iteration",)
    stored = False  # as InnerProduct's

    def __init__(
        self, m: int, axis: int, base: float, gamma: float, power: float, lambda_min: float, iteration: int,
        unit: bool, exact: bool, tops: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.m, self.axis = m, axis
        self.base, self.gamma, self.power, self.lambda_min = base, gamma, power, lambda_min
        self.iteration = iteration
        self.unit, self.exact, self.tops = unit, exact, tops

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        if self.training:
            self.iteration += 1
        decay = max(annealed(self.base, self.gamma, self.power, self.iteration), self.lambda_min)
        flat = x.flatten(self.axis).reshape(-1, self.weight.shape[1])
        weight = self.weight
        if self.unit and self.exact:  # of stored rows too: the derivative goes through the division
            weight = _unit_rows(weight)
        elif self.unit and not self.stored:
            weight = unit_rows(weight, UNIT_EPS)
        self.stored = False
        scores = F.linear(flat, weight)
        if self.m > 1:
            labels = label_column(label)
            target = self._target(flat, weight.index_select(0, labels[:, 0]), scores.gather(1, labels), decay)
            scores = scores.scatter(1, labels, target)
        scores = scores.reshape(*x.shape[: self.axis], -1)
        return [scores, x.new_full((1,), decay)] if self.tops > 1 else scores

    def _target(self, x: Tensor, w: Tensor, dot: Tensor, decay: float) -> Tensor:
        """(|x| |w| psi + lambda x.w) / (1 + lambda), (N, 1), for w (N, K) and dot = x.w of the labels' classes."""
        lengths = torch.linalg.vector_norm(x, dim=1, keepdim=True) * torch.linalg.vector_norm(w, dim=1, keepdim=True)
        lengths = lengths + COSINE_EPS
        cosine = dot / lengths
        value, slope = psi(cosine, self.m)
        target = (lengths * value + decay * dot) / (1 + decay)
        if self.exact:
            return target
        # The derivative of |x| psi is a w + b x with the coefficients below. The fork scales them to
        # a^2 + b^2 = 1, and takes x for the weight's gradient, as if there were no margin.
        a, b = slope, (value - cosine * slope) / lengths
        step = (a * w + b * x) / torch.sqrt(a**2 + b**2)
        return dot + given_gradient(x, target - dot, (step - w) / (1 + decay))

    def overwrite_blobs(self) -> None:
        """As InnerProduct's."""
        if self.unit:
            store_unit_rows(self.weight, UNIT_EPS)
            self.stored = True

    def extra_repr(self) -> str:
        return f"m={self.m}, {'unit rows, ' if self.unit else ''}iteration={self.iteration}"


def _unit_rows(weight: Tensor) -> Tensor:
    return weight / torch.sqrt((weight * weight).sum(1, keepdim=True) + UNIT_EPS)


class LabelSpecificRescale(nn.Module):
    """``base`` None: positive_weight is fixed; else it is base (1 + gamma t)^-power within the bounds."""

    running_state = ("iteration",)

    def __init__(
        self, positive_weight: float, negative_weight: float, rescale_test: bool, for_ip: bool, bias_fix: bool,
        base: float | None, gamma: float, power: float, least: float | None, most: float | None, iteration: int,
        tops: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.positive_weight, self.negative_weight = positive_weight, negative_weight
        self.rescale_test, self.for_ip, self.bias_fix = rescale_test, for_ip, bias_fix
        self.base, self.gamma, self.power, self.least, self.most = base, gamma, power, least, most
        self.iteration, self.tops = iteration, tops

    def _next_weight(self) -> float:
        if self.base is None or not self.training:
            return self.positive_weight
        self.iteration += 1
        weight = annealed(self.base, self.gamma, self.power, self.iteration)
        weight = weight if self.least is None else max(weight, self.least)
        return weight if self.most is None else min(weight, self.most)

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        weight = self._next_weight()
        y = x
        if self.training or self.rescale_test:
            scores, labels = x.flatten(1), label_column(label)
            target = scores.gather(1, labels)
            scaled = target * weight + (1 - weight if self.bias_fix else 0.0)
            scaled = torch.where(target > 0, scaled, target) if self.for_ip else scaled
            y = (scores * self.negative_weight).scatter(1, labels, scaled).reshape(x.shape)
        return [y, x.new_full((1,), weight)] if self.tops > 1 else y


class LabelSpecificMargin(nn.Module):
    """``margin`` (1,) in degrees is a buffer: the blob, which a schedule (``base`` not None) overwrites in training."""

    margin: Tensor
    running_state = ("iteration",)

    def __init__(
        self, base: float | None, most: float | None, gamma: float, power: float, iteration: int, in_test: bool,
        exact: bool, tops: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.base, self.most, self.gamma, self.power = base, most, gamma, power
        self.iteration, self.in_test, self.exact, self.tops = iteration, in_test, exact, tops

    @torch.no_grad()
    def _next_margin(self) -> Tensor:
        if self.training and self.base is not None:
            self.margin.fill_(self.base + annealed(1.0, self.gamma, -self.power, self.iteration) - 1)
            self.iteration += 1  # after its use, unlike in the other layers
        margin = self.margin if self.most is None else self.margin.clamp(max=self.most)
        if self.training:
            self.margin.copy_(margin)
        return margin

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        y, margin = x, self._next_margin()
        if self.training or self.in_test:
            scores, labels = x.flatten(1), label_column(label)
            target = self._target(scores.gather(1, labels), torch.deg2rad(margin.to(x.dtype)))
            y = scores.scatter(1, labels, target).reshape(x.shape)
        return [y, margin.to(x.dtype, copy=True)] if self.tops > 1 else y

    def _target(self, cosine: Tensor, angle: Tensor) -> Tensor:
        """cos(theta + angle) for cosines (N, 1), and with ``exact`` a score that falls with theta all the way.

        Its gradient is given, not autograd's, because of the bound at theta = 0.
        """
        if self.exact:
            angle = angle.clamp(-math.pi, math.pi)
        sine = torch.sqrt((1 - cosine**2).clamp_min(0) + SINE_EPS)  # rounding may take a cosine beyond 1
        target = cosine * angle.cos() - sine * angle.sin()
        if not self.exact:
            return given_gradient(cosine, target, angle.cos() - cosine / sine * angle.sin())
        slope = angle.cos() + cosine / sine.clamp_min(LEAST_SINE) * angle.sin()
        # Beyond theta + m = pi (or 0, of a negative m) as in ArcFace; 1 - cos m is the more for m above 133 degrees.
        drop = torch.maximum(angle * angle.sin(), 1 - angle.cos()) * angle.sign()
        beyond = torch.where(angle > 0, cosine <= -angle.cos(), cosine > angle.cos())
        return given_gradient(cosine, torch.where(beyond, cosine - drop, target), torch.where(beyond, 1.0, slope))
