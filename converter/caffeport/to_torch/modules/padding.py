"""Pads around a tensor, and edges cut off (see caffeport.operators.padding)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Pad(nn.Module):
    """``mode`` is NumPy's word for how the pads are filled."""

    def __init__(self, before: list[int], behind: list[int], mode: str, value: float) -> None:
        super().__init__()
        self.before, self.behind, self.mode, self.value = before, behind, mode, value

    def forward(self, x: Tensor) -> Tensor:
        sides = list(zip(self.before, self.behind, strict=True))
        if self.mode == "constant":
            return F.pad(x, [pad for pair in reversed(sides) for pad in pair], value=self.value)
        for axis, pair in enumerate(sides):
            if any(pair):
                places = np.pad(np.arange(x.shape[axis]), pair, self.mode)  # type: ignore[call-overload]
                x = x.index_select(axis, torch.as_tensor(places, device=x.device))
        return x

    def extra_repr(self) -> str:
        return f"{self.before}, {self.behind}, {self.mode}, {self.value}"


class CropCenter(nn.Module):
    """``sizes`` numbers off both ends of each axis."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes

    def forward(self, x: Tensor) -> Tensor:
        for axis, size in enumerate(self.sizes):
            x = x.narrow(axis, size, x.shape[axis] - 2 * size)
        return x

    def extra_repr(self) -> str:
        return str(self.sizes)
