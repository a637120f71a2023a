"""RNN and LSTM over (T, N, ...), with ``cont`` (T, N) cutting the sequences."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Recurrent(nn.Module):
    weight_x: Tensor
    bias: Tensor
    weight_static: Tensor
    weight_h: Tensor
    states = 1

    def __init__(self, has_static: bool, expose_hidden: bool) -> None:
        super().__init__()
        self.has_static, self.expose_hidden = has_static, expose_hidden

    def forward(self, x: Tensor, cont: Tensor, *more: Tensor) -> Tensor | list[Tensor]:
        inputs = F.linear(x.flatten(2), self.weight_x, self.bias)
        if self.has_static:
            inputs = inputs + F.linear(more[0].flatten(1), self.weight_static)
        if self.expose_hidden:
            states = [state[0] for state in more[self.has_static :]]
        else:
            states = [x.new_zeros(x.shape[1], self.weight_h.shape[1]) for _ in range(self.states)]
        outputs = []
        for step, here in zip(inputs.unbind(0), cont.detach().unbind(0), strict=True):
            output, states = self.step(step, here[:, None], states)
            outputs.append(output)
        top = torch.stack(outputs)
        return [top, *(state[None] for state in states)] if self.expose_hidden else top

    def step(self, x: Tensor, cont: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        raise NotImplementedError


class RNN(_Recurrent):
    weight_o: Tensor
    bias_o: Tensor

    def step(self, x: Tensor, cont: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        hidden = torch.tanh(F.linear(cont * states[0], self.weight_h) + x)
        return torch.tanh(F.linear(hidden, self.weight_o, self.bias_o)), [hidden]


class LSTM(_Recurrent):
    states = 2

    def step(self, x: Tensor, cont: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        i, f, o, g = (F.linear(cont * states[0], self.weight_h) + x).chunk(4, 1)
        cell = cont * torch.sigmoid(f) * states[1] + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        return hidden, [hidden, cell]
