"""Losses on features and scores of several forks: triplets, ranges, rings, focal weights, classes pushed apart.

N samples, C classes, K features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .face_loss import class_column


class TripletLoss(nn.Module):
    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        a, p, n = (x.reshape(len(x), -1) for x in (anchor, positive, negative))
        terms = ((a - p).square() - (a - n).square()).sum(1) + self.margin
        return torch.where(terms < 0, 0.0, terms).sum() / (2 * len(a))  # NaN stays


class RingLoss(nn.Module):
    """``radius`` (1): below 0 it is not known yet."""

    radius: Tensor

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(len(x), -1)
        squares = flat.square().sum(1)
        nought = squares == 0  # its length has no slope there
        lengths = torch.where(nought, 0.0, torch.where(nought, 1.0, squares).sqrt())
        mean = lengths.detach().mean()
        if self.training:
            with torch.no_grad():
                self.radius.copy_(torch.where(self.radius < 0, mean, self.radius))
        radius = torch.where(self.radius < 0, mean, self.radius)
        return (lengths - radius).square().sum() / (2 * len(flat))


class FocalLoss(nn.Module):
    """``added``: (1 + p)^gamma in place of (1 - p)^gamma."""

    def __init__(self, axis: int, gamma: float, added: bool, ignore: int | None, normalization: str, tops: int) -> None:
        super().__init__()
        self.axis, self.gamma, self.added = axis, gamma, added
        self.ignore, self.normalization, self.tops = ignore, normalization, tops

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        rows = x.movedim(self.axis, -1)
        logs = rows.reshape(-1, rows.shape[-1]).log_softmax(1)
        labels, counts = class_column(label)
        counts = counts if self.ignore is None else counts & (labels != self.ignore)
        labels = torch.where(counts, labels, 0)
        log = logs.gather(1, labels)
        p = log.exp()
        base = (1 + p if self.added else 1 - p).clamp_min(1e-10)  # a gamma below 1 has an infinite slope at p = 1
        log = torch.where(log < LEAST_LOG, LEAST_LOG, log)
        total = -torch.where(counts, base**self.gamma * log, 0.0).sum()
        outer = x.shape[: self.axis].numel()
        divisors = {"FULL": len(logs), "VALID": counts.sum(), "BATCH_SIZE": outer, "NONE": 1}
        loss = total / torch.as_tensor(divisors[self.normalization], device=x.device).clamp_min(1)
        return [loss, x.detach().softmax(self.axis)] if self.tops > 1 else loss


LEAST_LOG = -87.33654475055310
"""log(FLT_MIN), which the fork bounds log p by."""


class _Step(torch.autograd.Function):
    """A value whose weight gets the given gradient, whatever gradient comes in."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, weight: Tensor, step: Tensor) -> Tensor:
        ctx.save_for_backward(step)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, ctx.saved_tensors[0], None


class InterClass(nn.Module):
    """``schedule``: (first pass, its alpha, the step, the passes that add one). ``among``: AMONG, or else MEAN."""

    weight: Tensor  # (C, K)
    running_state = ("iteration",)

    def __init__(
        self,
        among: bool,
        normalize: bool,
        schedule: tuple[int, float, float, tuple[int, ...]],
        iteration: int,
        tops: int,
    ) -> None:
        super().__init__()
        self.among, self.normalize, self.schedule = among, normalize, schedule
        self.iteration, self.tops = iteration, tops

    def _next_alpha(self) -> float:
        if self.training:
            self.iteration += 1
        first, alpha, step, more = self.schedule
        if self.iteration < first:
            return 0.0
        return alpha + step * sum(1 for passes in more if passes <= self.iteration)

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        alpha, w = self._next_alpha(), self.weight.detach()
        labels, has_class = class_column(label)
        rows, n = w.index_select(0, labels[:, 0]), has_class.sum().clamp_min(1).to(w.dtype)
        mean = w.mean(0)
        apart = w.square().sum() / len(w) - 2 * rows @ mean + rows.square().sum(1)  # sum_j |w_j - w_y|^2 / C
        if self.normalize:
            mean = mean / torch.sqrt(mean.square().sum() + 1e-5)
        if self.among:
            distance = torch.where(has_class[:, 0], apart, 0.0).sum()
            step = -4 * alpha / (n * distance**2 + 1e-5) * (rows - mean)
        else:
            distance = 1 - torch.where(has_class[:, 0], rows @ mean, 0.0).sum() / n
            step = alpha / n * mean.expand_as(rows)
        step = torch.zeros_like(w).index_add(0, labels[:, 0], torch.where(has_class, step, 0.0))
        distance = _Step.apply(distance, self.weight, step)
        return [distance, x.new_full((1,), alpha)] if self.tops > 1 else distance


class RankHardLoss(nn.Module):
    def __init__(self, negatives: int, pair_size: int, hard: int, drawn: int, margin: float) -> None:
        super().__init__()
        self.negatives, self.pair_size, self.hard, self.drawn, self.margin = negatives, pair_size, hard, drawn, margin

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        flat, labels = x.reshape(len(x), -1), label.reshape(-1)
        dots = flat @ flat.t()
        anchors, positives, others = self._triplets(dots.detach(), labels)
        near = dots[anchors, positives]
        terms = torch.cat([dots[anchors, others] - near, dots[positives, others] - near]) + self.margin
        total = torch.where(terms < 0, 0.0, terms).sum()  # NaN stays
        return total / float(self.negatives * len(flat) // self.pair_size * 2)

    def _triplets(self, dots: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Choose the negatives; return the numbers of anchors, positives and negatives, one entry a triplet."""
        chosen: list[tuple[int, Tensor]] = []
        for anchor in range(0, len(labels), self.pair_size):
            reach = dots[anchor] - dots[anchor, anchor + 1] + self.margin
            fits = (labels >= 0) & (labels != labels[anchor]) & ~(reach <= 0) & (labels[anchor] >= 0)
            candidates = fits.nonzero()[:, 0]
            if len(candidates) > self.negatives:
                order = candidates[torch.sort(-dots[anchor, candidates], stable=True).indices]
                hard, rest = order[: self.negatives], order[self.negatives :]
                taken = min(self.hard, self.negatives)
                if taken < self.negatives:
                    hard = hard[torch.randperm(len(hard), device=hard.device)]
                rest = torch.cat([rest, hard[taken:]])
                rest = rest[torch.randperm(len(rest), device=rest.device)[: self.drawn]]
                candidates = torch.cat([hard[:taken], rest])
            chosen.append((anchor, candidates))
        anchors = torch.cat([torch.full_like(candidates, anchor) for anchor, candidates in chosen])
        return anchors, anchors + 1, torch.cat([candidates for _, candidates in chosen])


class RangeLoss(nn.Module):
    def __init__(self, largest: int, intra: float, inter: float, margin: float) -> None:
        super().__init__()
        self.largest, self.intra, self.inter, self.margin = largest, intra, inter, margin

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        flat = x.reshape(len(x), -1)
        column, has_class = class_column(label)
        column = column[has_class[:, 0], 0]
        flat = flat[has_class[:, 0]]
        within, centers = flat[:0].sum(), []
        for y in column.unique():
            samples = flat[column == y]
            centers.append(samples.mean(0))
            i, j = torch.triu_indices(len(samples), len(samples), 1, device=x.device)
            ranges = (samples[i] - samples[j]).square().sum(1)
            ranges = ranges.topk(min(self.largest, len(ranges))).values
            if len(ranges) and not (ranges == 0).any():  # the harmonic mean of a 0 is 0
                within = within + len(ranges) / (1 / ranges).sum()
        between = flat[:0].sum()
        if len(centers) > 1:
            i, j = torch.triu_indices(len(centers), len(centers), 1, device=x.device)
            stacked = torch.stack(centers)
            distances = (stacked[i] - stacked[j]).square().sum(1)
            nearest = self.margin - distances[distances.detach().argmin()]
            between = torch.where(nearest < 0, 0.0, nearest)
        broken = torch.where(flat.isnan().any(), torch.nan, 0.0)  # a batch of one sample looks at no feature
        return self.intra * within + self.inter * between + broken
