"""CTPN's Lstm, and the indicator of where sequences start (see caffeport.operators.recurrent_forks)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Lstm(nn.Module):
    """Run over (T, N, ...); ``threshold`` bounds the gradients of the gates' sums, if it is above 0."""

    weight_x: Tensor
    weight_h: Tensor
    bias: Tensor

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor, cont: Tensor | None = None) -> Tensor:
        inputs = F.linear(x.flatten(2), self.weight_x, self.bias)
        hidden = cell = x.new_zeros(x.shape[1], self.weight_h.shape[1])
        starts = None if cont is None else (cont.reshape(x.shape[0], x.shape[1], 1) != 0).to(x.dtype)
        outputs = []
        for index, step in enumerate(inputs.unbind(0)):
            if starts is not None:
                hidden, cell = hidden * starts[index], cell * starts[index]
            gates = F.linear(hidden, self.weight_h) + step
            if self.threshold > 0 and gates.requires_grad:
                gates.register_hook(lambda gradient: gradient.clamp(-self.threshold, self.threshold))
            i, f, o, new = gates.chunk(4, 1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(new)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
            outputs.append(hidden)
        return torch.stack(outputs)

    def extra_repr(self) -> str:
        return f"clipping_threshold={self.threshold}"


class ContinuationIndicator(nn.Module):
    """Ones, and zeros in the first row; no zeros with ``flag``, or in the columns where x is 1."""

    ones: Tensor

    def __init__(self, steps: int, sequences: int, flag: bool) -> None:
        super().__init__()
        self.flag = flag
        # Not on the meta device, on which modules are built: it is no blob that would be filled in later.
        self.register_buffer("ones", torch.ones(steps, sequences, device="cpu"), persistent=False)

    def forward(self, x: Tensor | None = None) -> Tensor:
        top = self.ones.clone()
        if self.flag:
            return top
        top[0] = 0.0 if x is None else ((x.reshape(-1) - 1).abs() <= 0.01).to(top.dtype)
        return top

    def extra_repr(self) -> str:
        return f"{tuple(self.ones.shape)}, flag={self.flag}"
