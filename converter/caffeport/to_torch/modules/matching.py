"""Two feature maps compared, and one resized (see caffeport.operators.matching)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from ...operators.matching import Matching


class Correlation(nn.Module):
    def __init__(self, matching: Matching) -> None:
        super().__init__()
        self.matching = matching

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        match, near = self.matching, self.matching.reach
        rows, columns = match.span((x.shape[2], x.shape[3]))
        first, second = (F.pad(one, [match.pad] * 4) for one in (x, y))
        first = first[:, :, near : near + rows, near : near + columns]
        channels = []
        for row, column in match.moves:
            top, left = near + row, near + column
            moved = second[:, :, top : top + rows, left : left + columns]
            both = first * moved if match.multiplies else (first - moved).abs()
            channels.append(both.mean(1))
        joined = torch.stack(channels, 1)
        if match.kernel == 1 and match.stride == 1:
            return joined
        return F.avg_pool2d(joined, match.kernel, match.stride)

    def extra_repr(self) -> str:
        match = self.matching
        return f"moves={len(match.moves)}, kernel={match.kernel}, stride={match.stride}, pad={match.pad}"


class Resample(nn.Module):
    """Resize to ``size``, or to that of the second argument."""

    def __init__(self, kind: str, antialias: bool, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.kind, self.antialias, self.size = kind, antialias, size

    def forward(self, x: Tensor, like: Tensor | None = None) -> Tensor:
        from ...operators.matching import resample_weights

        size = self.size if like is None else (like.shape[2], like.shape[3])
        assert size is not None
        rows, columns = resample_weights(self.kind, self.antialias, (x.shape[2], x.shape[3]), size)
        return torch.as_tensor(rows).to(x) @ x @ torch.as_tensor(columns.T.copy()).to(x)

    def extra_repr(self) -> str:
        return f"{self.kind}, antialias={self.antialias}, size={self.size}"
