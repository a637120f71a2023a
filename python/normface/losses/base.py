"""The base of every loss: class weights (C, D), float32 arithmetic, and sums with other losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ..errors import TrainingError
from .checks import check_embeddings, checked_labels, checked_size


class Loss(nn.Module):
    """A scalar of embeddings (N, D) and labels (N,); the sum of two losses and a number times a loss are losses."""

    def __add__(self, other: Loss) -> Loss:
        return WeightedSum([*terms_of(self), *terms_of(other)]) if isinstance(other, Loss) else NotImplemented

    def __mul__(self, factor: float) -> Loss:
        if isinstance(factor, bool) or not isinstance(factor, (int, float)):
            return NotImplemented
        return WeightedSum([(factor * own, loss) for own, loss in terms_of(self)])

    __rmul__ = __mul__


def terms_of(loss: Loss) -> list[tuple[float, FaceLoss]]:
    """The (factor, loss) pairs of a sum; a plain loss is its own only term."""
    return getattr(loss, "terms", None) or [(1.0, loss)]


class FaceLoss(Loss):
    """A loss on class weights ``weight`` (C, D).

    ``loss(embeddings (N, D), labels (N,))`` is the mean over the samples, a scalar. Labels are whole numbers in
    [0, C) of any integer dtype. ``logits(embeddings)`` (N, C) are the scores of the classes, without any margin:
    the larger, the nearer.

    Everything is computed in float32 (float64 if the embeddings or the weights are), also under autocast and for
    bfloat16 or float16 weights, as torch does for its own losses; the result has that dtype.

    Raises TrainingError for arguments that do not fit. Labels out of range are found before anything is computed
    on the CPU; on other devices, where looking at them would make the CPU wait, torch's own indexing
    reports them.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        start: Callable[[Tensor], Tensor],
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        """start: fills the weight (heads.unit_ball_ or heads.xavier_)."""
        super().__init__()
        self.num_classes = checked_size("num_classes", num_classes)
        self.embedding_size = checked_size("embedding_size", embedding_size)
        self.start = start
        self.weight = nn.Parameter(torch.empty(self.num_classes, self.embedding_size, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the class weights anew."""
        self.start(self.weight)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss, a scalar, of embeddings (N, D) and labels (N,)."""
        check_embeddings(type(self).__name__, embeddings, self.weight)
        labels = checked_labels(type(self).__name__, labels, embeddings, self.num_classes)
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.value(*self._wide(embeddings, self.weight), labels)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return the classes' scores (N, C) of embeddings (N, D), without a margin."""
        check_embeddings(type(self).__name__, embeddings, self.weight)
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.scores(*self._wide(embeddings, self.weight))

    def value(self, x: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of checked arguments of one wide dtype; labels int64. A subclass defines it."""
        raise NotImplementedError

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the logits of checked arguments of one wide dtype. A subclass defines it."""
        raise NotImplementedError

    def _wide(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
        return x.to(wide), weight.to(wide)

    def extra_repr(self) -> str:
        return f"{self.num_classes} classes, {self.embedding_size} features"

    def __repr__(self) -> str:
        """The loss and its options in one line; what helps it to compute is in them, not below."""
        return f"{type(self).__name__}({self.extra_repr()})"


class WeightedSum(Loss):
    """sum_k factor_k loss_k(embeddings, labels); also made by ``a + 0.01 * b``.

    terms: the (factor, loss) pairs.
    share_weight: the losses have one class weight, the first one's, rather than one each.

    ``weight`` and ``logits`` are the first loss's. ``losses`` is an nn.ModuleList, ``factors`` a list of numbers.
    """

    def __init__(self, terms: Iterable[tuple[float, FaceLoss]], *, share_weight: bool = False) -> None:
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
        """Return the (factor, loss) pairs."""
        return list(zip(self.factors, self.losses, strict=True))  # type: ignore[arg-type]

    @property
    def num_classes(self) -> int:
        """Return the number of classes, the same of every loss."""
        return self.terms[0][1].num_classes

    @property
    def embedding_size(self) -> int:
        """Return the numbers of an embedding, the same for every loss."""
        return self.terms[0][1].embedding_size

    @property
    def weight(self) -> nn.Parameter:
        """Return the first loss's class weights (C, D)."""
        return self.terms[0][1].weight

    @property
    def scale(self) -> Tensor:
        """Return the scale of the first loss that has one."""
        for _, loss in self.terms:
            scale: Tensor | None = getattr(loss, "scale", None)
            if scale is not None:
                return scale
        raise AttributeError("none of the losses has a scale")

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the sum, a scalar, of embeddings (N, D) and labels (N,)."""
        return torch.stack([factor * loss(embeddings, labels) for factor, loss in self.terms]).sum()

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return the first loss's scores (N, C)."""
        return self.terms[0][1].logits(embeddings)

    def __repr__(self) -> str:
        """The sum in one line, as it is written in Python."""
        return " + ".join(f"{factor:g} * {loss}" if factor != 1 else f"{loss}" for factor, loss in self.terms)
