"""The choice of regions to train on (see caffeport.operators.region_choice)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .cascade import paired_overlaps
from .detection_training import drawn, hardest
from .rpn_training import box_targets

if TYPE_CHECKING:
    from ...operators.cascade import Spread


class HardMining(nn.Module):
    def __init__(self, images: int, per_image: int) -> None:
        super().__init__()
        self.images, self.per_image = images, per_image

    @torch.no_grad()
    def forward(self, scores: Tensor, *x: Tensor) -> Tensor | list[Tensor]:
        scores, image = scores.reshape(-1), x[0].reshape(len(x[0]), -1)[:, 0].long()
        order = hardest(torch.arange(len(scores), device=scores.device), scores)
        chosen = torch.zeros_like(image, dtype=torch.bool)
        for number in image.unique():
            chosen[order[image[order] == number][: self.per_image]] = True
        missing = min(self.images * self.per_image, len(scores)) - int(chosen.sum())
        chosen[order[~chosen[order]][:missing]] = True
        tops = [bottom[chosen].reshape(-1, *(*bottom.shape[1:], 1, 1, 1)[:3]) for bottom in x]
        return tops if len(tops) > 1 else tops[0]

    def extra_repr(self) -> str:
        return f"images={self.images}, per_image={self.per_image}"


class ProposalTarget(nn.Module):
    """``fill`` tells whether random boxes fill up what is missing (MS-CNN)."""

    TRIES = 10000

    def __init__(self, p: Any, spread: Spread, class_aware: bool, fill: bool, tops: int) -> None:
        super().__init__()
        self.p, self.spread, self.class_aware, self.fill, self.tops = p, spread, class_aware, fill, tops

    @torch.no_grad()
    def forward(self, regions: Tensor, truth: Tensor) -> list[Tensor]:
        p = self.p
        truth = truth.reshape(len(truth), -1)
        truth = truth[truth[:, 0] >= 0]
        rows = regions.reshape(-1, 5)
        if p.append_gtbox or self.fill:
            rows = torch.cat([rows, truth[:, :5]])
        overlap, match = self._matched(rows, truth)
        chosen, positives = self._sampled(overlap, match, truth)
        wanted = p.batch_size - len(chosen) if self.fill and p.batch_size > 0 else int(not len(chosen))
        if wanted > 0:
            extra = self._random(wanted, truth, rows)
            chosen = torch.cat([chosen, torch.arange(len(rows), len(rows) + wanted, device=rows.device)])
            rows = torch.cat([rows, extra])
            overlap = torch.cat([overlap, overlap.new_zeros(wanted)])
            match = torch.cat([match, match.new_full((wanted,), -1)])
        return self._tops(rows[chosen], overlap[chosen], match[chosen], positives, truth)

    def _matched(self, rows: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Return (overlap, index of the true box) of every region; (0, -1) in an image without one."""
        if not len(truth):
            return rows.new_zeros(len(rows)), torch.full((len(rows),), -1, device=rows.device)
        sizes = [array[:, 3:5] - array[:, 1:3] + 1 for array in (rows, truth)]
        shared = paired_overlaps(rows[:, None, 1:3], sizes[0][:, None], truth[:, 1:3], sizes[1], whole_pixels=True)
        shared = torch.where(rows[:, :1] == truth[:, 0], shared, -1.0)
        overlap, match = shared.max(1)
        return overlap.clamp_min(0), torch.where(overlap < 0, -1, match)

    def _sampled(self, overlap: Tensor, match: Tensor, truth: Tensor) -> tuple[Tensor, int]:
        """Return (regions to train on, positives first; how many positives)."""
        p = self.p
        positive = overlap >= p.fg_thr
        negative = ~positive & (overlap >= p.bg_thr_lw) & (overlap < p.bg_thr_hg)
        others = (~positive & ~negative).nonzero()[:, 0]
        if len(truth):
            positive &= truth[match, 6] == 0
        positives, negatives = positive.nonzero()[:, 0], negative.nonzero()[:, 0]
        total, most = len(positives) + len(negatives), len(positives)
        if p.batch_size > 0:
            total, most = p.batch_size, math.floor(p.fg_fraction * p.batch_size + 0.5)
        if len(positives) > most:
            positives = drawn(positives, most)
        left = total - len(positives)
        if len(negatives) > left:
            negatives = drawn(negatives, left)
        elif p.pickup_discard or self.fill:
            negatives = torch.cat([negatives, others[: left - len(negatives)]])
        return torch.cat([positives, negatives]), len(positives)

    def _random(self, wanted: int, truth: Tensor, like: Tensor) -> Tensor:
        """Return boxes at random that overlap no true box by fg_thr."""
        p, boxes = self.p, []
        width, height = p.img_width, p.img_height
        if min(width, height) <= 32:
            raise ValueError(f"img_width and img_height of {width} and {height} leave no room for a random box of 32")
        for _ in range(self.TRIES):
            image, x, y = (int(torch.randint(n, ())) for n in (p.num_img_per_batch, width - 32, height - 32))
            sides = (max(int(torch.randint(n, ())), 32) for n in (width - x, height - y))
            box = like.new_tensor(
                [[image, x, y, *(start + side - 1 for start, side in zip((x, y), sides, strict=True))]]
            )
            if float(self._matched(box, truth)[0]) < p.fg_thr:
                boxes.append(box)
            if len(boxes) == wanted:
                return torch.cat(boxes)
        raise ValueError(f"no random box that overlaps no true box by {p.fg_thr} was found in {self.TRIES} tries")

    def _tops(self, rows: Tensor, overlap: Tensor, match: Tensor, positives: int, truth: Tensor) -> list[Tensor]:
        p = self.p
        first = torch.arange(len(rows), device=rows.device) < positives
        own = truth[match.clamp_min(0)] if len(truth) else rows.new_zeros(len(rows), 7)
        label = torch.where(first, own[:, 5].trunc(), 0.0)
        columns = 4 * p.cls_num if self.class_aware else 8
        places = (label if self.class_aware else label.clamp_max(1)).long()[:, None] * 4
        places = places + torch.arange(4, device=rows.device)
        target = torch.where(first[:, None], self._targets(rows, own), 0.0)
        targets = rows.new_zeros(len(rows), columns).scatter(1, places, target)
        regressed = first & (overlap >= p.bbox_thr_lw) & (overlap <= p.bbox_thr_hg)
        weights = torch.zeros_like(targets).scatter(1, places, regressed[:, None].expand(-1, 4).to(rows.dtype))
        matched = torch.cat([label[:, None], own[:, 1:5], overlap[:, None]], 1)
        matched = torch.where(first[:, None], matched, 0.0)
        tops = [rows, label[:, None], targets, weights, weights.clone(), matched]
        if self.tops == 7:
            weight = torch.where(first, overlap, 1.0) if p.iou_weighted else torch.ones_like(overlap)
            sums = [(weight * part).sum() for part in (first, ~first)]
            shares = p.fg_fraction * len(rows) / sums[0], (1 - p.fg_fraction) * len(rows) / sums[1]
            balanced = torch.where(first, weight * shares[0], weight * shares[1])
            tops.append(torch.where(sums[0] != 0, balanced, weight)[:, None])
        return [top[:, :, None, None] for top in tops]

    def _targets(self, rows: Tensor, own: Tensor) -> Tensor:
        deltas = box_targets(rows[:, 1:5], own[:, 1:5])
        return (deltas - deltas.new_tensor(self.spread.mean)) / deltas.new_tensor(self.spread.std)


class BboxAccuracy(nn.Module):
    def __init__(self, spread: Spread, class_aware: bool, tops: int) -> None:
        super().__init__()
        self.spread, self.class_aware, self.tops = spread, class_aware, tops

    @torch.no_grad()
    def forward(self, deltas: Tensor, regions: Tensor, truth: Tensor) -> Tensor | list[Tensor]:
        rows = len(regions)
        regions, truth = regions.reshape(rows, 5), truth.reshape(rows, -1)
        label = truth[:, 0].long()
        counted = (label > 0) & (truth[:, -1] <= 0.975)
        place = (label if self.class_aware else label.clamp_max(1)).clamp_min(0)
        deltas = deltas.reshape(rows, -1, 4)[torch.arange(rows, device=deltas.device), place]
        deltas = deltas * deltas.new_tensor(self.spread.std) + deltas.new_tensor(self.spread.mean)
        low, size = regions[:, 1:3], regions[:, 3:] - regions[:, 1:3] + 1
        true_low, true_size = truth[:, 1:3], truth[:, 3:5] - truth[:, 1:3] + 1
        grown = size * deltas[:, 2:].exp()
        moved = deltas[:, :2] * size + (low + 0.5 * size) - grown / 2
        tops = []
        for start, extent in ((moved, grown), (low, size)):
            overlap = paired_overlaps(start, extent, true_low, true_size, whole_pixels=True)
            mean = torch.where(counted, overlap, 0.0).sum() / counted.sum().clamp_min(1)
            tops.append(torch.where(counted.any(), mean, -1.0).reshape(1, 1, 1, 1))
        return tops if self.tops > 1 else tops[0]
