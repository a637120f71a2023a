"""Mean, scale and channel order in front of a net (see caffeport.graph.preprocessing)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ...graph.preprocessing import Preprocessing


class Preprocess(nn.Module):
    """(x - mean) * scale, the channels reversed first with ``rgb``. The mean is no weight: it is in no state_dict."""

    mean: Tensor | None

    def __init__(self, what: Preprocessing) -> None:
        super().__init__()
        self.index, self.scale, self.rgb = what.index, what.scale, what.rgb
        mean = None if what.mean is None else torch.tensor(what.mean.tolist())
        self.register_buffer("mean", mean, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.rgb:
            x = x.flip(1)
        if self.mean is not None:
            x = x - self.mean
        return x * self.scale if self.scale != 1 else x

    def extra_repr(self) -> str:
        mean = "" if self.mean is None else f"mean of {tuple(self.mean.shape)}, "
        return f"{mean}scale={self.scale:g}" + (", rgb" if self.rgb else "")
