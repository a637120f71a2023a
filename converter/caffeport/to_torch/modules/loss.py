"""BVLC Caffe's losses, with its normalisations and the gradients it defines, and Accuracy."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .gradients import given_gradient

MOST = -math.log(1.17549435e-38)
"""Caffe takes the logarithm of FLT_MIN at least: a loss of 87.3 has diverged. The gradient knows no such bound."""


def bounded(losses: Tensor) -> Tensor:
    """Return the losses, MOST at most, with the gradient of the losses themselves.

    The value is set, not reached by a subtraction, in which 87.3 would vanish beside a loss of 1e9.
    """
    return given_gradient(losses, losses.clamp_max(MOST), torch.ones_like(losses))


def normalizer(normalization: str | float, outer: int, inner: int, valid: Tensor) -> Tensor | float:
    """Return what the summed loss is divided by: LossLayer::GetNormalizer, or the number that was given."""
    if isinstance(normalization, float):
        return normalization
    if normalization == "VALID":
        return valid.clamp_min(1)
    return float({"FULL": outer * inner, "BATCH_SIZE": outer, "NONE": 1}[normalization])


class _ClassLoss(nn.Module):
    """Scores with classes on ``axis``, one label for every other position."""

    def __init__(self, axis: int, ignore_label: int | None, normalization: str | float, tops: int) -> None:
        super().__init__()
        self.axis, self.ignore_label, self.normalization, self.tops = axis, ignore_label, normalization, tops

    def per_position(self, scores: Tensor, labels: Tensor, matrix: Tensor | None) -> Tensor:
        """Return the loss at every position, from scores (outer, C, inner) and labels (outer, inner)."""
        raise NotImplementedError

    def forward(self, x: Tensor, label: Tensor, matrix: Tensor | None = None) -> Tensor | list[Tensor]:
        classes = x.shape[self.axis]
        outer = math.prod(x.shape[: self.axis])
        scores = x.reshape(outer, classes, -1)
        labels = label.reshape(outer, -1).long()
        counted = torch.ones_like(labels, dtype=torch.bool)
        if self.ignore_label is not None:
            counted = labels != self.ignore_label
        losses = self.per_position(scores, torch.where(counted, labels, 0), matrix)
        total = torch.where(counted, losses, 0.0).sum()
        loss = total / normalizer(self.normalization, outer, scores.shape[2], counted.sum())
        if self.tops == 1:
            return loss
        each = torch.where(counted, losses.detach(), 0.0)
        each = each.reshape(*label.shape, *[1] * max(0, 4 - label.dim()))
        return [loss, F.softmax(x, self.axis), each][: self.tops]

    def extra_repr(self) -> str:
        return f"normalization={self.normalization}, ignore_label={self.ignore_label}"


class SoftmaxWithLoss(_ClassLoss):
    def per_position(self, scores: Tensor, labels: Tensor, matrix: Tensor | None) -> Tensor:
        return bounded(-F.log_softmax(scores, 1).gather(1, labels[:, None])[:, 0])


class InfogainLoss(_ClassLoss):
    """``matrix`` (C, C) is H; None where it comes as the third bottom."""

    def __init__(
        self, axis: int, ignore_label: int | None, normalization: str | float, tops: int, matrix: np.ndarray | None
    ) -> None:
        super().__init__(axis, ignore_label, normalization, tops)
        self.fixed = None if matrix is None else matrix.tolist()

    def per_position(self, scores: Tensor, labels: Tensor, matrix: Tensor | None) -> Tensor:
        classes = scores.shape[1]
        gain = scores.new_tensor(self.fixed) if matrix is None else matrix.reshape(classes, classes)
        log_probabilities = F.log_softmax(scores, 1)
        least = log_probabilities.clamp_min(float(np.log(1e-20)))  # the gradient knows no such bound
        log_probabilities = given_gradient(log_probabilities, least, torch.ones_like(least))
        return -(gain[labels].permute(0, 2, 1) * log_probabilities).sum(1)


class SigmoidCrossEntropyLoss(nn.Module):
    def __init__(self, ignore_label: int | None, normalization: str | float, tops: int) -> None:
        super().__init__()
        self.ignore_label, self.normalization, self.tops = ignore_label, normalization, tops

    def forward(self, x: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor | list[Tensor]:
        target = target.detach().reshape(x.shape)
        losses = F.binary_cross_entropy_with_logits(x, target, reduction="none")
        counted = torch.ones_like(target, dtype=torch.bool)
        if self.ignore_label is not None:
            counted = target.long() != self.ignore_label
        outer = x.shape[0]
        divisor = normalizer(self.normalization, outer, x.numel() // outer, counted.sum())
        loss = torch.where(counted, losses, 0.0).sum() / divisor
        if weight is not None:
            weight = weight.detach().reshape(x.shape)
            total = weight.sum()
            loss = torch.where(total > 0, (losses * weight).sum() / torch.where(total > 0, total, 1.0), 0.0)
        return [loss, torch.sigmoid(x)] if self.tops > 1 else loss


class MultinomialLogisticLoss(nn.Module):
    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        chosen = x.reshape(x.shape[0], -1).gather(1, label.reshape(-1, 1).long())
        bounded_below = chosen.detach().clamp_min(1e-20)
        return -given_gradient(chosen, bounded_below.log(), 1 / bounded_below).mean()  # Caffe divides by it below, too


class EuclideanLoss(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y.reshape(x.shape)).square().sum() / (2 * x.shape[0])


class HingeLoss(nn.Module):
    def __init__(self, power: int) -> None:
        super().__init__()
        self.power = power

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        flat = x.reshape(x.shape[0], -1)
        sign = torch.ones_like(flat).scatter(1, label.reshape(-1, 1).long(), -1.0)
        return F.relu(1 + sign * flat).pow(self.power).sum() / x.shape[0]


class ContrastiveLoss(nn.Module):
    EPS = 1e-4
    """Caffe divides the gradient of a dissimilar pair by d + 1e-4, so that d = 0 is no trouble."""

    def __init__(self, margin: float, legacy: bool) -> None:
        super().__init__()
        self.margin, self.legacy = margin, legacy

    def forward(self, x: Tensor, y: Tensor, label: Tensor) -> Tensor:
        squared = (x - y).reshape(x.shape[0], -1).square().sum(1)
        if self.legacy:
            apart = F.relu(self.margin - squared)
        else:
            distance = squared.detach().sqrt()
            # The value of the distance with Caffe's gradient: d(d^2) / (2 (d + eps)).
            slope = squared / (2 * (distance + self.EPS))
            apart = F.relu(self.margin - (distance + slope - slope.detach())).square()
        similar = label.reshape(-1).long() != 0
        return torch.where(similar, squared, apart).sum() / (2 * x.shape[0])


class Accuracy(nn.Module):
    def __init__(self, axis: int, top_k: int, ignore_label: int | None, min_is_better: bool, tops: int) -> None:
        super().__init__()
        self.axis, self.top_k, self.ignore_label = axis, top_k, ignore_label
        self.min_is_better, self.tops = min_is_better, tops

    @torch.no_grad()
    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        classes = x.shape[self.axis]
        scores = x.movedim(self.axis, -1).reshape(-1, classes)
        if self.min_is_better:
            scores = -scores
        # Labels are (outer, inner) in the order that the other axes of x have.
        labels = label.reshape(-1).long()
        counted = torch.ones_like(labels, dtype=torch.bool)
        if self.ignore_label is not None:
            counted = labels != self.ignore_label
        safe = torch.where(counted, labels, 0)[:, None]
        others = scores.scatter(1, safe, float("-inf"))
        # A tie counts against the label, as in Caffe. So does a NaN among the scores, unlike there: Caffe finds no
        # score that is >= NaN and takes the label for the best, so that a broken net is right every time.
        better = (others >= scores.gather(1, safe)).sum(1)
        correct = ((better < self.top_k) & counted & ~scores.isnan().any(1)).to(x.dtype)
        accuracy = correct.sum() / counted.sum().clamp_min(1).to(x.dtype)
        if self.tops == 1:
            return accuracy
        counts = x.new_zeros(classes).index_add(0, safe[:, 0], counted.to(x.dtype))
        hits = x.new_zeros(classes).index_add(0, safe[:, 0], correct)
        return [accuracy, torch.where(counts > 0, hits / counts.clamp_min(1), 0.0)]
