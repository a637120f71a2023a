"""Sums of losses: NormFace's softmax + 0.01 contrastive, caffe-face's softmax + 0.008 center loss."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..errors import TrainingError
from .base import FaceLoss, Loss


class WeightedSum(Loss):
    """sum_k factor_k loss_k(embeddings, labels); also made by ``a + 0.01 * b``.

    ``share_weight``: the losses have one class weight, the first one's, rather than one each.
    ``weight`` and ``logits`` are the first loss's. ``losses`` is an nn.ModuleList, ``factors`` a list of numbers.
    """

    def __init__(self, terms: Iterable[tuple[float, FaceLoss]], share_weight: bool = False) -> None:
        super().__init__()
        terms = list(terms)
        if not terms:
            raise TrainingError("expected one loss or more to sum, got none")
        for factor, loss in terms:
            if not isinstance(loss, FaceLoss):
                raise TrainingError(f"expected losses of normface.losses to sum, got {type(loss).__name__}")
            if not (math.isfinite(factor) and factor >= 0):
                raise TrainingError(f"expected a factor of 0 or more before {type(loss).__name__}, got {factor}")
        shapes = {tuple(loss.weight.shape) for _, loss in terms}
        if len(shapes) > 1:
            raise TrainingError(f"expected losses of one number of classes and embedding size, got {sorted(shapes)}")
        self.factors = [float(factor) for factor, _ in terms]
        self.losses = nn.ModuleList(loss for _, loss in terms)
        if share_weight:
            for _, loss in terms[1:]:
                loss.weight = terms[0][1].weight

    @property
    def terms(self) -> list[tuple[float, FaceLoss]]:
        return list(zip(self.factors, self.losses, strict=True))  # type: ignore[arg-type]

    @property
    def num_classes(self) -> int:
        return self.terms[0][1].num_classes

    @property
    def embedding_size(self) -> int:
        return self.terms[0][1].embedding_size

    @property
    def weight(self) -> nn.Parameter:
        return self.terms[0][1].weight

    @property
    def scale(self) -> Tensor:
        """The scale of the first loss that has one."""
        for _, loss in self.terms:
            scale: Tensor | None = getattr(loss, "scale", None)
            if scale is not None:
                return scale
        raise AttributeError("none of the losses has a scale")

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([factor * loss(embeddings, labels) for factor, loss in self.terms]).sum()

    def logits(self, embeddings: Tensor) -> Tensor:
        return self.terms[0][1].logits(embeddings)

    def extra_repr(self) -> str:
        return " + ".join(f"{factor:g} * {type(loss).__name__}" for factor, loss in self.terms)
