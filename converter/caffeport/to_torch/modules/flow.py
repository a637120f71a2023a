"""An image warped by a flow, and the norm over channels (see caffeport.operators.flow)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FlowWarp(nn.Module):
    """Read bilinearly; ``fill`` stands where the flow leads out of the image."""

    def __init__(self, fill: float) -> None:
        super().__init__()
        self.fill = fill

    def forward(self, image: Tensor, flow: Tensor) -> Tensor:
        height, width = image.shape[2:]
        columns = torch.arange(width, dtype=flow.dtype, device=flow.device)
        rows = torch.arange(height, dtype=flow.dtype, device=flow.device)
        x, y = flow[:, 0] + columns, flow[:, 1] + rows[:, None]
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        x, y = torch.where(inside, x, 0.0), torch.where(inside, y, 0.0)
        left, above = x.detach().long(), y.detach().long()
        right, below = (left + 1).clamp(max=width - 1), (above + 1).clamp(max=height - 1)
        across, down = (x - left)[:, None], (y - above)[:, None]
        pixels = image.flatten(2)

        def at(row: Tensor, column: Tensor) -> Tensor:
            place = (row * width + column).flatten(1)[:, None].expand(-1, image.shape[1], -1)
            return pixels.gather(2, place).reshape(image.shape)

        upper = at(above, left) * (1 - across) + at(above, right) * across
        lower = at(below, left) * (1 - across) + at(below, right) * across
        return torch.where(inside[:, None], upper * (1 - down) + lower * down, self.fill)

    def extra_repr(self) -> str:
        return f"fill={self.fill}"


class ChannelNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)  # whose gradient at 0 is 0, as in the fork
        return norm
