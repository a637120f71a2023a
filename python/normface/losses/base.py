"""What every loss has: class weights (C, D), checks of its arguments, float32 arithmetic, and sums."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import TrainingError

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class Loss(nn.Module):
    """A scalar of embeddings (N, D) and labels (N,); the sum of two losses and a number times a loss are losses."""

    def __add__(self, other: Loss) -> Loss:
        from .weighted_sum import WeightedSum

        return WeightedSum([*terms_of(self), *terms_of(other)]) if isinstance(other, Loss) else NotImplemented

    def __mul__(self, factor: float) -> Loss:
        from .weighted_sum import WeightedSum

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
        self.num_classes = _size("num_classes", num_classes)
        self.embedding_size = _size("embedding_size", embedding_size)
        self.start = start
        self.weight = nn.Parameter(torch.empty(self.num_classes, self.embedding_size, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the class weights anew."""
        self.start(self.weight)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        self._check_embeddings(embeddings)
        labels = self._checked_labels(labels, embeddings)
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.value(*self._wide(embeddings, self.weight), labels)

    def logits(self, embeddings: Tensor) -> Tensor:
        """(N, D) -> (N, C), without a margin."""
        self._check_embeddings(embeddings)
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.scores(*self._wide(embeddings, self.weight))

    def value(self, x: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        """The loss of checked arguments of one wide dtype; labels int64."""
        raise NotImplementedError

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        """The logits of checked arguments of one wide dtype."""
        raise NotImplementedError

    def _wide(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
        return x.to(wide), weight.to(wide)

    def _check_embeddings(self, embeddings: Tensor) -> None:
        if not torch.is_tensor(embeddings) or not embeddings.is_floating_point():
            kind = embeddings.dtype if torch.is_tensor(embeddings) else type(embeddings).__name__
            raise TrainingError(f"{self._name()}: expected a tensor of floating-point embeddings, got {kind}")
        if embeddings.dim() != 2 or embeddings.shape[1] != self.embedding_size:
            raise TrainingError(
                f"{self._name()}: expected embeddings (N, {self.embedding_size}), got {tuple(embeddings.shape)}"
            )
        if not embeddings.shape[0]:
            raise TrainingError(f"{self._name()}: expected one embedding or more, got none: the mean loss has no value")
        if embeddings.device != self.weight.device:
            raise TrainingError(
                f"{self._name()}: embeddings are on {embeddings.device}, the class weights on {self.weight.device}; "
                f"move the loss there with .to()"
            )

    def _checked_labels(self, labels: Tensor, embeddings: Tensor) -> Tensor:
        if not torch.is_tensor(labels) or labels.dtype not in INTEGERS:
            kind = labels.dtype if torch.is_tensor(labels) else type(labels).__name__
            raise TrainingError(f"{self._name()}: expected a tensor of whole-number labels (such as int64), got {kind}")
        if labels.shape != embeddings.shape[:1]:
            raise TrainingError(
                f"{self._name()}: expected {embeddings.shape[0]} labels, one for each embedding, in one axis, "
                f"got {tuple(labels.shape)}"
            )
        labels = labels.to(embeddings.device, torch.int64)
        if labels.device.type == "cpu" and not torch.compiler.is_compiling():
            least, most = (int(bound) for bound in labels.aminmax())
            if least < 0 or most >= self.num_classes:
                wrong = least if least < 0 else most
                raise TrainingError(f"{self._name()}: expected labels from 0 to {self.num_classes - 1}, got {wrong}")
        return labels

    def _name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        return f"{self.num_classes} classes, {self.embedding_size} features"


def _size(name: str, value: int) -> int:
    try:
        size = operator.index(value)
    except TypeError:
        size = 0
    if size < 1 or isinstance(value, bool):
        raise TrainingError(f"expected {name} to be a whole number of 1 or more, got {value!r}")
    return size
