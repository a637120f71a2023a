"""The center loss of caffe-face."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffeport.to_torch.modules.face_loss import center_losses
from torch import Tensor

from ..errors import TrainingError
from ..heads import squared_distances, xavier_
from .base import FaceLoss, Options

if TYPE_CHECKING:
    from typing_extensions import Unpack

STEPS = ("paper", "fork", "derivative")


class CenterLoss(FaceLoss):
    """1/(2N) sum_i |x_i - c_{y_i}|^2: center loss (Wen et al. 2016), equation 2, over N as in caffe-face.

    ``weight`` (C, D) holds the centers c. It keeps features of a class together but not classes apart, so it comes
    in a sum: ``SoftmaxLoss(C, D) + 0.008 * CenterLoss(C, D)``.

    center_step: the centers' gradient, of p_j = sum (c_j - x_i) over the n_j samples of class j:
        "paper": p_j / (1 + n_j), equation 4; whatever multiplies the loss, a GradScaler's factor too, has no part
            in it, so the optimiser's learning rate is the paper's alpha (0.5);
        "fork": n_j / (1 + n_j) p_j, as happynear/caffe-windows computes it; otherwise the same;
        "derivative": p_j / N times whatever multiplies the loss.
    In the first two a sample's weight counts as so many samples.
    """

    def __init__(
        self, num_classes: int, embedding_size: int, *, center_step: str = "paper", **options: Unpack[Options]
    ) -> None:
        super().__init__(num_classes, embedding_size, xavier_, **options)
        if center_step not in STEPS:
            raise TrainingError(f"CenterLoss: expected a center_step of {', '.join(STEPS)}, got {center_step!r}")
        self.center_step = center_step

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        if self.shard is None:
            return center_losses(x, weight, labels, self.center_step.upper(), shares=shares)
        local = self.shard.local(labels)
        here = (local >= 0).nonzero()[:, 0]
        x, shares = self.shard.copied(x)[here], None if shares is None else shares[here]
        losses = center_losses(x, weight.to(x.dtype), local[here], self.center_step.upper(), shares=shares)
        return self.shard.summed(losses.new_zeros(len(labels)).index_copy(0, here, losses))

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return -squared_distances(x, weight)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, center step {self.center_step}"
