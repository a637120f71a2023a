"""The losses of the scores of all classes, wherever the class weights are: in this process, or sharded over ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from . import blockwise, sharded
from .blockwise import Slopes
from .class_shard import ClassShard
from .row_formulas import RowFormula


def row_losses(
    x: Tensor, weight: Tensor, labels: Tensor, formula: RowFormula, inputs: Sequence[Tensor] = (), *,
    eps: float | None, slopes: Slopes | None = None, more: Tensor | None = None, bias: Tensor | None = None,
    label_lengths: bool = False, shard: ClassShard | None = None,
) -> Tensor:  # fmt: skip
    """Return formula(s, labels, *inputs), (N,), of s_ij = x_i . w_j / |w_j|: see blockwise.row_losses.

    bias: b_j (C,), which is added where the scores have no lengths in them (eps None). shard: which rows the weights
    (C / R, D) are, and of ``more`` (K - 1, C / R, D) and ``bias`` (C / R,); see sharded.row_losses.
    """
    if shard is not None:
        return sharded.row_losses(
            shard, x, weight, labels, formula, inputs, eps=eps, slopes=slopes, more=more, bias=bias,
            label_lengths=label_lengths,
        )  # fmt: skip
    if bias is not None:
        return formula(F.linear(x, weight, bias.to(x.dtype)), labels, *inputs)
    return blockwise.row_losses(
        x, weight, labels, formula, inputs, eps=eps, slopes=slopes, more=more, label_lengths=label_lengths
    )
