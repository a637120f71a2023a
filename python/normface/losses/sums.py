"""What every loss can be: a term of a sum, with a number or a tensor before it."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import TrainingError

Factor = float | Tensor


class Loss(nn.Module):
    """A function of embeddings (N, D) and labels (N,); sums and multiples of losses are losses.

        softmax + 0.01 * center, sum([softmax, center]), loss / 2, torch.tensor(0.5) * loss

    A tensor before a loss stays the tensor that it is: a parameter learns, and moves with ``.to()``.
    """

    num_classes: int
    embedding_size: int
    reduction: str
    weight: nn.Parameter
    takes_weight = False
    """Whether it works on the class weights of the loss beside it (see regularisers)."""

    __array_ufunc__ = None  # a NumPy number before a loss leaves the product to the loss

    def __add__(self, other: Loss) -> Loss:
        return WeightedSum([*terms_of(self), *terms_of(other)]) if isinstance(other, Loss) else NotImplemented

    def __radd__(self, other: object) -> Loss:
        return self if type(other) is int and other == 0 else NotImplemented  # sum() begins with 0

    def __mul__(self, factor: Factor) -> Loss:
        if isinstance(factor, Tensor):
            return WeightedSum([(factor, self)]) if factor.numel() == 1 else NotImplemented
        if isinstance(factor, bool) or not isinstance(factor, numbers.Real):
            return NotImplemented
        return WeightedSum([(_times(float(factor), own), loss) for own, loss in terms_of(self)])

    __rmul__ = __mul__

    def __truediv__(self, divisor: Factor) -> Loss:
        if isinstance(divisor, Tensor):
            if divisor.requires_grad:
                raise TrainingError(
                    f"{type(self).__name__}: expected a divisor that does not learn; "
                    "put a factor that does before the loss: factor * loss"
                )
            return self * (1 / divisor)
        if isinstance(divisor, bool) or not isinstance(divisor, numbers.Real):
            return NotImplemented
        if divisor == 0:
            raise TrainingError(f"expected a divisor other than 0 behind {type(self).__name__}")
        return self * (1 / float(divisor))

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return the classes' scores (N, C) of embeddings (N, D), without a margin."""
        raise NotImplementedError

    def use_weight(self, weight: nn.Parameter) -> None:
        """Take these class weights (C, D) for its own."""
        self.weight = weight


def terms_of(loss: Loss) -> list[tuple[Factor, Loss]]:
    """The (factor, loss) pairs of a sum; a loss that is none, or has tensors for factors, is its own only term."""
    if isinstance(loss, WeightedSum) and not any(isinstance(factor, Tensor) for factor in loss.factors):
        return loss.terms
    return [(1.0, loss)]


def _times(number: float, factor: Factor) -> float:
    assert not isinstance(factor, Tensor)  # terms_of
    return number * factor


class WeightedSum(Loss):
    """sum_k factor_k loss_k(embeddings, labels); also made by ``a + 0.01 * b``.

    terms: the (factor, loss) pairs.
    share_weight: the losses have one class weight, the first one's, rather than one each; a regulariser always has.

    ``weight`` and ``logits`` are those of the first loss that is no regulariser. ``losses`` is an nn.ModuleList,
    ``factors`` a list of numbers and tensors.
    """

    def __init__(self, terms: Iterable[tuple[Factor, Loss]], *, share_weight: bool = False) -> None:
        super().__init__()
        terms = list(terms)
        if not terms:
            raise TrainingError("expected one loss or more to sum, got none")
        for factor, loss in terms:
            if not isinstance(loss, Loss):
                raise TrainingError(f"expected losses of normface.losses to sum, got {type(loss).__name__}")
            _check_factor(factor, type(loss).__name__)
        shapes = {(loss.num_classes, loss.embedding_size) for _, loss in terms}
        if len(shapes) > 1:
            raise TrainingError(f"expected losses of one number of classes and embedding size, got {sorted(shapes)}")
        reductions = {loss.reduction for _, loss in terms}
        if len(reductions) > 1:
            raise TrainingError(f"expected losses of one reduction to sum, got {', '.join(sorted(reductions))}")
        self.reduction = reductions.pop()
        self.losses = nn.ModuleList(loss for _, loss in terms)
        self._numbers = [float(factor) if not isinstance(factor, Tensor) else None for factor, _ in terms]
        self._loose: dict[int, Tensor] = {}
        for place, (factor, _) in enumerate(terms):
            if isinstance(factor, nn.Parameter):
                self.register_parameter(f"factor{place}", factor)
            elif isinstance(factor, Tensor) and not factor.requires_grad:
                self.register_buffer(f"factor{place}", factor, persistent=False)
            elif isinstance(factor, Tensor):
                self._loose[place] = factor  # computed from something that learns
        first = next((loss for _, loss in terms if not loss.takes_weight), None)
        for _, loss in terms:
            if first is not None and loss is not first and (share_weight or loss.takes_weight):
                loss.use_weight(first.weight)
        self.takes_weight = first is None

    @property
    def factors(self) -> list[Factor]:
        """Return the numbers and tensors before the losses."""
        return [self._factor(place, number) for place, number in enumerate(self._numbers)]

    def _factor(self, place: int, number: float | None) -> Factor:
        if number is not None:
            return number
        tensor: Tensor = self._loose[place] if place in self._loose else getattr(self, f"factor{place}")
        return tensor.reshape(())

    @property
    def terms(self) -> list[tuple[Factor, Loss]]:
        """Return the (factor, loss) pairs."""
        return list(zip(self.factors, self.losses, strict=True))  # type: ignore[arg-type]

    @property
    def _first(self) -> Loss:
        return next((loss for _, loss in self.terms if not loss.takes_weight), self.terms[0][1])

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """Return the number of classes, the same of every loss."""
        return self._first.num_classes

    @property
    def embedding_size(self) -> int:  # type: ignore[override]
        """Return the numbers of an embedding, the same for every loss."""
        return self._first.embedding_size

    @property
    def weight(self) -> nn.Parameter:  # type: ignore[override]
        """Return the class weights (C, D) of the first loss that is no regulariser."""
        return self._first.weight

    def use_weight(self, weight: nn.Parameter) -> None:
        for _, loss in self.terms:
            loss.use_weight(weight)

    @property
    def scale(self) -> Tensor:
        """The scale of the first loss that has one."""
        for _, loss in self.terms:
            scale: Tensor | None = getattr(loss, "scale", None)
            if scale is not None:
                return scale
        raise AttributeError("none of the losses has a scale")

    def forward(
        self, embeddings: Tensor, labels: Tensor, sample_weight: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """weight: class weights (C, D) for the regularisers, where the sum has no others."""
        weight = weight if self.takes_weight else self.weight
        parts = []
        for factor, loss in self.terms:
            given = (embeddings, labels, sample_weight, *([weight] if loss.takes_weight else []))
            parts.append(factor * loss(*given))
        return torch.stack(parts).sum(0)

    def logits(self, embeddings: Tensor) -> Tensor:
        return self._first.logits(embeddings)

    def __repr__(self) -> str:
        """The sum in one line, as it is written in Python."""
        words = ((float(torch.as_tensor(factor).detach()), loss) for factor, loss in self.terms)
        return " + ".join(f"{factor:g} * {loss}" if factor != 1 else f"{loss}" for factor, loss in words)


def plain_losses(loss: Loss) -> Iterator[Loss]:
    """The losses that a sum, of sums too, is made of."""
    if isinstance(loss, WeightedSum):
        for _, part in loss.terms:
            yield from plain_losses(part)
    else:
        yield loss


def _check_factor(factor: Any, name: str) -> None:
    if isinstance(factor, Tensor) and factor.numel() != 1:
        raise TrainingError(f"expected one number before {name}, got a tensor of shape {tuple(factor.shape)}")
    number = float(factor.detach() if isinstance(factor, Tensor) else factor)
    if not 0 <= number < float("inf"):
        raise TrainingError(f"expected a factor of 0 or more before {name}, got {number:g}")
