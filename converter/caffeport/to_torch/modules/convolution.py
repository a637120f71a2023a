"""Convolutions that torch has no module for, over up to three spatial axes (none: a matrix product)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from ...operators.windows import Window

_FORWARD = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class Convolution(nn.Module):
    """A convolution that torch has no module for.

    It has several bottoms, channels on an axis other than 1, no spatial axis, or pads that differ on the two sides.
    """

    bias: Tensor | None

    def __init__(self, shapes: list[tuple[int, ...]], window: Window, groups: int, axis: int, transposed: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shapes[0]))
        self.register_parameter("bias", nn.Parameter(torch.empty(shapes[1])) if len(shapes) > 1 else None)
        self.window, self.groups, self.axis, self.transposed = window, groups, axis, transposed

    def forward(self, *x: Tensor) -> Tensor | list[Tensor]:
        return self._convolve(x[0]) if len(x) == 1 else [self._convolve(bottom) for bottom in x]

    def _convolve(self, x: Tensor) -> Tensor:
        if self.axis == 1 and self.window.kernel:
            return self._batched(x)
        before = x.shape[: self.axis]
        x = x.reshape(math.prod(before), *x.shape[self.axis :])
        y = self._batched(x) if self.window.kernel else self._without_space(x)
        return y.reshape(*before, *y.shape[1:])

    def _batched(self, x: Tensor) -> Tensor:
        window, axes = self.window, len(self.window.kernel)
        if not window.even:
            return self._uneven(x)
        if self.transposed:
            return _TRANSPOSED[axes](
                x, self.weight, self.bias, window.stride, window.pad, 0, self.groups, window.dilation
            )
        return _FORWARD[axes](x, self.weight, self.bias, window.stride, window.pad, window.dilation, self.groups)

    def _uneven(self, x: Tensor) -> Tensor:
        """Pad the input, or for the transpose crop the result, by itself."""
        window, axes = self.window.at(x.shape[2:]), len(self.window.kernel)
        zeros, near, far = (0,) * axes, *window.edges(x.shape[2:])
        sides = [pad for sides in reversed(list(zip(near, far, strict=True))) for pad in sides]
        if self.transposed:
            y = _TRANSPOSED[axes](x, self.weight, self.bias, window.stride, zeros, 0, self.groups, window.dilation)
            return F.pad(y, [-side for side in sides])
        x = F.pad(x, sides)
        return _FORWARD[axes](x, self.weight, self.bias, window.stride, zeros, window.dilation, self.groups)

    def _without_space(self, x: Tensor) -> Tensor:
        convolve = F.conv_transpose1d if self.transposed else F.conv1d
        return convolve(x[..., None], self.weight[..., None], self.bias, groups=self.groups)[..., 0]

    def extra_repr(self) -> str:
        window = self.window
        pad = "SAME" if window.same else window.pad if window.even else (window.pad, window.far)
        text = f"{tuple(self.weight.shape)}, stride={window.stride}, pad={pad}"
        if set(window.dilation) - {1}:
            text += f", dilation={window.dilation}"
        text += f", group={self.groups}" if self.groups > 1 else ""
        return text + (f", axis={self.axis}" if self.axis != 1 else "") + (", transposed" if self.transposed else "")


class Im2col(nn.Module):
    """A grouped convolution with one-hot kernels: differentiable, and for any number of axes up to 3."""

    def __init__(self, window: Window, axis: int) -> None:
        super().__init__()
        self.window, self.axis = window, axis

    def forward(self, *x: Tensor) -> Tensor | list[Tensor]:
        columns = [self._columns(bottom) for bottom in x]
        return columns[0] if len(columns) == 1 else columns

    def _columns(self, x: Tensor) -> Tensor:
        before, window = x.shape[: self.axis], self.window
        flat = x.reshape(math.prod(before), *x.shape[self.axis :])
        size, channels = math.prod(window.kernel), flat.shape[1]
        one_hot = torch.eye(size, dtype=x.dtype, device=x.device).reshape(size, 1, *window.kernel)
        weight = one_hot.repeat(channels, *[1] * (one_hot.dim() - 1))
        convolve = _FORWARD[len(window.kernel)]
        y = convolve(flat, weight, None, window.stride, window.pad, window.dilation, channels)
        return y.reshape(*before, *y.shape[1:])
