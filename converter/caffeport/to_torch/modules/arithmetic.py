"""Sums, products and maxima."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Eltwise(nn.Module):
    def __init__(self, operation: str, coeff: list[float]) -> None:
        super().__init__()
        self.operation, self.coeff = operation, coeff

    def forward(self, *x: Tensor) -> Tensor:
        result = x[0] * self.coeff[0] if self.coeff and self.coeff[0] != 1 else x[0]
        for index, other in enumerate(x[1:], 1):
            if self.operation == "PROD":
                result = result * other
            elif self.operation == "MAX":
                # Between equal numbers Caffe's gradient goes to the second of the first two bottoms,
                # then to the one found earlier.
                result = (
                    torch.where(result > other, result, other)
                    if index == 1
                    else torch.where(other > result, other, result)
                )
            elif self.coeff:
                result = torch.add(result, other, alpha=self.coeff[index])
            else:
                result = result + other
        return result

    def extra_repr(self) -> str:
        return f"{self.operation}, coeff={self.coeff}" if self.coeff else self.operation


class Reduction(nn.Module):
    def __init__(self, operation: str, axis: int, coeff: float) -> None:
        super().__init__()
        self.operation, self.axis, self.coeff = operation, axis, coeff

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(self.axis)
        if self.operation == "ASUM":
            x = x.abs()
        elif self.operation == "SUMSQ":
            x = x * x
        return (x.mean(self.axis) if self.operation == "MEAN" else x.sum(self.axis)) * self.coeff


class Axpy(nn.Module):
    def forward(self, scale: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return scale.reshape(*x.shape[:2], *[1] * (x.dim() - 2)) * x + y


class ChannelScale(nn.Module):
    """Multiply x by a number for every image and position. As in the fork each switch acts on its own part alone.

    Off, do_forward leaves y = x but not the gradients; do_backward_feature gives x the gradient of y as it is;
    do_backward_scale gives the numbers none.
    """

    def __init__(self, do_forward: bool, do_backward_feature: bool, do_backward_scale: bool) -> None:
        super().__init__()
        self.do_forward = do_forward
        self.do_backward_feature, self.do_backward_scale = do_backward_feature, do_backward_scale

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        scale = scale.reshape(x.shape[0], 1, *x.shape[2:])
        feature = x if self.do_backward_feature else x.detach()
        product = feature * (scale if self.do_backward_scale else scale.detach())
        if not self.do_backward_feature:
            product = product + (x - x.detach())  # a gradient of its own, and nothing else
        return product if self.do_forward else x.detach() + (product - product.detach())
