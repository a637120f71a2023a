"""SSD's loss (see caffeport.operators.ssd_training)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .detection import decoded, overlaps
from .gradients import straight_through
from .loss import bounded
from .suppression import not_suppressed

if TYPE_CHECKING:
    from ...operators.ssd_training import MultiBoxLossParameter

LEAST_OVERLAP = 1e-6
"""Boxes that share less do not meet, in Caffe."""
LEAST_AREA = 1e-5
"""Boxes smaller than that are dropped before suppression."""
UNMATCHED, IGNORED = -1, -2


@dataclass
class ImageMatches:
    """The matches of the priors of one image. ``index`` (labels, P) is the box of the ground truth, or UNMATCHED or
    IGNORED; ``overlap`` (labels, P) is the largest with any box; ``labels`` has the class that each row is for, -1 for
    all."""

    labels: list[int]
    index: Tensor
    overlap: Tensor


class MultiBoxLoss(nn.Module):
    """``p`` is multibox_loss_param; ``counts`` tells whether the losses of the offsets and of the classes are in the
    sum.

    Matching and mining see numbers only; gradients reach the offsets and scores that were chosen. ``exact``: the
    true derivative where Caffe's backward pass computes another, with encode_variance_in_target.
    """

    def __init__(self, p: MultiBoxLossParameter, normalization: str, counts: tuple[bool, ...], exact: bool) -> None:
        super().__init__()
        self.exact = exact
        assert p.num_classes is not None
        self.p, self.normalization, self.counts, self.num_classes = p, normalization, counts, p.num_classes
        self.mines = p.mining_type.name != "NONE"

    def forward(self, loc: Tensor, conf: Tensor, prior: Tensor, truth: Tensor) -> Tensor:
        corners, variance = prior[0].detach().reshape(2, -1, 4)
        images, priors = len(loc), len(corners)
        loc = loc.reshape(images, priors, -1, 4).transpose(1, 2)  # (N, 1 or C, P, 4)
        conf = conf.reshape(images, priors, self.num_classes)
        rows = truth.detach().reshape(-1, 8)
        matches, negatives = [], torch.zeros(images, priors, dtype=torch.bool, device=loc.device)
        truths = [self._boxes(rows, image) for image in range(images)]
        for image, boxes in enumerate(truths):
            matches.append(self._match(loc[image].detach(), boxes, corners, variance))
            if self.mines and len(boxes):
                negatives[image] = self._mine(
                    loc[image].detach(), conf[image].detach(), boxes, corners, variance, matches[image]
                )
        matched = sum(int((match.index >= 0).sum()) for match in matches)
        total = loc[:0].sum() + conf[:0].sum()  # 0, with a gradient also where nothing is matched
        if self.counts[0]:
            errors = [self._errors(loc[i], truths[i], corners, variance, matches[i]) for i in range(images)]
            total = total + self.p.loc_weight * torch.cat(errors).sum()
        if self.counts[1]:
            total = total + self._class_loss(conf, truths, matches, negatives)
        divisors = {"VALID": matched, "FULL": images * priors, "BATCH_SIZE": images, "NONE": 1}
        return total / max(1, divisors[self.normalization])

    def _boxes(self, rows: Tensor, image: int) -> Tensor:
        """Return the rows of the ground truth that are of this image."""
        chosen = rows[:, 0].long() == image
        if not self.p.use_difficult_gt:
            chosen &= rows[:, 7] == 0
        boxes = rows[chosen]
        labels = boxes[:, 1].long()
        if bool((labels == self.p.background_label_id).any()):
            raise ValueError(f"the ground truth of image {image} has the background's label")
        if bool(((labels < 0) | (labels >= self.num_classes)).any()) and not self.p.map_object_to_agnostic:
            raise ValueError(f"the ground truth of image {image} has labels beyond {self.num_classes} classes")
        return boxes

    def _class_of(self, boxes: Tensor) -> Tensor:
        """Return the class that each box of the ground truth stands for."""
        labels = boxes[:, 1].long()
        return torch.full_like(labels, self.p.background_label_id + 1) if self.p.map_object_to_agnostic else labels

    # Matching

    def _match(self, loc: Tensor, boxes: Tensor, corners: Tensor, variance: Tensor) -> ImageMatches:
        p, priors = self.p, len(corners)
        if not len(boxes):
            empty = corners.new_zeros(0, priors)
            return ImageMatches([], empty.long(), empty)
        labels = [-1] if p.share_location else [c for c in range(self.num_classes) if c != p.background_label_id]
        if p.use_prior_for_matching:
            index, overlap = self._match_boxes(boxes, corners)
            if p.share_location:
                return ImageMatches(labels, index[None], overlap[None])
            of_class = boxes[:, 1].long()[index.clamp_min(0)]
            each = torch.tensor(labels, device=index.device)[:, None]
            index = torch.where((index >= 0) & (of_class == each), index, UNMATCHED)
            return ImageMatches(labels, index, overlap.expand(len(labels), -1))
        indices, shared = [], []
        for label in labels:
            decoded_boxes = self._decoded(loc[0 if label < 0 else label], corners, variance)
            of_label = torch.arange(len(boxes), device=boxes.device)
            of_label = of_label if label < 0 else of_label[boxes[:, 1].long() == label]
            index, overlap = self._match_boxes(boxes[of_label], decoded_boxes)
            indices.append(torch.where(index >= 0, of_label[index.clamp_min(0)], index) if len(of_label) else index)
            shared.append(overlap)
        return ImageMatches(labels, torch.stack(indices), torch.stack(shared))

    def _match_boxes(self, boxes: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Return (index, overlap) of each candidate (P, 4): its box or UNMATCHED or IGNORED, and its largest
        overlap."""
        index = torch.full((len(candidates),), UNMATCHED, device=boxes.device)
        if not len(boxes):
            return index, candidates.new_zeros(len(candidates))
        shared = overlaps(candidates, boxes[:, 3:7])
        if self.p.ignore_cross_boundary_bbox:
            outside = ((candidates < 0) | (candidates > 1)).any(1)
            index[outside] = IGNORED
            shared[outside] = 0
        shared = torch.where(shared > LEAST_OVERLAP, shared, 0)
        overlap = shared.amax(1)
        free = shared.clone()
        for _ in range(len(boxes)):
            best = int(free.argmax())  # the first of equals, in Caffe's order
            row, column = divmod(best, len(boxes))
            if free[row, column] <= 0:
                break
            index[row], overlap[row] = column, shared[row, column]
            free[row], free[:, column] = 0, 0
        if self.p.match_type.name == "PER_PREDICTION":
            most, nearest = shared.max(1)
            close = (index == UNMATCHED) & (most > 0) & (most >= self.p.overlap_threshold)
            index = torch.where(close, nearest, index)
        return index, overlap

    def _decoded(self, loc: Tensor, corners: Tensor, variance: Tensor) -> Tensor:
        return decoded(loc, corners, variance, self.p.code_type.name, self.p.encode_variance_in_target)

    # Mining

    def _mine(
        self, loc: Tensor, conf: Tensor, boxes: Tensor, corners: Tensor, variance: Tensor, matches: ImageMatches
    ) -> Tensor:
        """Return which priors (P,) are negatives; HARD_EXAMPLE also forgets matches that are not among the worst."""
        p, index = self.p, matches.index[0]
        positive = index >= 0
        labels = torch.where(positive, self._class_of(boxes)[index.clamp_min(0)], p.background_label_id)
        losses = self._mining_loss(conf, labels)
        if p.mining_type.name == "MAX_NEGATIVE":
            eligible = (index == UNMATCHED) & (matches.overlap[0] < p.neg_overlap)
            most = int((positive.sum() * torch.tensor(p.neg_pos_ratio)).item())  # a float's product, as in Caffe
        else:
            eligible = torch.ones_like(positive)
            most = p.sample_size
            errors = self._errors(loc[:1], boxes, corners, variance, matches).reshape(-1, 4).sum(1)
            losses[positive] = losses[positive] + errors
        place = eligible.nonzero()[:, 0]
        order = losses[place].sort(descending=True, stable=True).indices
        if p.nms_param is not None and p.nms_param.nms_threshold > 0:
            tried = corners if p.use_prior_for_nms else self._decoded(loc[0], corners, variance)
            order = self._suppressed(tried[place], order, p.nms_param.nms_threshold, p.nms_param.top_k)
        selected = torch.zeros_like(positive)
        selected[place[order[:most]]] = True
        if p.mining_type.name == "HARD_EXAMPLE":
            index[positive & ~selected] = UNMATCHED
            return selected & ~positive & (index == UNMATCHED)
        return selected

    def _mining_loss(self, conf: Tensor, labels: Tensor) -> Tensor:
        if self.p.conf_loss_type.name == "SOFTMAX":
            return _softmax_losses(conf, labels)
        target = (torch.arange(self.num_classes, device=conf.device) == labels[:, None]).to(conf.dtype)
        return F.binary_cross_entropy_with_logits(conf, target, reduction="none").sum(1)

    @staticmethod
    def _suppressed(boxes: Tensor, order: Tensor, threshold: float, top_k: int) -> Tensor:
        """Return, of the boxes in this order, at most top_k, those that overlap none before by more than the
        threshold."""
        order = order[: top_k if top_k >= 0 else None]
        sides = boxes[order, 2:] - boxes[order, :2]
        order = order[(sides >= 0).all(1) & (sides.prod(1) >= LEAST_AREA)]
        return order[not_suppressed(boxes[order], threshold, overlaps)]

    # Losses

    def _errors(self, loc: Tensor, boxes: Tensor, corners: Tensor, variance: Tensor, matches: ImageMatches) -> Tensor:
        """Return the loss of every offset (labels, P, 4) that is matched, flat, label by label."""
        p, picked = self.p, []
        for row, label in enumerate(matches.labels):
            place = (matches.index[row] >= 0).nonzero()[:, 0]
            guess = loc[max(label, 0), place]
            goal = encoded(boxes[matches.index[row, place], 3:7], corners[place], p.code_type.name)
            if not p.encode_variance_in_target:
                goal = goal / variance[place]
            if p.bp_inside:
                inside = corners if p.use_prior_for_matching else self._decoded(loc[max(label, 0)], corners, variance)
                inside = inside[place].detach()
                guess = torch.where((inside < 0) | (inside > 1), goal, guess)
            if p.encode_variance_in_target:
                goal, scaled = goal / variance[place], guess / variance[place]
                # Caffe's backward pass takes the gradient of the scaled offsets for that of the offsets.
                guess = scaled if self.exact else straight_through(guess, scaled)
            if p.loc_loss_type.name == "L2":
                picked.append((guess - goal).square().flatten() / 2)
            else:
                picked.append(F.smooth_l1_loss(guess, goal, reduction="none").flatten())
        return torch.cat(picked) if picked else loc.new_zeros(0)

    def _class_loss(self, conf: Tensor, truths: list[Tensor], matches: list[ImageMatches], negatives: Tensor) -> Tensor:
        background, logistic = self.p.background_label_id, self.p.conf_loss_type.name == "LOGISTIC"
        images, priors, classes = conf.shape
        chosen = negatives.clone() if self.mines else torch.ones_like(negatives)
        labels = torch.full((images, priors), background, device=conf.device)
        target = torch.full_like(conf, background) if logistic else None
        if target is not None and self.mines and 0 <= background < classes:
            target[..., background] = torch.where(negatives, 1.0, target[..., background])
        for image, match in enumerate(matches):
            for row in range(len(match.labels)):
                place = (match.index[row] >= 0).nonzero()[:, 0]
                goal = self._class_of(truths[image])[match.index[row, place]]
                chosen[image, place] = True
                labels[image, place] = goal
                if target is not None and self.mines:
                    target[image, place, goal] = 1.0
                elif target is not None:
                    # Caffe goes on by P, not by P x C, from one image's targets to the next one's.
                    target.view(-1)[image * priors + place * classes + goal] = 1.0
        if target is not None:
            return F.binary_cross_entropy_with_logits(conf[chosen], target[chosen], reduction="sum")
        return _softmax_losses(conf[chosen], labels[chosen]).sum()

    def extra_repr(self) -> str:
        p = self.p
        return f"{p.num_classes} classes, {p.match_type.name}, {p.mining_type.name}, normalization={self.normalization}"


def _softmax_losses(scores: Tensor, labels: Tensor) -> Tensor:
    """Return -log of the label's probability, of FLT_MIN at least, for rows of scores (A, C)."""
    return bounded(-F.log_softmax(scores, 1).gather(1, labels[:, None])[:, 0])


def encoded(boxes: Tensor, corners: Tensor, code_type: str) -> Tensor:
    """Return the offsets that make ``boxes`` (A, 4) of the priors ``corners`` (A, 4), before their variance."""
    if code_type == "CORNER":
        return boxes - corners
    low, high = corners.chunk(2, -1)
    size = high - low
    if code_type == "CORNER_SIZE":
        return (boxes - corners) / size.repeat(1, 2)
    first, last = boxes.chunk(2, -1)
    move = ((first + last) / 2 - (low + high) / 2) / size
    return torch.cat([move, ((last - first) / size).log()], -1)
