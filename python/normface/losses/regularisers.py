"""Regularisers: what is added to a loss to better its features' lengths (ring loss) or its class weights' spread (MHE).

    loss = normface.losses.SoftmaxLoss(C, D) + 0.01 * normface.losses.RingLoss(C, D)
    loss = normface.losses.make("sphereface+mhe", C, D)

In a sum they have no class weights of their own: MHE is of the first other loss's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import TrainingError
from ..heads import UNIT_EPS, unit, unit_ball_
from .base import FaceLoss, Options
from .multiplied_angle import row_lengths
from .row_formulas import SumOf
from .rows import row_losses
from .running import mean_of
from .transforms import is_transformed

if TYPE_CHECKING:
    from typing_extensions import Unpack

LEAST_SQUARED_DISTANCE = 1e-6
"""Class weights that are nearer to each other than this count as so near, and do not move each other: where two
coincide, the energy is infinite and has no direction."""
OVER = ("batch", "all")


class Regulariser(FaceLoss):
    """A term that tells no classes apart by itself, so that it has no logits."""

    takes_weight = True

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        raise TrainingError(f"{type(self).__name__}: has no logits; it is added to a loss that has")


class RingLoss(Regulariser):
    """1/(2N) sum_i (|x_i| - R)^2: ring loss (Zheng et al. 2018), equation 1 without its factor lambda.

    R, ``radius``, is learned with the features: a parameter of one number. radius: where it starts; None (the
    default) for the mean length of the features of the first training batch, as the published code has it, which sets
    it in the first backward pass of training mode (``begun``); until then that of the batch at hand counts. The factor
    is the sum's: ``SoftmaxLoss(C, D) + 0.01 * RingLoss(C, D)``. The published code's own default divides the
    difference by the mean length, and does not halve the square; here is the paper's formula.
    """

    begun: Tensor  # 0-D, bool

    def __init__(
        self, num_classes: int, embedding_size: int, *, radius: float | None = None, **options: Unpack[Options]
    ) -> None:
        super().__init__(num_classes, embedding_size, None, **options)
        if radius is not None and not 0 < radius < float("inf"):
            raise TrainingError(f"RingLoss: expected a radius above 0, got {radius}")
        device, dtype = options.get("device"), options.get("dtype")
        self.radius = nn.Parameter(torch.full((), float(radius or 0), device=device, dtype=dtype))
        self.register_buffer("begun", torch.tensor(radius is not None, device=device))

    def _wide(self, x: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        return super()._wide(x, self.radius)

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        """weight: the radius, which takes its place."""
        length = row_lengths(x)[:, 0]
        start = torch.where(self.begun, weight, mean_of(length, shares)).detach()
        losses = (length - (weight + (start - weight).detach())).square() / 2
        if self.training and losses.requires_grad and not is_transformed():
            losses.register_hook(lambda gradient: self._begin(start))
        return losses

    @torch.no_grad()
    def _begin(self, start: Tensor) -> None:
        self.radius.copy_(torch.where(self.begun, self.radius, start.to(self.radius.dtype)))
        self.begun = torch.ones_like(self.begun)

    def extra_repr(self) -> str:
        words = f"radius {self.radius.item():.4g}" if self.begun else "radius of the first batch"
        return f"{super().extra_repr()}, {words}"


class MHELoss(Regulariser):
    """1/(N (C - 1)) sum_i sum_{j != y_i} f(|W_y/|W_y| - W_j/|W_j||): minimum hyperspherical energy (Liu et al. 2018).

    f(d) = d^-s, or log(1/d) for s = 0: charges on a sphere that drive each other apart. Only the classes of the batch
    count, each with all others, as in the paper's SphereFace+ (where it is added to SphereFace, "sphereface+mhe");
    over="all" takes every class once, 1/(C (C - 1)) sum_{i != j} f, for which C^2 numbers are held. half_space: the
    opposites -W_j, -W_y too drive W_y away, and the mean is over 2 C - 1.

    power: s; the paper tries 0, 1 and 2 (and angles in place of distances, which are not here), 2 is our choice.
    Squared distances below LEAST_SQUARED_DISTANCE count as that. Alone it has ``weight`` (C, D) of its own; in a sum it
    is of the first other loss's. eps: under the root of every length.
    """

    def __init__(
        self, num_classes: int, embedding_size: int, *, power: float = 2.0, over: str = "batch",
        half_space: bool = False, eps: float = UNIT_EPS, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, **options)
        if over not in OVER:
            raise TrainingError(f"MHELoss: expected over {' or '.join(OVER)}, got {over!r}")
        if not 0 <= power < float("inf"):
            raise TrainingError(f"MHELoss: expected a power of 0 or more, got {power}")
        self.power, self.over, self.half_space, self.eps = float(power), over, half_space, eps
        if over == "all":
            self.check_whole('over="all"')

    def use_weight(self, weight: nn.Parameter) -> None:
        """Have none of its own: the sum gives it the other loss's each time."""
        self.register_parameter("weight", None)

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        if self.over == "all":
            classes = torch.arange(len(weight), device=weight.device)
            whole = self._energies(weight, weight, classes).mean()
            return whole.expand(len(x)) + 0 * x.sum(1)  # of the features it has no gradient, but a NaN
        return self._energies(self.label_rows(weight, labels, x.dtype), weight, labels) + 0 * x.sum(1)

    def _energies(self, rows: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        formula = SumOf(self.of_cosines)
        return row_losses(unit(rows, self.eps), weight, labels, formula, eps=self.eps, shard=self.shard)

    def of_cosines(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """Return the energies (n,) of class weights whose cosines to all are given, (n, C), their own at labels."""
        column, number = labels[:, None], self.num_classes - 1
        energies = self._energy(2 - 2 * cosine).scatter(1, column, 0.0).sum(1)
        if self.half_space:
            energies, number = energies + self._energy(2 + 2 * cosine).sum(1), 2 * number + 1
        broken = torch.where(cosine.gather(1, column)[:, 0].isnan(), torch.nan, 0.0)
        return energies / max(number, 1) + broken

    def _energy(self, squares: Tensor) -> Tensor:
        squares = squares.clamp_min(LEAST_SQUARED_DISTANCE)
        return squares ** (-self.power / 2) if self.power else -0.5 * squares.log()

    def extra_repr(self) -> str:
        words = f"power {self.power:g}, over {self.over}" + (", half space" if self.half_space else "")
        return f"{super().extra_repr()}, {words}"
