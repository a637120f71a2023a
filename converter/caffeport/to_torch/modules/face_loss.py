"""The losses on features and on distances to class centers: caffe-face's and NormFace's.

Their forks' backward passes are not always the derivative of what forward computes. By default the loss
takes the fork's gradient by ``given_gradient``; ``exact`` leaves it to autograd.

N samples, C classes, D features; columns and masks of the label are made by ``one_per_row``, so that a
label of C or more is torch's index error and never another class. A sample with a label below 0 has no class: a margin
leaves its scores alone, and a loss is what it would be without the sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .gradients import given_gradient

if TYPE_CHECKING:
    from ...operators.face_loss import GeneralContrastiveParameter, GeneralTripletParameter


NO_CLASS = float(1 << 31)
"""What a label that is NaN is taken for, so that it is an index error too."""


def class_column(label: Tensor) -> tuple[Tensor, Tensor]:
    """Return labels (numbers of any shape) as an index (N, 1), 0 in the place of those below 0, and which are not."""
    column = label.reshape(-1, 1).nan_to_num(nan=NO_CLASS)
    return column.clamp_min(0).long(), column >= 0


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
    """The losses as they are; the centers' gradient is the fork's or the paper's step, whatever gradient comes in."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        losses: Tensor, centers: Tensor, pull: Tensor, labels: Tensor, shares: Tensor, once: bool
    ) -> Tensor:  # fmt: skip
        return losses.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, centers, pull, labels, shares, ctx.once = inputs
        ctx.save_for_backward(centers, pull, labels, shares)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        raise NotImplementedError(
            "the centers' step is no derivative, so that there is no forward mode (jvp, jacfwd, hessian); "
            "center_step derivative has one"
        )

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        centers, pull, labels, shares = ctx.saved_tensors
        n = torch.zeros_like(centers[:, 0]).index_add(0, labels, shares)
        sums = torch.zeros_like(centers).index_add(0, labels, pull * shares[:, None])
        return gradient, sums * ((1 if ctx.once else n) / (1 + n))[:, None], None, None, None, None


def center_losses(
    x: Tensor, centers: Tensor, labels: Tensor, step: str, kind: str = "L2", shares: Tensor | None = None
) -> Tensor:  # fmt: skip
    """|x_i - c_{y_i}|^2 / 2, or for ``kind`` "L1" |x_i - c_{y_i}|, (N,), of x (N, D) and centers (C, D).

    step: the centers' gradient, see operators.face_loss.CenterStep; labels (N,), 0 for those below 0. shares: what
    each sample counts in the step, (N,); None: 1.
    """
    exact = step == "DERIVATIVE"
    column, has_class = class_column(labels)
    column = column[:, 0]
    apart = x - (centers if exact else centers.detach()).index_select(0, column)
    apart = torch.where(has_class, apart, 0.0)
    if kind == "L1":
        losses, slope = apart.abs().sum(1), apart.sign()
    else:
        losses, slope = apart.square().sum(1) / 2, apart
    if exact:
        return losses
    counts = has_class[:, 0].to(x.dtype)
    counts = counts if shares is None else counts * shares.detach()
    return _CenterStep.apply(losses, centers, -slope.detach(), column, counts, step == "PAPER")


def center_loss(x: Tensor, centers: Tensor, labels: Tensor, step: str, kind: str = "L2") -> Tensor:
    """Return the mean of center_losses over the samples whose label is 0 or more."""
    return center_losses(x, centers, labels, step, kind).sum() / (labels >= 0).sum().clamp_min(1)


class CenterLoss(nn.Module):
    """``step``: FORK, PAPER or DERIVATIVE, see operators.face_loss.CenterStep."""

    centers: Tensor  # (C, D)

    def __init__(self, kind: str, step: str) -> None:
        super().__init__()
        self.kind, self.step = kind, step

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return center_loss(x.flatten(1), self.centers, label, self.step, self.kind)

    def extra_repr(self) -> str:
        return f"{self.kind}, center_step={self.step}"


class GeneralContrastiveLoss(nn.Module):
    """``intra_mae`` is the running mean of the positive distances that add_intra_mae adds to the margin."""

    running_state = ("intra_mae",)

    def __init__(self, p: GeneralContrastiveParameter, tops: int, exact: bool) -> None:
        super().__init__()
        self.p, self.tops, self.exact = p, tops, exact
        self.intra_mae: Tensor | float = 0.0

    def forward(self, x: Tensor, label: Tensor, basis: Tensor | None = None) -> Tensor | list[Tensor]:
        """``basis``: the third bottom, (N, C), from which the gradient of x is made."""
        p = self.p
        each, truncated, short, rows = self._parts(x.flatten(1), label, basis)
        loss = each.sum() / rows
        report = [truncated.detach().sum() / rows, short.detach().sum() / rows / max(short.shape[1] - 1, 1)]
        if p.add_intra_mae:
            if self.training:
                running = 0.99 * self.intra_mae + 0.01 * report[0]
                self.intra_mae = running.clamp(max=p.max_negative_margin)
            report.append(report[0].new_tensor(0.0) + self.intra_mae)
        return [loss, torch.stack(report)] if self.tops > 1 else loss

    def of_each(self, distances: Tensor, labels: Tensor) -> Tensor:
        """Return the losses of the samples, (N,), of distances (N, C), without moving anything."""
        return self._parts(distances, labels)[0][:, 0]

    def _parts(
        self, d: Tensor, label: Tensor, basis: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Return the losses of the samples (N, 1), what they have of the label's distances (N, 1), how far the
        others fall short of the margin (N, C), and how many samples have a class."""
        p = self.p
        labels, has_class = class_column(label)
        rows = has_class.sum().clamp_min(1)
        is_label = one_per_row(d, labels)
        margin = p.negative_margin + self.intra_mae

        same = d.gather(1, labels)
        truncated = torch.where(has_class, (same - p.positive_margin).clamp(0, p.positive_outlier_thresh), 0.0)
        positive = p.positive_weight * truncated
        pulled = has_class
        if p.max_positive_only:
            # Of the smallest positive distance: the fork compares the other way round than the name says.
            smallest = truncated.masked_fill(~has_class, torch.inf).argmin()
            pulled = one_per_row(same.t(), smallest.reshape(1, 1)).t() & has_class

        pushed = ~is_label & ~(d >= margin) & has_class  # with NaN, see broken
        short = torch.where(pushed, margin - d, 0.0)
        negative = p.negative_weight * (torch.where(pushed, torch.exp(-d), 0.0) if p.exp_negative_weight else short)
        if p.max_negative_only:
            # The fork's search starts from class 0 even where that is the label: the positive then competes.
            rivals = negative.detach().clone()
            rivals[:, 0] += torch.where(is_label, positive, 0.0)[:, 0].detach()
            pushed = pushed & one_per_row(d, rivals.argmax(1, keepdim=True))
        far = self._beyond_bound(same)
        chosen, pushed = pushed, (pushed & ~far) | (broken(d) & has_class)
        each = torch.where(pulled, positive, 0.0) + torch.where(pushed, negative, 0.0).sum(1, keepdim=True)

        if not self.exact:
            # Compared with the derivative: the outlier threshold does not count from the margin, and a positive
            # beyond positive_upper_bound is always pulled.
            if basis is not None:
                b = basis.flatten(1).detach()
                same, far = b.gather(1, labels), self._beyond_bound(b.gather(1, labels))
                candidates = chosen if p.max_negative_only else ~is_label & has_class
                pushed = candidates & (b < margin) & ~far
                negative = p.negative_weight * torch.exp(-b)
            inside = pulled & (same > p.positive_margin) & (same < p.positive_outlier_thresh)
            pull = p.positive_weight * ((inside | far) & has_class).to(d.dtype)
            push = torch.where(pushed, negative if p.exp_negative_weight else p.negative_weight, 0.0).to(d.dtype)
            if p.normalize_negative is not None:
                total = push.sum() / p.normalize_negative / rows
                push = push / torch.where(total > p.positive_weight, total, 1.0)
            each = given_gradient(d, each, torch.where(is_label, pull, 0.0) - push)
        return each, truncated, short, rows

    def _beyond_bound(self, same: Tensor) -> Tensor:
        """Which samples' negatives positive_first leaves out, (N, 1), of their distances to the label's class."""
        if self.p.positive_first:
            return same > self.p.positive_upper_bound
        return torch.zeros_like(same, dtype=torch.bool)


class GeneralTripletLoss(nn.Module):
    def __init__(self, p: GeneralTripletParameter, tops: int, exact: bool) -> None:
        super().__init__()
        self.p, self.tops, self.exact = p, tops, exact

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        d = x.flatten(1)
        labels, has_class = class_column(label)
        rows = has_class.sum().clamp_min(1)
        loss = self.of_each(d, label).sum() / rows
        if self.tops == 1:
            return loss
        own = torch.where(has_class, d.gather(1, labels), 0.0).sum() / rows
        others = torch.where(one_per_row(d, labels) | ~has_class, 0.0, d).sum() / rows / max(1, d.shape[1] - 1)
        return [loss, torch.stack([own, others]).detach()]

    def of_each(self, d: Tensor, label: Tensor, margin: float | Tensor | None = None) -> Tensor:
        """Return the losses of the samples, (N,), of distances (N, C); margin: another than the layer's."""
        p = self.p
        labels, has_class = class_column(label)
        is_label = one_per_row(d, labels)
        same = d.gather(1, labels)
        margin = p.margin if margin is None else margin
        hinge = torch.where(is_label | ~has_class, 0.0, (same + margin - d).clamp_min(0))
        pushed = ~(hinge <= 0)  # with NaN, see broken
        if p.hardest_only:
            pushed = pushed & one_per_row(d, hinge.argmax(1, keepdim=True))
        far = same > p.positive_upper_bound if p.positive_first else torch.zeros_like(pushed[:, :1])
        pushed = (pushed & ~far) | (broken(d) & has_class)
        each = p.negative_weight * torch.where(pushed, hinge, 0.0).sum(1)
        if not self.exact:
            # The derivative would pull the positive once for every negative that is pushed.
            pulled = far | pushed.any(1, keepdim=True) | p.add_center_loss
            pull = p.positive_weight * (is_label & pulled & has_class).to(d.dtype)
            push = p.negative_weight * pushed.to(d.dtype)
            each = given_gradient(d, each[:, None], pull - push)[:, 0]
        return each
