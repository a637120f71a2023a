"""A convolution with weights of its own at every place (see caffeport.operators.local)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Local(nn.Module):
    """``places``: rows and columns of the top, which the weights fix."""

    bias: Tensor | None

    def __init__(
        self, shapes: list[tuple[int, ...]], places: tuple[int, int], kernel: int, stride: int, pad: int
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shapes[0]))
        self.register_parameter("bias", nn.Parameter(torch.empty(shapes[1])) if len(shapes) > 1 else None)
        self.places, self.kernel, self.stride, self.pad = places, kernel, stride, pad

    def forward(self, x: Tensor) -> Tensor:
        columns = functional.unfold(x, self.kernel, padding=self.pad, stride=self.stride)  # (N, numbers, places)
        y = torch.einsum("nkp,mkp->nmp", columns, self.weight[:, 0])
        if self.bias is not None:
            y = y + self.bias[0]
        return y.unflatten(2, self.places)

    def extra_repr(self) -> str:
        return f"places={self.places}, kernel={self.kernel}, stride={self.stride}, pad={self.pad}"
