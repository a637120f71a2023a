"""Two tensors that broadcast, and sums over axes (see caffeport.operators.broadcasting)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

_PAIRWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
    "Max": torch.maximum,
    "Min": torch.minimum,
}


class Pairwise(nn.Module):
    """Combine two tensors, or one and the learned ``weight``."""

    weight: Tensor

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return _PAIRWISE[self.kind](x, self.weight if y is None else y)

    def extra_repr(self) -> str:
        return self.kind


class Reduce(nn.Module):
    def __init__(self, kind: str, axes: list[int], keepdims: bool) -> None:
        super().__init__()
        self.kind, self.axes, self.keepdims = kind, axes, keepdims

    def forward(self, x: Tensor) -> Tensor:
        if not self.axes:
            return x
        axes, keepdims = self.axes, self.keepdims
        if self.kind == "ReduceProd":
            for axis in reversed(axes):
                x = x.prod(axis, keepdims)
            return x
        if self.kind in ("ReduceMax", "ReduceMin"):
            return (x.amax if self.kind == "ReduceMax" else x.amin)(axes, keepdims)
        if self.kind == "ReduceMean":
            return x.mean(axes, keepdims)
        x = {"ReduceSum": x, "ReduceL1": x.abs(), "ReduceL2": x * x}[self.kind].sum(axes, keepdims)
        return x.sqrt() if self.kind == "ReduceL2" else x

    def extra_repr(self) -> str:
        return f"{self.kind}, {self.axes}, keepdims={self.keepdims}"
