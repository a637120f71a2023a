"""Mean field inference of CRF-RNN (see caffeport.operators.mean_field), with its filter, the permutohedral lattice."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn


class Lattice:
    """The permutohedral lattice of N points with d features (Adams et al. 2010), built in float32 as in the fork.

    Every point lies in a simplex of d + 1 vertices: ``places`` (N, d + 1) are their numbers from 1 on, ``shares``
    the barycentric coordinates; ``neighbours`` (d + 1, M, 2) are the vertices next to each along each axis, 0 for none.
    """

    def __init__(self, features: np.ndarray) -> None:
        points, d = features.shape
        vertices, self.shares = _simplices(features.astype(np.float32))
        lowest = vertices.min((0, 1)) - (d + 1)
        sizes = (vertices.max((0, 1)) + d + 2 - lowest).astype(object)
        if math.prod(sizes) >= 2**63:
            raise ValueError(f"the features of the filter span {sizes.tolist()} lattice steps, which is too much")
        steps = np.array([math.prod(sizes[i + 1 :]) for i in range(d)], np.int64)
        keys, inverse = np.unique(((vertices - lowest) * steps).sum(-1), return_inverse=True)
        self.places = inverse.reshape(points, d + 1) + 1
        self.neighbours = np.zeros((d + 1, len(keys), 2), np.int64)
        for axis in range(d + 1):
            move = -steps.sum() + (0 if axis == d else (d + 1) * steps[axis])
            for side, key in enumerate((keys + move, keys - move)):
                places = np.searchsorted(keys, key).clip(max=len(keys) - 1)
                self.neighbours[axis, :, side] = np.where(keys[places] == key, places + 1, 0)
        self.scale = 1 / (1 + 2.0**-d)

    def filter(self, x: Tensor) -> Tensor:
        """Filter every row of x (C, N): splat to the vertices, blur along each axis, slice at the points."""
        places = torch.as_tensor(self.places, device=x.device)
        shares = torch.as_tensor(self.shares, device=x.device).to(x.dtype)[..., None]
        neighbours = torch.as_tensor(self.neighbours, device=x.device)
        splat = (x.T[:, None] * shares).flatten(0, 1)
        values = x.new_zeros(neighbours.shape[1] + 1, x.shape[0]).index_add(0, places.flatten(), splat)
        for axis in range(neighbours.shape[0]):
            blurred = values[1:] + 0.5 * (values[neighbours[axis, :, 0]] + values[neighbours[axis, :, 1]])
            values = torch.cat([values[:1], blurred])
        return (values[places] * shares).sum(1).T * self.scale


def _simplices(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (the first d coordinates of every point's vertices (N, d + 1, d), their shares (N, d + 1))."""
    points, d = features.shape
    deviation = np.float32(math.sqrt(2 / 3) * (d + 1))
    elevated, total = np.zeros((points, d + 1), np.float32), np.zeros(points, np.float32)
    for j in range(d, 0, -1):
        part = features[:, j - 1] * np.float32(1 / math.sqrt((j + 1) * j) * deviation)
        elevated[:, j] = total - np.float32(j) * part
        total = total + part
    elevated[:, 0] = total
    down = np.float32(1 / (d + 1))
    rounded = np.rint(elevated * down)
    base, excess = rounded * np.float32(d + 1), rounded.sum(1).astype(np.int64)
    rank, rest = np.zeros((points, d + 1), np.int64), elevated - base
    for i in range(d):
        for j in range(i + 1, d + 1):
            less = rest[:, i] < rest[:, j]
            rank[:, i] += less
            rank[:, j] += ~less
    rank += excess[:, None]
    turn = (rank < 0).astype(np.int64) - (rank > d)
    rank, base = rank + turn * (d + 1), base + (turn * (d + 1)).astype(np.float32)
    shares, rows = np.zeros((points, d + 2), np.float32), np.arange(points)
    for i in range(d + 1):
        value = (elevated[:, i] - base[:, i]) * down
        shares[rows, d - rank[:, i]] += value
        shares[rows, d + 1 - rank[:, i]] -= value
    shares[:, 0] += 1 + shares[:, d + 1]
    remainder = np.arange(d + 1)[:, None]
    canonical = np.where(np.arange(d + 1) <= d - remainder, remainder, remainder - (d + 1))
    vertices = base.astype(np.int64)[:, None, :d] + canonical[:, rank[:, :d]].transpose(1, 0, 2)
    return vertices, shares[:, : d + 1]


class MultiStageMeanfield(nn.Module):
    """The image has no gradient, as in the fork."""

    weight_spatial: Tensor
    weight_bilateral: Tensor
    compatibility: Tensor

    def __init__(self, iterations: int, alpha: float, beta: float, gamma: float) -> None:
        super().__init__()
        self.iterations, self.alpha, self.beta, self.gamma = iterations, alpha, beta, gamma

    def forward(self, unary: Tensor, start: Tensor, image: Tensor) -> Tensor:
        tops = [self._infer(*one) for one in zip(unary, start, image.detach(), strict=True)]
        return torch.stack(tops)

    def _infer(self, unary: Tensor, start: Tensor, image: Tensor) -> Tensor:
        classes, height, width = unary.shape
        rows, columns = np.divmod(np.arange(height * width), width)
        place = np.stack([columns, rows], 1).astype(np.float32)
        colour = image[:3].reshape(3, -1).T.cpu().numpy().astype(np.float32)
        spatial = Lattice(place / np.float32(self.gamma))
        bilateral = Lattice(np.concatenate([place / np.float32(self.alpha), colour / np.float32(self.beta)], 1))
        ones = unary.new_ones(1, height * width)
        filters = [
            (lattice, 1 / (lattice.filter(ones) + 1e-20), weight.reshape(classes, classes))
            for lattice, weight in ((spatial, self.weight_spatial), (bilateral, self.weight_bilateral))
        ]
        matrix, x = self.compatibility.reshape(classes, classes), start.flatten(1)
        for _ in range(self.iterations):
            q = torch.softmax(x, 0)
            messages = [weight @ (lattice.filter(q) * norm) for lattice, norm, weight in filters]
            x = unary.flatten(1) - matrix @ (messages[0] + messages[1])
        return x.reshape(unary.shape)

    def extra_repr(self) -> str:
        return f"iterations={self.iterations}, alpha={self.alpha}, beta={self.beta}, gamma={self.gamma}"
