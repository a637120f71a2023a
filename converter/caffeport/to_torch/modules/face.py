"""NormFace's layers, with the gradients its fork has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .face_loss import class_column
from .inner_product import store_unit_rows, unit_rows
from .lengths import lengths
from .margins import risen


class _ScaleGradient(torch.autograd.Function):
    """Identity forward; the gradient is multiplied by ``factor``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.saved_tensors[0], None


class Normalize(nn.Module):
    """Over axis 1; the result has four axes, as in the fork."""

    def __init__(self, kind: str, eps: float, fix_gradient: bool, bp_norm: bool, with_norm: bool) -> None:
        super().__init__()
        self.kind, self.eps = kind, eps
        self.fix_gradient, self.bp_norm, self.with_norm = fix_gradient, bp_norm, with_norm

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        x = x.reshape(*x.shape, *[1] * (4 - x.dim()))
        norm = lengths(x, self.eps) if self.kind == "L2" else x.abs().sum(1, keepdim=True) + self.eps
        y = x / norm
        if self.fix_gradient:
            y = _ScaleGradient.apply(y, norm.detach())
        if not self.with_norm:
            return y
        return [y, norm if self.bp_norm else norm.detach()]

    def extra_repr(self) -> str:
        return f"{self.kind}, eps={self.eps}"


class SSDNormalize(nn.Module):
    weight: Tensor

    def __init__(self, across_spatial: bool, eps: float) -> None:
        super().__init__()
        self.across_spatial, self.eps = across_spatial, eps

    def forward(self, x: Tensor) -> Tensor:
        axes = tuple(range(1, x.dim())) if self.across_spatial else (1,)
        return x / lengths(x, self.eps, axes) * self.weight.reshape(-1, *[1] * (x.dim() - 2))


class ForkL1Distance(torch.autograd.Function):
    """sum_k |x_k - w_k| with the gradient the NormFace fork computes.

    Its ``sign(x)`` is a macro without outer brackets, so g * sign(d) became g * [d > 0] - [d < 0].
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return torch.cdist(x, w, p=1.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        dx, dw = torch.zeros_like(x), torch.zeros_like(w)
        for i, row in enumerate(x):  # one sample at a time: (C, K) at once, not (N, C, K)
            above, below = (row > w).to(x.dtype), (row < w).to(x.dtype)
            weights = gradient[i][:, None]
            dx[i] = (weights * above - below).sum(0)
            dw += weights * below - above
        return dx, dw


class _ForkAbsolute(torch.autograd.Function):
    """|x - w| with the gradients of ForkL1Distance."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return (x - w).abs()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        above, below = (x > w).to(x.dtype), (x < w).to(x.dtype)
        return gradient * above - below, gradient * below - above


class InnerDistance(nn.Module):
    """Squared L2, or L1, distances to the rows of the weight (learned, or the second bottom).

    own_rows_only: a sample's part of the weight's gradient goes to the row of its label only; the labels are the last
    bottom.
    """

    weight: Tensor
    stored = False  # as InnerProduct's

    def __init__(self, kind: str, axis: int, eps: float | None, own_rows_only: bool, exact_gradients: bool) -> None:
        super().__init__()
        self.kind, self.axis, self.eps = kind, axis, eps
        self.own_rows_only, self.exact_gradients = own_rows_only, exact_gradients

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        weights, label = (others[:-1], others[-1]) if self.own_rows_only else (others, None)
        w = weights[0].reshape(weights[0].shape[0], -1) if weights else self.weight
        if self.eps is not None and not self.stored:
            w = unit_rows(w, self.eps)
        self.stored = False
        x = x.flatten(self.axis)
        flat = x.reshape(-1, x.shape[-1])
        if label is None:
            distances = self._distances(flat, w)
        else:
            labels, has_class = class_column(label)
            distances = self._distances(flat, w.detach())
            own = self._paired(flat.detach(), w.index_select(0, labels[:, 0]))[:, None]
            distances = distances.scatter_add(1, labels, torch.where(has_class, own - own.detach(), 0.0))
        return distances.reshape(*x.shape[:-1], w.shape[0])

    def _distances(self, x: Tensor, w: Tensor) -> Tensor:
        """Return the score of every row of x (M, K) and every one of w (C, K)."""
        if self.kind == "L1":
            return torch.cdist(x, w, p=1.0) if self.exact_gradients else ForkL1Distance.apply(x, w)
        squares = (x * x).sum(-1, keepdim=True) + (w * w).sum(1)
        # Rounding may take a distance of 0 below it.
        return (squares - 2 * (x @ w.t())).clamp_min(0)

    def _paired(self, x: Tensor, w: Tensor) -> Tensor:
        """Return the score of every row of x (M, K) and the same one of w (M, K)."""
        if self.kind == "L2":
            return (x - w).square().sum(1)
        return ((x - w).abs() if self.exact_gradients else _ForkAbsolute.apply(x, w)).sum(1)

    def overwrite_blobs(self) -> None:
        """Do as InnerProduct does; a weight from the second bottom is no blob of this layer."""
        if self.eps is not None and "weight" in self._parameters:
            store_unit_rows(self.weight, self.eps)
            self.stored = True

    def extra_repr(self) -> str:
        return self.kind


class Flip(nn.Module):
    def __init__(self, axes: list[int]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(self.axes)


class LabelSpecificAdd(nn.Module):
    """``anneal``: (base, gamma, power, least, most) of a bias that in training changes with ``iteration``, or None."""

    running_state = ("iteration",)

    def __init__(
        self, bias: float, anneal: tuple[float, float, float, float, float] | None, iteration: int, with_bias: bool,
        in_test: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.bias, self.anneal, self.iteration = bias, anneal, iteration
        self.with_bias, self.in_test = with_bias, in_test

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        bias = self._next_bias()
        y = self._shifted(x, label, bias) if self.training or self.in_test else x
        return [y, x.new_full((1,), bias)] if self.with_bias else y

    def _next_bias(self) -> float:
        if self.anneal is None or not self.training:
            return self.bias
        base, gamma, power, least, most = self.anneal
        bias = min(max(risen(base, gamma, power, self.iteration), least), most)
        self.iteration += 1
        return bias

    def _shifted(self, x: Tensor, label: Tensor, bias: float) -> Tensor:
        column, has_class = class_column(label)
        index, has_class = (t.reshape(-1, 1, *[1] * (x.dim() - 2)) for t in (column, has_class))
        target = x.gather(1, index.expand(-1, 1, *x.shape[2:]))
        shift = (has_class & (target > -bias)).to(x.dtype) * bias
        return x.scatter_add(1, index.expand_as(shift), shift)
