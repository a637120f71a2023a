"""Functions whose gradient is given, not the derivative of what they compute."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _GivenGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient * ctx.saved_tensors[0], None, None


def given_gradient(x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """Return ``value``, as a function of ``x`` alone whose derivative is ``slope`` (x's shape; value's broadcasts to
    it)."""
    return _GivenGradient.apply(x, value.detach(), slope.detach())


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """Return ``value``, computed from ``x``, whose gradient goes to x as if it were x itself."""
    return x + (value - x).detach()
