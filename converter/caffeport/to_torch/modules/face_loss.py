"""The losses on features and on distances to class centers: caffe-face's and NormFace's.

Their forks' backward passes are not always the derivative of what forward computes. By default the loss
takes the fork's gradient by ``given_gradient``; ``exact`` leaves it to autograd.

N samples, C classes, D features; columns and masks of the label are made by ``one_per_row``, so that a
label outside [0, C) is torch's index error and never another class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .gradients import given_gradient

if TYPE_CHECKING:
    from ...operators.face_loss import GeneralContrastiveParameter, GeneralTripletParameter


def label_column(label: Tensor) -> Tensor:
    """Labels (numbers of any shape) as an index (N, 1)."""
    return label.reshape(-1, 1).long()


def one_per_row(like: Tensor, columns: Tensor) -> Tensor:
    """A mask of the shape of ``like`` (N, C), True in column ``columns`` (N, 1) of every row."""
    return torch.zeros_like(like, dtype=torch.bool).scatter(1, columns, True)


def broken(distances: Tensor) -> Tensor:
    """Return which are NaN: they have a part in the loss wherever they are, so that it is NaN and training ends there.

    The forks' comparisons (and Caffe's std::max(0, NaN), which is 0) pass over them, and the loss looks healthy.
    An infinite distance is no NaN: beyond every margin, as in the formula, it costs nothing.
    """
    return distances.isnan()


class _CenterStep(torch.autograd.Function):
    """The loss as it is; the centers' gradient is the fork's or the paper's step, whatever gradient comes in."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, centers: Tensor, pull: Tensor, labels: Tensor, once: bool) -> Tensor:
        ctx.save_for_backward(pull, labels)
        ctx.classes, ctx.once = len(centers), once
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pull, labels = ctx.saved_tensors
        n = pull.new_zeros(ctx.classes).index_add(0, labels, torch.ones_like(pull[:, 0]))
        sums = torch.zeros(ctx.classes, pull.shape[1], dtype=pull.dtype, device=pull.device)
        sums.index_add_(0, labels, pull)
        return gradient, sums * ((1 if ctx.once else n) / (1 + n))[:, None], None, None, None


def center_loss(x: Tensor, centers: Tensor, labels: Tensor, step: str, kind: str = "L2") -> Tensor:
    """sum |x_i - c_{y_i}|^2 / (2 N), or for ``kind`` "L1" sum |x_i - c_{y_i}| / N, of x (N, D) and centers (C, D).

    step: the centers' gradient, see operators.face_loss.CenterStep; labels int64 (N,).
    """
    exact = step == "DERIVATIVE"
    apart = x - (centers if exact else centers.detach()).index_select(0, labels)
    if kind == "L1":
        loss, slope = apart.abs().sum() / len(apart), apart.sign()
    else:
        loss, slope = apart.square().sum() / (2 * len(apart)), apart
    return loss if exact else _CenterStep.apply(loss, centers, -slope.detach(), labels, step == "PAPER")


class CenterLoss(nn.Module):
    """``step``: FORK, PAPER or DERIVATIVE, see operators.face_loss.CenterStep."""

    centers: Tensor  # (C, D)

    def __init__(self, kind: str, step: str) -> None:
        super().__init__()
        self.kind, self.step = kind, step

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return center_loss(x.flatten(1), self.centers, label.reshape(-1).long(), self.step, self.kind)

    def extra_repr(self) -> str:
        return f"{self.kind}, center_step={self.step}"


class GeneralContrastiveLoss(nn.Module):
    """``intra_mae`` is the running mean of the positive distances that add_intra_mae adds to the margin."""

    running_state = ("intra_mae",)

    def __init__(self, p: GeneralContrastiveParameter, tops: int, exact: bool) -> None:
        super().__init__()
        self.p, self.tops, self.exact = p, tops, exact
        self.intra_mae: Tensor | float = 0.0

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        p, d = self.p, x.flatten(1)
        rows, classes = d.shape
        labels = label_column(label)
        is_label = one_per_row(d, labels)
        margin = p.negative_margin + self.intra_mae

        same = d.gather(1, labels)
        truncated = (same - p.positive_margin).clamp(0, p.positive_outlier_thresh)
        positive = p.positive_weight * truncated
        pulled = torch.ones_like(same, dtype=torch.bool)
        if p.max_positive_only:
            # Of the smallest positive distance: the fork compares the other way round than the name says.
            pulled = one_per_row(same.t(), truncated.argmin().reshape(1, 1)).t()

        pushed = ~is_label & ~(d >= margin)  # with NaN, see broken
        short = torch.where(pushed, margin - d, 0.0)
        negative = p.negative_weight * (torch.where(pushed, torch.exp(-d), 0.0) if p.exp_negative_weight else short)
        if p.max_negative_only:
            # The fork's search starts from class 0 even where that is the label: the positive then competes.
            rivals = negative.detach().clone()
            rivals[:, 0] += torch.where(is_label, positive, 0.0)[:, 0].detach()
            pushed = pushed & one_per_row(d, rivals.argmax(1, keepdim=True))
        far = same > p.positive_upper_bound if p.positive_first else torch.zeros_like(pulled)
        pushed = (pushed & ~far) | broken(d)
        loss = (torch.where(pulled, positive, 0.0).sum() + torch.where(pushed, negative, 0.0).sum()) / rows

        if not self.exact:
            # Compared with the derivative: the outlier threshold does not count from the margin, and a positive
            # beyond positive_upper_bound is always pulled.
            inside = pulled & (same > p.positive_margin) & (same < p.positive_outlier_thresh)
            pull = p.positive_weight * (inside | far).to(d.dtype)
            push = (negative if p.exp_negative_weight else p.negative_weight) * pushed.to(d.dtype)
            if p.normalize_negative is not None:
                total = push.sum() / p.normalize_negative / rows
                push = push / torch.where(total > p.positive_weight, total, 1.0)
            loss = given_gradient(d, loss, (torch.where(is_label, pull, 0.0) - push) / rows)

        report = [truncated.detach().mean(), short.detach().sum() / rows / (classes - 1)]
        if p.add_intra_mae:
            if self.training:
                running = 0.99 * self.intra_mae + 0.01 * report[0]
                self.intra_mae = running.clamp(max=p.max_negative_margin)
            report.append(report[0].new_tensor(0.0) + self.intra_mae)
        return [loss, torch.stack(report)] if self.tops > 1 else loss


class GeneralTripletLoss(nn.Module):
    def __init__(self, p: GeneralTripletParameter, tops: int, exact: bool) -> None:
        super().__init__()
        self.p, self.tops, self.exact = p, tops, exact

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        p, d = self.p, x.flatten(1)
        rows, classes = d.shape
        labels = label_column(label)
        is_label = one_per_row(d, labels)
        same = d.gather(1, labels)
        hinge = torch.where(is_label, 0.0, (same + p.margin - d).clamp_min(0))
        pushed = ~(hinge <= 0)  # with NaN, see broken
        if p.hardest_only:
            pushed = pushed & one_per_row(d, hinge.argmax(1, keepdim=True))
        far = same > p.positive_upper_bound if p.positive_first else torch.zeros_like(pushed[:, :1])
        pushed = (pushed & ~far) | broken(d)
        loss = p.negative_weight * torch.where(pushed, hinge, 0.0).sum() / rows
        if not self.exact:
            # The derivative would pull the positive once for every negative that is pushed.
            pulled = far | pushed.any(1, keepdim=True) | p.add_center_loss
            pull = p.positive_weight * (is_label & pulled).to(d.dtype)
            push = p.negative_weight * pushed.to(d.dtype)
            loss = given_gradient(d, loss, (pull - push) / rows)
        if self.tops == 1:
            return loss
        others = torch.where(is_label, 0.0, d).sum() / rows / (classes - 1)
        return [loss, torch.stack([same.mean(), others]).detach()]
