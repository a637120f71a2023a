"""Fully connected layers that torch has no module for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .gradients import straight_through
from .lengths import lengths


def unit_rows(weight: Tensor, eps: float) -> Tensor:
    """Return rows of unit length whose gradient passes straight through to ``weight``.

    The NormFace fork overwrites the weight with these rows and then takes their gradient for the
    weight's own; here the stored weight stays as it is.
    """
    return straight_through(weight, weight / lengths(weight, eps))


@torch.no_grad()
def store_unit_rows(weight: Tensor, eps: float, transpose: bool = False) -> None:
    """Overwrite ``weight`` with its rows (columns with ``transpose``) of unit length."""
    weight.div_(lengths(weight, eps, 0 if transpose else 1))


class InnerProduct(nn.Module):
    """An inner product with a weight that is transposed, normalised, or the second bottom's.

    ``eps`` (under the root) normalises the rows of the learned weight; None leaves them.
    """

    if TYPE_CHECKING:  # only there, since TorchScript reads the annotations of a class, and not as text
        weight: Tensor  # None where the second bottom is the weight
        bias: Tensor | None

    stored = False  # whether the weight is its unit rows by now, so that the next forward pass takes it as it is

    def __init__(
        self, names: list[str], shapes: dict[str, tuple[int, ...]], axis: int, transpose: bool, eps: float | None
    ) -> None:
        super().__init__()
        for name in ("weight", "bias"):
            self.register_parameter(name, nn.Parameter(torch.empty(shapes[name])) if name in names else None)
        self.axis, self.transpose, self.eps = axis, transpose, eps

    def forward(self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        x = x.flatten(self.axis)
        if weight is None:
            w = self.weight.t() if self.transpose else self.weight
            if self.eps is not None and not self.stored:
                w = unit_rows(w, self.eps)
            self.stored = False
        elif self.transpose:
            w = weight.reshape(x.shape[-1], -1).t()
        else:
            w = weight.reshape(-1, x.shape[-1])
        return F.linear(x, w, self.bias if bias is None else bias.reshape(-1))

    def overwrite_blobs(self) -> None:
        """Do what the fork's layer does to its blobs at every training pass: the weight becomes its unit rows."""
        if self.eps is not None:
            store_unit_rows(self.weight, self.eps, self.transpose)
            self.stored = True

    def extra_repr(self) -> str:
        text = "weight from the second bottom" if self.weight is None else str(tuple(self.weight.shape))
        return text + (", unit rows" if self.eps is not None else "")


class Embed(nn.Embedding):
    """torch's Embedding for indices that come as floats, with a bias."""

    bias: Tensor | None

    def __init__(self, input_dim: int, num_output: int, bias_term: bool) -> None:
        super().__init__(input_dim, num_output)
        self.register_parameter("bias", nn.Parameter(torch.empty(num_output)) if bias_term else None)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x.long())
        return y if self.bias is None else y + self.bias
