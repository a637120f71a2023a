"""An LSTM over feature maps (see caffeport.operators.convolutional_lstm)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from ...operators.windows import Window


class ConvLSTM(nn.Module):
    """``spread`` is the shape in which the cell's factors broadcast; None where the gates have no term of it."""

    weight_x: Tensor
    weight_static: Tensor
    weight_h: Tensor
    cell_i: Tensor
    cell_f: Tensor
    cell_o: Tensor

    def __init__(
        self, window: Window, groups: int, has_static: bool, exposes: bool, spread: tuple[int, ...] | None
    ) -> None:
        super().__init__()
        self.window, self.groups, self.spread = window, groups, spread
        self.has_static, self.exposes = has_static, exposes

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        window = self.window
        return F.conv2d(x, weight, bias, window.stride, window.pad, window.dilation, self.groups)

    def forward(self, x: Tensor, cont: Tensor, *more: Tensor) -> Tensor | list[Tensor]:
        inputs = self._convolve(x.flatten(0, 1), self.weight_x).unflatten(0, x.shape[:2])
        if self.has_static:
            inputs = inputs + self._convolve(more[0][0], self.weight_static)
        if self.exposes:
            hidden, cell = (state[0] for state in more[self.has_static :])
        else:
            hidden = cell = x.new_zeros(x.shape[1], self.weight_h.shape[0] // 4, *x.shape[3:])
        outputs, bias = [], getattr(self, "bias", None)
        for step, here in zip(inputs.unbind(0), cont.unbind(0), strict=True):
            here = here[:, None, None, None]
            i, f, o, new = (self._convolve(hidden * here, self.weight_h, bias) + step).chunk(4, 1)
            if self.spread is not None:
                factors = (factor.reshape(self.spread) for factor in (self.cell_i, self.cell_f, self.cell_o))
                i, f, o = (gate + factor * cell for gate, factor in zip((i, f, o), factors, strict=True))
            cell = here * torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(new)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
            outputs.append(hidden)
        top = torch.stack(outputs)
        return [top, hidden[None], cell[None]] if self.exposes else top

    def extra_repr(self) -> str:
        return f"{tuple(self.weight_h.shape)}, {self.window}"
