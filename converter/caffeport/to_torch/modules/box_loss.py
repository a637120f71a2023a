"""Losses of boxes and the mining of hard examples (see caffeport.operators.box_loss)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .gradients import straight_through
from .loss import normalizer


class SmoothL1Loss(nn.Module):
    """``divisor`` is a normalization's name, or a number; ``exact`` asks for the derivative also where Caffe has
    another."""

    def __init__(self, sigma: float, divisor: str | float, tops: int, exact: bool) -> None:
        super().__init__()
        self.sigma, self.divisor, self.tops, self.exact = sigma, divisor, tops, exact

    def forward(self, x: Tensor, y: Tensor, *weights: Tensor) -> Tensor | list[Tensor]:
        weights = tuple(weight.detach().reshape(x.shape) for weight in weights)
        difference = x - y.reshape(x.shape)
        if weights:
            weighted = weights[0] * difference
            caffes = len(weights) == 1 and not self.exact
            difference = straight_through(difference, weighted) if caffes else weighted
        losses = smooth_l1(difference, self.sigma)
        if len(weights) > 1:
            losses = weights[1] * losses
        rows, places = x.shape[0], x.shape[2:].numel()
        loss = losses.sum() / normalizer(self.divisor, rows, places, x.new_tensor(float(rows * places)))
        if self.tops == 1:
            return loss
        height_and_width = (*x.shape[2:], 1, 1)[:2]
        each = losses.detach().reshape(rows, -1, places).sum(1)
        return [loss, each.reshape(rows, 1, *height_and_width)]

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}, divisor={self.divisor}"


def smooth_l1(x: Tensor, sigma: float) -> Tensor:
    """Return (sigma x)^2 / 2 where |x| < 1 / sigma^2, |x| - 1 / (2 sigma^2) elsewhere."""
    square = sigma * sigma
    size = x.abs()
    return torch.where(size < 1 / square, 0.5 * square * x * x, size - 0.5 / square)


class BoxAnnotatorOHEM(nn.Module):
    def __init__(self, roi_per_img: int, ignore_label: int) -> None:
        super().__init__()
        self.roi_per_img, self.ignore_label = roi_per_img, ignore_label

    @torch.no_grad()
    def forward(self, regions: Tensor, losses: Tensor, labels: Tensor, weights: Tensor) -> list[Tensor]:
        rows = len(regions)
        losses = losses.reshape(rows, -1)
        images = regions.reshape(rows, 5, -1)[:, 0].long().reshape(-1)
        chosen = torch.zeros_like(images, dtype=torch.bool)
        order = losses.reshape(-1).sort(descending=True, stable=True).indices
        for image in images.unique():
            chosen[order[images[order] == image][: self.roi_per_img]] = True
        chosen = chosen.reshape(rows, 1, *(*regions.shape[2:], 1, 1)[:2])
        labels, weights = (x.reshape(rows, -1, *chosen.shape[2:]) for x in (labels, weights))
        return [torch.where(chosen, labels, float(self.ignore_label)), torch.where(chosen, weights, 0.0)]

    def extra_repr(self) -> str:
        return f"roi_per_img={self.roi_per_img}, ignore_label={self.ignore_label}"
