"""The base of every loss: class weights (C, D), float32 arithmetic, and how the samples' losses become one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

import torch
from torch import Tensor, nn

from ..errors import TrainingError
from .checks import check_embeddings, checked_labels, checked_sample_weight, checked_size
from .class_shard import ClassShard, checked_shard
from .reduction import checked_reduction, reduced
from .sums import Loss


class Options(TypedDict, total=False):
    """What every loss can be told, beside its own options.

    reduction: "mean" (the default), "sum" or "none" over the samples. ignore_index: samples of this label have no
    part in anything; None (the default) for no such label. device, dtype: of the class weights. shard: which of their
    rows this process holds, as normface.parallel makes it; None (the default): all.
    """

    reduction: str
    ignore_index: int | None
    device: torch.device | str | None
    dtype: torch.dtype | None
    shard: ClassShard | None


class SoftmaxOptions(Options, total=False):
    """What a loss that is a softmax's can be told as well.

    label_smoothing: e of 0 to below 1; the target is e / C for every class and 1 - e more for the label's, on the
    scores that the softmax gets, the label's margin included.
    """

    label_smoothing: float


class FaceLoss(Loss):
    """A loss on class weights ``weight`` (C, D).

    ``loss(embeddings (N, D), labels (N,))`` is the mean over the samples, a scalar, or what ``reduction`` says. Labels
    are whole numbers in [0, C), or ``ignore_index``, of any integer dtype. ``sample_weight`` (N,), numbers of 0 or
    more, weighs the samples: the mean is sum w l / sum w, the others are of w l. A sample that weighs 0 moves nothing
    (but one with a NaN makes the loss NaN, if its label is not ignored). ``logits(embeddings)`` (N, C) are the scores
    of the classes, without any margin: the larger, the nearer.

    Everything is computed in float32 (float64 if the embeddings or the weights are), also under autocast and for
    bfloat16 or float16 weights, as torch does for its own losses; the result has that dtype.

    Counters and running means move with the backward passes of training mode, and stand still in torch.func.

    Raises TrainingError for arguments that do not fit. Labels out of range are found before anything is computed
    on the CPU; on other devices, where looking at them would make the CPU wait, torch's own indexing
    reports them.
    """

    options: type[Options] = Options
    """The options that its constructor takes as ``**options``, beside those in its signature."""

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        start: Callable[[Tensor], Tensor] | None,
        *,
        reduction: str = "mean",
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        shard: ClassShard | None = None,
    ) -> None:
        """start: fills the weight (heads.unit_ball_ or heads.xavier_); None: there is none."""
        super().__init__()
        name = type(self).__name__
        self.num_classes = checked_size("num_classes", num_classes)
        self.embedding_size = checked_size("embedding_size", embedding_size)
        self.reduction = checked_reduction(name, reduction)
        if ignore_index is not None and (isinstance(ignore_index, bool) or not isinstance(ignore_index, int)):
            raise TrainingError(f"{name}: expected ignore_index to be a whole number or None, got {ignore_index!r}")
        self.ignore_index = ignore_index
        if not 0 <= label_smoothing < 1:
            raise TrainingError(f"{name}: expected a label_smoothing from 0 to below 1, got {label_smoothing}")
        if label_smoothing and "label_smoothing" not in self.options.__annotations__:
            raise TrainingError(f"{name}: has no softmax, so there is no label_smoothing")
        self.label_smoothing = float(label_smoothing)
        self.start, self.shard = start, checked_shard(name, shard, self.num_classes)
        shape = (self.num_classes if shard is None else shard.count, self.embedding_size)
        weight = None if start is None else nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.register_parameter("weight", weight)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the class weights anew."""
        if self.weight is not None:
            self.start_(self.weight)

    def start_(self, weight: Tensor) -> None:
        """Draw class weights (C, D), or this rank's rows of them; each time others."""
        if self.start is not None and self.shard is None:
            self.start(weight)
        elif self.start is not None and self.shard is not None:
            self.shard.start_(weight, self.start)

    def label_rows(self, weight: Tensor, labels: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the class weights of the labels, (N, D) of that dtype, whichever rank holds them."""
        if self.shard is None:
            return weight.index_select(0, labels).to(dtype)
        return self.shard.label_rows(weight, labels, dtype)

    def check_whole(self, what: str) -> None:
        """Raise TrainingError where the class weights are sharded, with which there is no ``what``."""
        if self.shard is not None:
            raise TrainingError(f"{type(self).__name__}: {what} needs all class weights in one process")

    def forward(
        self, embeddings: Tensor, labels: Tensor, sample_weight: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """weight: class weights (C, D) in the place of its own, which a sum gives a regulariser."""
        name = type(self).__name__
        weight = self.weight if weight is None else weight
        if weight is None and self.start is not None:
            raise TrainingError(f"{name}: is a term of a sum, whose class weights it works on; call the sum")
        check_embeddings(name, embeddings, self.embedding_size, next(self.parameters()) if weight is None else weight)
        labels = checked_labels(name, labels, embeddings, self.num_classes, self.ignore_index)
        shares = None if sample_weight is None else checked_sample_weight(name, sample_weight, embeddings)
        with torch.autocast(embeddings.device.type, enabled=False):
            x, weight = self._wide(embeddings, weight)
            shares = None if shares is None else shares.to(x.dtype)
            if self.ignore_index is None:
                return reduced(self.each(x, weight, labels, shares), shares, self.reduction)
            counted = labels != self.ignore_index
            # Rows of zeros move nothing, and no NaN of an ignored row gets anywhere.
            x, labels = torch.where(counted[:, None], x, 0.0), torch.where(counted, labels, 0)
            shares = torch.where(counted, torch.ones_like(x[:, 0]) if shares is None else shares, 0.0)
            losses = torch.where(counted, self.each(x, weight, labels, shares), 0.0)
            return reduced(losses, shares, self.reduction)

    def logits(self, embeddings: Tensor) -> Tensor:
        """(N, D) -> (N, C), without a margin; with a shard, of its classes alone."""
        check_embeddings(type(self).__name__, embeddings, self.embedding_size, next(self.parameters(), embeddings))
        with torch.autocast(embeddings.device.type, enabled=False):
            x, weight = self._wide(embeddings, self.weight)
            return self.scores(x, weight.to(x.dtype))

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        """The losses of the samples, (N,), of checked arguments of one wide dtype; labels int64.

        shares: the samples' weights (N,), which the losses here do not have yet: for what goes over the whole batch,
        such as running means, in which samples of weight 0 have no part. None: all count.
        """
        raise NotImplementedError

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the logits of checked arguments of one wide dtype. A subclass defines it."""
        raise NotImplementedError

    def _wide(self, x: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        weight = x if weight is None else weight
        wide = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
        return x.to(wide), weight.to(wide) if self.shard is None else weight  # which is widened a block at a time

    def extra_repr(self) -> str:
        words = [f"{self.num_classes} classes, {self.embedding_size} features"]
        if self.reduction != "mean":
            words.append(f"reduction {self.reduction}")
        if self.ignore_index is not None:
            words.append(f"label {self.ignore_index} ignored")
        if self.label_smoothing:
            words.append(f"labels smoothed by {self.label_smoothing:g}")
        return ", ".join(words)

    def __repr__(self) -> str:
        """The loss and its options in one line; what helps it to compute is in them, not below."""
        return f"{type(self).__name__}({self.extra_repr()})"
