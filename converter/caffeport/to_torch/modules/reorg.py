"""YOLO's Reorg (see caffeport.operators.reorg)."""

from __future__ import annotations

from torch import Tensor, nn


class Reorg(nn.Module):
    def __init__(self, stride: int, reverse: bool) -> None:
        super().__init__()
        self.stride, self.reverse = stride, reverse

    def forward(self, x: Tensor) -> Tensor:
        s = self.stride
        n, c, h, w = x.shape
        if self.reverse:
            blocks = x.reshape(n, s, s, c // (s * s), h, w).permute(0, 3, 4, 1, 5, 2)
            return blocks.reshape(n, c // (s * s), h * s, w * s)
        blocks = x.reshape(n, c // (s * s), h, s, w, s).permute(0, 3, 5, 1, 2, 4)
        return blocks.reshape(n, c * s * s, h // s, w // s)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, reverse={self.reverse}"
