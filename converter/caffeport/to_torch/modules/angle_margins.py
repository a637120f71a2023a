"""Margins on the label's angle, of several forks: ArcFace, SV-X-Softmax, combined margins, AdaCos.

N samples, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .face_loss import class_column, one_per_row
from .face_margin import LEAST_SINE, SINE_EPS
from .gradients import given_gradient

OUT = 2.0
"""Beyond every cosine; what is beyond this one is none, and stays on the side that it is on."""


def combined_angle(cosine: Tensor, m1: float, m2: float, m3: float) -> Tensor:
    """Return cos(m1 theta + m2) - m3 of cosines (N, 1), a score that falls with theta all the way.

    Where the sum of the angles leaves [0, pi] the cosine takes its place, less what makes it join there without a jump;
    for m1 = 1 less ArcFace's m2 sin m2 where that is more (Deng et al. 2019). The slope's sin(theta) is at least
    LEAST_SINE.
    """
    first, last = -m2 / m1, (math.pi - m2) / m1
    least = (math.cos(last) if last > 0 else OUT) if last < math.pi else -OUT
    most = (math.cos(first) if first < math.pi else -OUT) if first > 0 else OUT
    drop, lift = min(max(least, -1.0), 1.0) + 1 + m3, min(max(most, -1.0), 1.0) - 1 + m3
    if m1 == 1:
        drop = max(drop, m2 * math.sin(m2) + m3)
    c = cosine.detach()
    below, above = c <= least, c > most
    sine = torch.sqrt((1 - c**2).clamp_min(0) + SINE_EPS)  # rounding may take a cosine beyond 1
    divisor = sine.clamp_min(LEAST_SINE)
    if m1 == 1:
        value = c * math.cos(m2) - sine * math.sin(m2) - m3
        slope = math.cos(m2) + c / divisor * math.sin(m2)
    else:
        angle = m1 * torch.atan2(sine, c) + m2
        value, slope = angle.cos() - m3, m1 * angle.sin() / divisor
    value = torch.where(below, c - drop, torch.where(above, c - lift, value))
    return given_gradient(cosine, value, torch.where(below | above, 1.0, slope))


class AngleMargin(nn.Module):
    """``t``: what another class's score x above the label's becomes, t x + t - 1."""

    def __init__(self, m1: float, m2: float, m3: float, t: float, in_test: bool) -> None:
        super().__init__()
        self.m1, self.m2, self.m3, self.t, self.in_test = m1, m2, m3, t, in_test

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        if not (self.training or self.in_test):
            return x
        scores, (labels, has_class) = x.flatten(1), class_column(label)
        cosine = scores.gather(1, labels)
        target = torch.where(has_class, combined_angle(cosine, self.m1, self.m2, self.m3), cosine)
        y = scores
        if self.t != 1:
            hard = (scores > target) & has_class & ~one_per_row(scores, labels)
            y = torch.where(hard, self.t * scores + self.t - 1, scores)
        return y.scatter(1, labels, target).reshape(x.shape) * self.next_scale(scores, labels, has_class)

    def next_scale(self, scores: Tensor, labels: Tensor, has_class: Tensor) -> Tensor | float:
        """The scale of this pass: for scores (N, C), labels (N, 1) and which samples have one (N, 1)."""
        return 1.0

    def extra_repr(self) -> str:
        return f"{self.m1}, {self.m2}, {self.m3}" + (f", t={self.t}" if self.t != 1 else "")


class AdaptiveScaleMargin(AngleMargin):
    """``scale``: of the pass before."""

    running_state = ("scale",)

    def __init__(self, m: float, num_classes: float, in_test: bool) -> None:
        super().__init__(1.0, m, 0.0, 1.0, in_test)
        self.scale: Tensor | float = math.sqrt(2) * math.log(num_classes - 1)

    @torch.no_grad()
    def next_scale(self, scores: Tensor, labels: Tensor, has_class: Tensor) -> Tensor | float:
        rows = has_class.sum()
        angles = torch.where(has_class, scores.clamp(-1, 1).acos(), 0.0).sum() / rows.clamp_min(1) / scores.shape[1]
        exponentials = torch.where(one_per_row(scores, labels), 1.0, torch.exp(self.scale * scores))
        exponentials = torch.where(has_class, exponentials, 0.0).sum() / rows.clamp_min(1)
        scale = exponentials.log() / angles.clamp_max(math.pi / 4).cos()
        self.scale = torch.where(rows > 0, scale, self.scale)
        return self.scale
