"""The margins of SphereFace, L-Softmax and NormFace on the score of the label's class.

N samples, C classes, K features.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .face_loss import class_column
from .gradients import given_gradient, straight_through
from .inner_product import store_unit_rows, unit_rows
from .lengths import UNIT_EPS, lengths
from .margins import COSINE_EPS, added_angle, annealed, multiplied_angle, risen

SINE_EPS = 1e-12
"""Under the root: sin = sqrt(1 - cos^2 + eps), as in the fork."""
LEAST_SINE = 1e-3
"""The least sin(theta) in the slope of cos(theta + m); there a float's cosine hardly tells theta."""


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
            weight = weight / lengths(weight, UNIT_EPS)
        elif self.unit and not self.stored:
            weight = unit_rows(weight, UNIT_EPS)
        self.stored = False
        scores = F.linear(flat, weight)
        if self.m > 1:
            labels, has_class = class_column(label)
            plain = scores.gather(1, labels)
            target = self._target(flat, weight.index_select(0, labels[:, 0]), plain, decay)
            scores = scores.scatter(1, labels, torch.where(has_class, target, plain))
        scores = scores.reshape(*x.shape[: self.axis], -1)
        return [scores, x.new_full((1,), decay)] if self.tops > 1 else scores

    def _target(self, x: Tensor, w: Tensor, dot: Tensor, decay: float) -> Tensor:
        """Return the labels' scores, (N, 1), for w (N, K) and dot = x . w of their classes; |x| |w| holds the eps."""
        norm = torch.linalg.vector_norm
        length = norm(x, dim=1, keepdim=True) * norm(w, dim=1, keepdim=True) + COSINE_EPS
        return multiplied_angle(dot, length, self.m, decay, published=None if self.exact else (x, w))

    def overwrite_blobs(self) -> None:
        """Do as InnerProduct does."""
        if self.unit:
            store_unit_rows(self.weight, UNIT_EPS)
            self.stored = True

    def extra_repr(self) -> str:
        return f"m={self.m}, {'unit rows, ' if self.unit else ''}iteration={self.iteration}"


class LabelSpecificRescale(nn.Module):
    """``base`` None: positive_weight is fixed; else it is base (1 + gamma t)^-power within the bounds.

    ``passes_gradient``: the gradient passes as if there were no layer.
    """

    running_state = ("iteration",)

    def __init__(
        self, positive_weight: float, negative_weight: float, rescale_test: bool, for_ip: bool, bias_fix: bool,
        base: float | None, gamma: float, power: float, least: float | None, most: float | None, iteration: int,
        passes_gradient: bool, tops: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.passes_gradient = passes_gradient
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
            scores, (labels, has_class) = x.flatten(1), class_column(label)
            target = scores.gather(1, labels)
            scaled = target * weight + (1 - weight if self.bias_fix else 0.0)
            scaled = torch.where(target > 0, scaled, target) if self.for_ip else scaled
            y = (scores * self.negative_weight).scatter(1, labels, scaled)
            y = torch.where(has_class, y, scores).reshape(x.shape)
            y = straight_through(x, y) if self.passes_gradient else y
        return [y, x.new_full((1,), weight)] if self.tops > 1 else y


class LabelSpecificMargin(nn.Module):
    """``margin`` (1,) in degrees is a buffer: the blob, which a schedule (``base`` not None) overwrites in training."""

    margin: Tensor
    running_state = ("iteration",)

    def __init__(
        self, base: float | None, most: float | None, gamma: float, power: float, iteration: int, in_test: bool,
        exact: bool, passes_gradient: bool, tops: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.passes_gradient = passes_gradient
        self.base, self.most, self.gamma, self.power = base, most, gamma, power
        self.iteration, self.in_test, self.exact, self.tops = iteration, in_test, exact, tops

    @torch.no_grad()
    def _next_margin(self) -> Tensor:
        if self.training and self.base is not None:
            self.margin.fill_(risen(self.base, self.gamma, self.power, self.iteration))
            self.iteration += 1  # after its use, unlike in the other layers
        margin = self.margin if self.most is None else self.margin.clamp(max=self.most)
        if self.training:
            self.margin.copy_(margin)
        return margin

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        y, margin = x, self._next_margin()
        if self.training or self.in_test:
            scores, (labels, has_class) = x.flatten(1), class_column(label)
            cosine = scores.gather(1, labels)
            target = self._target(cosine, torch.deg2rad(margin.to(x.dtype)))
            y = scores.scatter(1, labels, torch.where(has_class, target, cosine)).reshape(x.shape)
            y = straight_through(x, y) if self.passes_gradient else y
        return [y, margin.to(x.dtype, copy=True)] if self.tops > 1 else y

    def _target(self, cosine: Tensor, angle: Tensor) -> Tensor:
        """cos(theta + angle) for cosines (N, 1), and with ``exact`` a score that falls with theta all the way.

        Its gradient is given, not autograd's, because of the bound at theta = 0.
        """
        if self.exact:
            angle = angle.clamp(-math.pi, math.pi)
        sine = torch.sqrt((1 - cosine**2).clamp_min(0) + SINE_EPS)  # rounding may take a cosine beyond 1
        cotangent = cosine / sine.clamp_min(LEAST_SINE)
        target, slope = added_angle(cosine, sine, cotangent, angle.cos(), angle.sin())
        if not self.exact:
            return given_gradient(cosine, target, angle.cos() - cosine / sine * angle.sin())
        # Beyond theta + m = pi (or 0, of a negative m) as in ArcFace; 1 - cos m is the more for m above 133 degrees.
        drop = torch.maximum(angle * angle.sin(), 1 - angle.cos()) * angle.sign()
        beyond = torch.where(angle > 0, cosine <= -angle.cos(), cosine > angle.cos())
        return given_gradient(cosine, torch.where(beyond, cosine - drop, target), torch.where(beyond, 1.0, slope))
