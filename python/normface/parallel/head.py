"""A loss whose class weights are sharded over the ranks, which is called with each rank's own samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.distributed as dist
from torch import Tensor, nn

from .. import losses
from ..errors import TrainingError
from ..losses.class_shard import ClassShard
from ..losses.sums import plain_losses
from .gathering import gathered
from .row_keeper import SampledRows, check_rows

if TYPE_CHECKING:
    from typing_extensions import Unpack

BACKBONES = ("averaged", "summed")


class ClassParallel(nn.Module):
    """``head(embeddings (n, D), labels (n,))``: a loss of the samples of all ranks, alike on every rank.

    Of R ranks each holds ceil(C / R) rows of the class weights, the last ones what is left, or none, in
    ``head.loss.weight``; their gradient is whole, and no other rank has it. What all ranks have alike, such as a
    learned scale, has the same gradient on each: the head is not to be wrapped in DistributedDataParallel. The batches
    may differ in size, and be empty on some ranks.

    loss: one of normface.losses made with ``shard``; ``make`` makes both. backbone_gradients: "averaged", where the
    gradients of what makes the embeddings are averaged over the ranks, as DistributedDataParallel and FSDP do;
    "summed", where they are summed. (A rank's own backward pass gives its samples' share of the gradient of the mean.)
    sample_rate: below 1, a training step has scores of so many of each rank's classes alone: those of the labels, and
    others by chance (Partial FC, An et al. 2021), by ``sample_seed``. Each other class then counts as often as there
    are classes that it stands for, so that sums over the others are right in the mean over the draws, as they are not
    in Partial FC. Gradients of the class weights are row-sparse, as RowSGD takes them.
    """

    def __init__(
        self, loss: losses.Loss, *, backbone_gradients: str = "averaged", sample_rate: float = 1.0, sample_seed: int = 0
    ) -> None:  # fmt: skip
        super().__init__()
        if backbone_gradients not in BACKBONES:
            words = " or ".join(BACKBONES)
            raise TrainingError(f"expected backbone_gradients {words}, got {backbone_gradients!r}")
        first, *others = (getattr(one, "shard", None) for one in plain_losses(loss))
        if first is None or any(shard is not first for shard in others):
            raise TrainingError("expected a loss that was made with one shard; normface.parallel.make makes it")
        self.loss, self.shard, self.backbone_gradients = loss, first, backbone_gradients
        self.rows = SampledRows(sample_rate, sample_seed, first.rank)
        if sample_rate < 1:
            check_rows(plain_losses(loss), "sample_rate")
            first.keeper = self.rows

    @property
    def weight(self) -> nn.Parameter:
        """Return this rank's class weights, (C / R, D)."""
        return self.loss.weight

    def forward(self, embeddings: Tensor, labels: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """embeddings (n, D), labels (n,) and sample_weight (n,): this rank's. Every rank must call it together."""
        averaged = self.backbone_gradients == "averaged"
        given = (embeddings, labels, sample_weight, self.loss.embedding_size, averaged)
        value: Tensor = self.loss(*gathered(self.shard, *given))
        return value

    def extra_repr(self) -> str:
        return repr(self.shard)


def make(
    name: str, num_classes: int, embedding_size: int, *, group: dist.ProcessGroup | None = None,
    backbone_gradients: str = "averaged", sample_rate: float = 1.0, sample_seed: int = 0, share_weight: bool = False,
    **options: Unpack[losses.LossOptions],
) -> ClassParallel:  # fmt: skip
    """Return the loss of that name, as normface.losses.make names them, with its class weights sharded.

    group: of torch.distributed; by default all ranks, or this process alone where there is no process group.
    backbone_gradients, sample_rate, sample_seed: ClassParallel's. options: the loss's own. The class weights start as
    the first rank's random generator says, whatever the number of ranks; torch.manual_seed before it makes the start
    repeatable.

    Raises TrainingError as normface.losses.make does, and for what needs all class weights in one process:
    exact_gradient=False, max_positive_only, max_negative_only, and ``mhe`` with over="all".
    """
    options["shard"] = ClassShard(num_classes, group)
    loss = losses.make(name, num_classes, embedding_size, share_weight=share_weight, **options)
    return ClassParallel(loss, backbone_gradients=backbone_gradients, sample_rate=sample_rate, sample_seed=sample_seed)
