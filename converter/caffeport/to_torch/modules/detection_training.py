"""The losses that Cascade R-CNN and MS-CNN train with (see caffeport.operators.detection_training)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .box_loss import smooth_l1
from .cascade import paired_overlaps
from .gradients import straight_through

if TYPE_CHECKING:
    from ...operators.cascade import Spread
    from ...operators.map_boxes import Fields

LEAST = 1.17549435e-38
"""Caffe takes the logarithm of FLT_MIN at least."""


class _MapLoss(nn.Module):
    """``p`` holds the layer's parameters. A subclass says which places count."""

    def __init__(self, p: Any, fields: Fields, spread: Spread, ignore_label: int | None) -> None:
        super().__init__()
        self.p, self.fields, self.spread, self.ignore_label = p, fields, spread, ignore_label
        self.bounds: tuple[tuple[float, float], tuple[float, float]] | None = None
        if p.field_xyr is not None and p.field_whr is not None:
            mean, std = spread.mean, spread.std
            self.bounds = tuple(  # type: ignore[assignment]
                tuple((sign * reach - (mean[i] + mean[i + 1]) / 2) / math.sqrt(std[i] * std[i + 1]) for sign in (-1, 1))
                for i, reach in ((0, 1 / p.field_xyr), (2, math.log(p.field_whr)))
            )

    def loss(self, scores: Tensor, deltas: Tensor, truth: Tensor, mask: Tensor, weight: Tensor, smooth: bool) -> Tensor:
        """Return (1, 1, 1, 2), from the places (M, H, W) that are kept, and their weights."""
        label = self.label(truth)
        counted = mask if self.ignore_label is None else mask & (label != self.ignore_label)
        log = F.log_softmax(scores, 1).gather(1, torch.where(counted, label, 0)[:, None])[:, 0]
        log = log + (math.log(LEAST) - log.detach()).clamp_min(0)
        class_loss = -(torch.where(counted, log, 0.0) * weight).sum() / counted.sum().clamp_min(1)
        positive = mask & (truth[:, 0].long() != 0)
        if self.ignore_label is not None:
            positive &= truth[:, 0].long() != self.ignore_label
        if self.bounds is not None:
            parts = zip(deltas.split(2, 1), self.bounds, strict=True)
            deltas = straight_through(deltas, torch.cat([part.clamp(*bound) for part, bound in parts], 1))
        difference = torch.where(positive[:, None], deltas - self.encoded(truth), 0.0)
        values = smooth_l1(difference, 1.0) if smooth else 0.5 * difference.square()
        box_loss = self.p.lambda_ * values.sum() / (4 * positive.sum()).clamp_min(1)
        return torch.stack([class_loss + box_loss, box_loss.detach()]).reshape(1, 1, 1, 2)

    def label(self, truth: Tensor) -> Tensor:
        label = truth[:, 0].long()
        return label.clamp_max(1) if self.p.objectness else label

    def encoded(self, truth: Tensor) -> Tensor:
        """Return the deltas (M, 4, H, W) that would make the true boxes."""
        size, middle = _grid(self.fields, truth)
        move = (truth[:, 1:3] - middle) / size
        grow = (truth[:, 3:5].clamp_min(2) / size).log()
        deltas = torch.cat([move, grow], 1)
        mean, std = (deltas.new_tensor(values)[:, None, None] for values in (self.spread.mean, self.spread.std))
        return (deltas - mean) / std

    def weights(self, truth: Tensor, mask: Tensor, weight: Tensor, either: bool) -> Tensor:
        """Return weights under which positives count 1 / (1 + bg_multiple) of what is kept. With ``either`` the sum
        that has to be there for negatives to be weighted is theirs, else that of the positives."""
        positive = truth[:, 0].long() > 0 if either else truth[:, 0].long() != 0
        total, share = mask.sum(), 1 / (1 + self.p.bg_multiple)
        sums = [(weight * (mask & chosen)).sum() for chosen in (positive, ~positive)]
        of_positives = torch.where(sums[0] != 0, share * total / sums[0], 1.0)
        of_negatives = torch.where((sums[1] if either else sums[0]) != 0, (1 - share) * total / sums[1], 1.0)
        return torch.where(mask, weight * torch.where(positive, of_positives, of_negatives), 0.0)

    def extra_repr(self) -> str:
        return f"{self.fields}, {self.spread}"


def _grid(fields: Fields, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return (sizes (M, 2, 1, 1) of the fields, middles (1, 2, H, W) of the places)."""
    height, width = like.shape[2:]
    size = like.new_tensor(fields.sizes).repeat(len(like) // len(fields.sizes), 1)[:, :, None, None]
    rows, columns = ((torch.arange(n, device=like.device, dtype=like.dtype) + 0.5) * fields.stride
                     for n in (height, width))  # fmt: skip
    return size, torch.stack(torch.meshgrid(columns, rows, indexing="xy"))[None]


class DetectionGroupLoss(_MapLoss):
    def forward(self, scores: Tensor, deltas: Tensor, truth: Tensor) -> Tensor:
        mask = self.sample(scores.detach(), truth)
        weight = torch.ones_like(truth[:, 0])
        if self.p.pos_neg_weighted:
            weight = self.weights(truth, mask, weight, either=True)
        return self.loss(scores, deltas, truth, mask, weight, self.p.bbox_loss_type == "Smooth_L1")

    def sample(self, scores: Tensor, truth: Tensor) -> Tensor:
        """Return which places (M, H, W) are trained on."""
        p, group = self.p, len(self.fields.sizes)
        label, overlap = truth[:, 0].long(), truth[:, 5]
        hardness = -F.log_softmax(scores, 1)[:, 0]  # in the order of 1 - softmax too
        mask = torch.zeros(label.shape, dtype=torch.bool, device=label.device)
        for start in range(0, len(label), group):
            own = slice(start, start + group)
            positives = (label[own] > 0).reshape(-1).nonzero()[:, 0]
            negatives = ((label[own] == 0) & (overlap[own] < p.bg_threshold)).reshape(-1).nonzero()[:, 0]
            if p.batch_size == -1:
                most = len(positives), max(len(positives) * p.bg_multiple, p.min_num_neg)
            else:
                share = min(math.floor(p.batch_size / (1 + p.bg_multiple) + 0.5), len(positives))
                most = share, p.batch_size - share
            if len(positives) > most[0]:
                positives = drawn(positives, most[0])
            if len(negatives) > most[1]:
                negatives = self._mined(negatives, hardness[own].reshape(-1), most[1])
            chosen = torch.zeros(label[own].numel(), dtype=torch.bool, device=label.device)
            chosen[torch.cat([positives, negatives])] = True
            mask[own] = chosen.reshape(label[own].shape)
        return mask

    def _mined(self, negatives: Tensor, hardness: Tensor, most: int) -> Tensor:
        mode = self.p.neg_mining_type
        hard = {"random": 0, "bootstrap": most, "mixture": math.floor(most * 0.5 + 0.5)}[mode]
        order = hardest(negatives, hardness)
        return torch.cat([order[:hard], drawn(order[hard:], most - hard)])


class DetectionLoss(_MapLoss):
    def forward(self, maps: Tensor, truth: Tensor) -> Tensor:
        scores, deltas = maps[:, :-4], maps[:, -4:]
        positive = truth[:, 0].long() != 0
        mask = self.sample(scores.detach(), truth) | positive
        weight = torch.ones_like(truth[:, 0])
        if self.p.iou_weighted:
            weight = torch.where(positive, truth[:, 5], weight)
        if self.p.pos_neg_weighted:
            weight = self.weights(truth, mask, weight, either=False)
        return self.loss(scores, deltas, truth, mask, weight, self.p.bb_smooth)

    def sample(self, scores: Tensor, truth: Tensor) -> Tensor:
        """Return which negatives (N, H, W) are trained on."""
        p = self.p
        label = self.label(truth)
        candidates = (truth[:, 0].long() == 0) & (truth[:, 5] < p.bg_threshold)
        if p.sample_mode not in ("random", "bootstrap", "mixture"):
            return candidates
        ratio = 0.5 if p.sample_mode == "mixture" else 1.0
        mask = torch.zeros(candidates.shape, dtype=torch.bool, device=candidates.device).flatten(1)
        for image, possible in enumerate(candidates.flatten(1)):
            if p.sample_mode != "bootstrap":
                positives = int((label[image] != 0).sum())
                draws = max(int(positives * p.bg_multiple * ratio), 4 * (p.cls_num - 1))
                draws = min(draws, 100 * possible.numel())  # as good as all; more would fill the memory
                mask[image, torch.randint(possible.numel(), (draws,), device=mask.device)] = True
                mask[image] &= possible
            if p.sample_mode != "random":
                places = possible.nonzero()[:, 0]
                for k in range(1, p.cls_num):
                    most = max(4, int(int((label[image] == k).sum()) * p.bg_multiple * ratio))
                    mask[image, hardest(places, scores[image, k].reshape(-1))[:most]] = True
        return mask.reshape(candidates.shape)


def drawn(places: Tensor, most: int) -> Tensor:
    """Draw so many of the places at random."""
    return places[torch.randperm(len(places), device=places.device)[:most]]


def hardest(places: Tensor, hardness: Tensor) -> Tensor:
    """Order the places by falling hardness; of equal ones the last comes first."""
    places = places.flip(0)
    return places[hardness[places].sort(descending=True, stable=True).indices]


class DetectionAccuracy(nn.Module):
    """With ``whole_pixels`` overlaps are measured as in Cascade R-CNN, and deltas have a bottom of their own."""

    def __init__(
        self, p: Any, fields: Fields, spread: Spread, ignore: int | None, tops: int, top_k: int, whole_pixels: bool
    ) -> None:
        super().__init__()
        self.p, self.fields, self.spread, self.ignore, self.tops = p, fields, spread, ignore, tops
        self.top_k, self.whole_pixels = top_k, whole_pixels

    @torch.no_grad()
    def forward(self, *x: Tensor) -> Tensor | list[Tensor]:
        p, truth = self.p, x[-1]
        scores, deltas = (x[0], x[1]) if len(x) == 3 else (x[0][:, :-4], x[0][:, -4:])
        label = truth[:, 0].long()
        own = label.clamp_max(1) if p.objectness else label
        counted = (own != 0) | (truth[:, 5] < p.bg_threshold)
        if self.ignore is not None:
            counted &= own != self.ignore
        # Of equal scores Cascade R-CNN takes the first class, MS-CNN the last.
        ranked = scores if self.whole_pixels else scores.flip([1])
        best = ranked.sort(dim=1, descending=True, stable=True).indices[:, : self.top_k]
        best = best if self.whole_pixels else scores.shape[1] - 1 - best
        right = (best == own[:, None]).any(1) & counted
        positive = counted & (own != 0)
        shares = [_share(right & chosen, chosen) for chosen in (counted, positive)]
        accuracy = torch.stack(shares).to(scores.dtype).reshape(1, 1, 1, 2)
        if self.tops == 1:
            return accuracy
        boxed = label != 0 if self.ignore is None else (label != 0) & (label != self.ignore)
        overlap = torch.where(boxed, self._overlaps(deltas, truth), 0.0)
        mean = overlap.sum() / boxed.sum().clamp_min(1)
        return [accuracy, torch.where(boxed.any(), mean, -1.0).reshape(1, 1, 1, 1)]

    def _overlaps(self, deltas: Tensor, truth: Tensor) -> Tensor:
        mean, std = (deltas.new_tensor(values)[:, None, None] for values in (self.spread.mean, self.spread.std))
        move, grow = (deltas * std + mean).split(2, 1)
        size, middle = _grid(self.fields, truth)
        reach = math.log(self.p.field_whr)
        center = move.clamp(-1 / self.p.field_xyr, 1 / self.p.field_xyr) * size + middle
        box_size = size * grow.clamp(-reach, reach).exp()
        true_size = truth[:, 3:5]
        low, true_low = center - box_size / 2, truth[:, 1:3] - true_size / 2
        low, box_size, true_low, true_size = (part.movedim(1, -1) for part in (low, box_size, true_low, true_size))
        return paired_overlaps(low, box_size, true_low, true_size, self.whole_pixels)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole.any(), part.sum() / whole.sum().clamp_min(1), -1.0)
