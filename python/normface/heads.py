"""The arithmetic that the losses share: unit vectors, cosines and distances to class weights, and how these start.

N samples, D features, C classes. All of it computes in the dtype of its arguments.
"""

from __future__ import annotations

import torch
from caffeport.to_torch.modules.lengths import UNIT_EPS
from torch import Tensor, nn


def inverse_lengths(x: Tensor, eps: float = UNIT_EPS) -> Tensor:
    """1 / sqrt(sum_d x_d^2 + eps) of every row: (N, D) -> (N,); 0, without gradient, for a sum of eps or less.

    Without that exception a feature of zeros, which a black image can have, gets 1 / sqrt(eps) times the
    others' gradient: one such image ruins a model.
    """
    squares = torch.linalg.vector_norm(x, dim=1).square()  # which reads x once and writes nothing of its size
    return torch.where(squares > eps, torch.rsqrt(squares + eps), 0.0)


def unit(x: Tensor, eps: float = UNIT_EPS) -> Tensor:
    """x / sqrt(|x|^2 + eps) of every row, (N, D); zeros, without gradient, where |x|^2 <= eps."""
    return x * inverse_lengths(x, eps)[:, None]


def cosines(x: Tensor, weight: Tensor, eps: float = UNIT_EPS) -> Tensor:
    """The cosine of every row's angle to every class weight: (N, D), (C, D) -> (N, C)."""
    return unit(x, eps) @ weight.t() * inverse_lengths(weight, eps)


def squared_distances(x: Tensor, weight: Tensor) -> Tensor:
    """|x_i - w_j|^2: (N, D), (C, D) -> (N, C). Of unit vectors it is 2 - 2 cos."""
    squares = x.square().sum(1, keepdim=True) + weight.square().sum(1)
    return (squares - 2 * (x @ weight.t())).clamp_min(0)  # rounding may take a distance of 0 below it


@torch.no_grad()
def unit_ball_(weight: Tensor) -> Tensor:
    """Rows uniform on the unit sphere (Caffe fork's filler gaussian_unitball): where cosine heads start."""
    nn.init.normal_(weight)
    return weight.copy_(unit(weight))


@torch.no_grad()
def xavier_(weight: Tensor) -> Tensor:
    """Uniform within sqrt(3 / D), Caffe's filler xavier: where plain heads and centers start."""
    limit = (3 / weight.shape[1]) ** 0.5
    return nn.init.uniform_(weight, -limit, limit)
