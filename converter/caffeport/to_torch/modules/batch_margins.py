"""Margins that follow from the other classes' scores, of NormFace's fork: one a sample, or one for all.

N samples, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .face_loss import class_column, one_per_row
from .gradients import given_gradient, straight_through
from .margins import annealed, risen


class HardMargin(nn.Module):
    """``weight``: of the label's own score; the rest is the mean of the others'."""

    def __init__(self, weight: float, exact: bool, tops: int) -> None:
        super().__init__()
        self.weight, self.exact, self.tops = weight, exact, tops

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        y, report = x, x.new_zeros(1)
        if self.training:
            scores, (labels, has_class) = x.flatten(1), class_column(label)
            own = scores.gather(1, labels)
            mean = (scores.sum(1, keepdim=True) - own) / (scores.shape[1] - 1)
            margin = torch.where(has_class, (1 - self.weight) * (mean - own), 0.0)
            y = scores.scatter(1, labels, own + margin).reshape(x.shape)
            y = y if self.exact else straight_through(x, y)
            report = torch.rad2deg(margin.detach().sum() / has_class.sum().clamp_min(1)).reshape(1)
        return [y, report] if self.tops > 1 else y


def other_scores(scores: Tensor, labels: Tensor, scales: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest of the others (N, 1), the sum of exp(scale (x - largest)) and of x times that (N, 1)."""
    is_label = one_per_row(scores, labels)
    largest = scores.masked_fill(is_label, -torch.inf).amax(1, keepdim=True)
    exponentials = torch.where(is_label, 0.0, torch.exp(scales * (scores - largest)))
    return largest, exponentials.sum(1, keepdim=True), (scores * exponentials).sum(1, keepdim=True)


class RadialRemovalMargin(nn.Module):
    def __init__(self, scale: float, tops: int) -> None:
        super().__init__()
        self.scale, self.tops = scale, tops

    def forward(self, x: Tensor, label: Tensor, scales: Tensor | None = None) -> Tensor | list[Tensor]:
        y, report = x, x.new_zeros(4)
        if self.training:
            scores, (labels, has_class) = x.detach().flatten(1), class_column(label)
            scale = self.scale if scales is None else scales.detach().reshape(-1, 1)
            own = scores.gather(1, labels)
            largest, exponentials, weighted = other_scores(scores, labels, scale)
            target = torch.where(has_class, weighted / exponentials, own)
            y = straight_through(x, scores.scatter(1, labels, target).reshape(x.shape))
            numbers = torch.cat([own, largest, own - target, exponentials.log() / scale + largest], 1)
            report = torch.where(has_class, numbers, 0.0).sum(0) / has_class.sum().clamp_min(1)
        return [y, report] if self.tops > 1 else y


Schedule = tuple[float, float, float, float, float]
"""base, gamma, power, least, most"""


class LabelSpecificAffine(nn.Module):
    """``numbers`` (3): the scale, bias and power of the last pass, which are the blob."""

    numbers: Tensor
    running_state = ("iteration",)

    def __init__(
        self, scale: Schedule, bias: Schedule, power: Schedule, iteration: int, passes_gradient: bool, tops: int
    ) -> None:
        super().__init__()
        self.scale, self.bias, self.power = scale, bias, power
        self.iteration, self.passes_gradient, self.tops = iteration, passes_gradient, tops

    def _next_numbers(self) -> tuple[float, float, float]:
        t = self.iteration
        self.iteration += 1
        base, gamma, power, least, most = self.bias
        bias = min(max(risen(base, gamma, power, t), least), most)
        scale, exponent = (
            min(max(annealed(base, gamma, -power, t), least), most)
            for base, gamma, power, least, most in (self.scale, self.power)
        )
        return scale, bias, exponent

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        y, numbers = x, (1.0, 0.0, 1.0)
        if self.training:
            numbers = scale, bias, power = self._next_numbers()
            with torch.no_grad():
                self.numbers.copy_(self.numbers.new_tensor(numbers))
            scores, (labels, has_class) = x.flatten(1), class_column(label)
            own = scores.gather(1, labels)
            positive = own.detach().clamp_min(torch.finfo(x.dtype).tiny)
            raised = scale * positive**power
            slope = torch.full_like(raised, scale) if power == 1 else scale * power * positive ** (power - 1)
            raised = torch.where(raised > -bias, raised + bias, raised)
            acts = has_class & (own.detach() > 0)
            target = torch.where(acts, given_gradient(own, raised, slope), own)
            y = scores.scatter(1, labels, target).reshape(x.shape)
            y = straight_through(x, y) if self.passes_gradient else y
        return [y, x.new_tensor(numbers)] if self.tops > 1 else y


class GlobalLSEMargin(nn.Module):
    """``scale`` (1) is a parameter, ``margin`` (1) a buffer: the two blobs."""

    scale: Tensor
    margin: Tensor
    LEAST_SHORT = 1e-6
    """What 1 - x of a label's score counts as at least, before its logarithm."""

    def __init__(self, bounds: tuple[float | None, float | None], tops: int) -> None:
        super().__init__()
        self.bounds, self.tops = bounds, tops

    def forward(self, x: Tensor, label: Tensor, scales: Tensor | None = None) -> Tensor | list[Tensor]:
        rows = x.flatten(1)
        if scales is None:
            scale = self.scale
            if self.bounds != (None, None):
                scale = straight_through(scale, scale.clamp(*self.bounds))
            scale = scale.reshape(1, 1)
        else:
            scale = scales.reshape(-1, 1)
        numbers = [torch.broadcast_to(scale.detach(), (len(rows), 1)).mean(), *[rows.new_zeros(())] * 2]
        if self.training:
            labels, has_class = class_column(label)
            numbers[1:] = self._next_margin(rows.detach(), labels, has_class, scale.detach())
            margin = torch.where(has_class, self.margin.to(x.dtype).clamp_min(0), 0.0)
            rows = rows.scatter_add(1, labels, -margin)
        y = (rows * scale).reshape(x.shape)
        return [y, torch.stack([*numbers, self.margin[0].to(x.dtype)])] if self.tops > 1 else y

    @torch.no_grad()
    def _next_margin(self, scores: Tensor, labels: Tensor, has_class: Tensor, scale: Tensor) -> list[Tensor]:
        """Set the margin of this pass; return the means of the labels' scores and of the others' soft maxima."""
        n = has_class.sum()
        count = n.clamp_min(1)
        short = torch.log((1 - scores.gather(1, labels)).clamp_min(self.LEAST_SHORT))
        short = torch.where(has_class, short, 0.0)
        largest, exponentials, _ = other_scores(scores, labels, scale)
        soft = torch.where(has_class, exponentials.log() / scale + largest, 0.0).sum() / count
        mean = short.sum() / count
        variance = ((short**2).sum() / count - mean**2).clamp_min(0)
        deviation = torch.where(n > 1, variance.sqrt() / (n - 1).clamp_min(1) * n, 0.0)
        own = torch.where(n > 0, 1 - torch.exp(mean - deviation**2), 0.0)
        apart = (own - soft).to(self.margin.dtype)
        following = torch.where(self.margin == 0, apart, 0.9 * self.margin + 0.1 * apart)
        self.margin.copy_(torch.where(apart.isnan() | (n == 0), self.margin, following))
        return [own, soft]

    @torch.no_grad()
    def overwrite_blobs(self) -> None:
        """As Scale's: the stored scale is kept within its bounds."""
        if self.bounds != (None, None):
            self.scale.clamp_(*self.bounds)

    def extra_repr(self) -> str:
        return f"bounds={self.bounds}"
