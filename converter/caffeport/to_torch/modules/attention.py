"""A sum over windows with weights from a second blob (see caffeport.operators.attention)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class AttPooling(nn.Module):
    """Every window has its own place among the weights with ``is_local``; else one window serves all places."""

    def __init__(self, kernel: int, pad: int, stride: int, dilation: int, is_local: bool) -> None:
        super().__init__()
        self.kernel, self.pad, self.stride, self.dilation, self.is_local = kernel, pad, stride, dilation, is_local

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        columns = functional.unfold(x, self.kernel, self.dilation, self.pad, self.stride)
        columns = columns.unflatten(1, (x.shape[1], self.kernel**2))  # (N, C, kernel^2, windows)
        weight = weights.flatten(2)
        y = (columns * weight[:, None]).sum(2) if self.is_local else columns[..., 0] @ weight
        return y.unflatten(2, weights.shape[2:])

    def extra_repr(self) -> str:
        return (
            f"kernel={self.kernel}, pad={self.pad}, stride={self.stride}, dilation={self.dilation}, "
            f"is_local={self.is_local}"
        )
