"""Softmax losses whose label's angle counts m times: L-Softmax and SphereFace.

psi(theta) = (-1)^k cos(m theta) - 2k for theta in [k pi / m, (k+1) pi / m] falls from 1 to 1 - 2m over
[0, pi]. It is caffeport's, a polynomial of the cosine without arccos: nothing is infinite at cos = +-1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from caffeport.to_torch.modules.gradients import straight_through
from caffeport.to_torch.modules.margins import COSINE_EPS, multiplied_angle
from torch import Tensor

from ..errors import TrainingError
from ..heads import UNIT_EPS, unit, unit_ball_, xavier_
from .annealing import Annealing
from .base import FaceLoss, SoftmaxOptions
from .row_formulas import SoftmaxOf, softmax_losses
from .rows import row_losses

if TYPE_CHECKING:
    from typing_extensions import Unpack


class LargeMarginSoftmaxLoss(FaceLoss):
    """Softmax loss on W x, the label's score being |W_y| |x| psi(theta): L-Softmax (Liu et al. 2016).

    The label's score is (|W_y| |x| psi + lambda W_y x) / (1 + lambda), lambda falling as in Annealing; the default
    schedule is SphereFace's. margin: m, 1 to 4. Weights and features keep their lengths.
    ``annealing.iteration`` counts; lambda is this loss's margin warm-up.
    """

    options = SoftmaxOptions

    def __init__(
        self, num_classes: int, embedding_size: int, margin: int = 4, *,
        base: float = 1000.0, gamma: float = 0.12, power: float = 1.0, lambda_min: float = 5.0,
        **options: Unpack[SoftmaxOptions],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, xavier_, **options)
        self.margin = checked_multiple(self, margin)
        self.annealing = Annealing(base, gamma, power, lambda_min, self.weight.device)

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        inputs = (row_lengths(x)[:, 0], self.annealing.current(x.dtype).expand(len(x)))
        formula = SoftmaxOf(self.of_dots, self.label_smoothing)
        losses = row_losses(x, weight, labels, formula, inputs, eps=None, label_lengths=True, shard=self.shard)
        return self.annealing.counting(losses)

    def of_dots(self, scores: Tensor, labels: Tensor, x_length: Tensor, decay: Tensor, w_length: Tensor) -> Tensor:
        """Return what the softmax gets of the scores x . w (N, C); the rest (N,), the last of the label's weights."""
        return self._with_margin(scores, labels[:, None], (x_length * w_length)[:, None], decay[:, None])

    def margin_scores(self, x: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        """Return what the softmax gets, (N, C): Caffe's LargeMarginInnerProduct."""
        length = row_lengths(x) * row_lengths(weight.index_select(0, labels))
        return self._with_margin(self.scores(x, weight), labels[:, None], length, self.annealing.current(x.dtype))

    def _with_margin(self, scores: Tensor, column: Tensor, length: Tensor, decay: Tensor) -> Tensor:
        dot = scores.gather(1, column)
        return scores.scatter(1, column, multiplied_angle(dot, length, self.margin, decay, eps=COSINE_EPS))

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight.t()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, margin {self.margin}, lambda {self.annealing.extra_repr()}"


class SphereFaceLoss(FaceLoss):
    """Softmax loss on |x| cos(x, W_j), the label's being |x| psi(theta): SphereFace (Liu et al. 2017), equation 7.

    The label's score is |x| (psi + lambda cos) / (1 + lambda), lambda falling as in Annealing with the published
    base 1000, gamma 0.12, power 1, lambda_min 5. margin: m, 1 to 4. ``annealing.iteration`` counts; lambda is this
    loss's margin warm-up. eps: under the root of a weight's length.

    exact_gradient: False takes the published code's gradient, which is not the derivative: the two parts of
    |x| psi's gradient in x are scaled to coefficients of length 1, and the unit weight rows pass theirs on as if
    they were the weights, the label's without its margin.
    """

    options = SoftmaxOptions

    def __init__(
        self, num_classes: int, embedding_size: int, margin: int = 4, *,
        base: float = 1000.0, gamma: float = 0.12, power: float = 1.0, lambda_min: float = 5.0,
        exact_gradient: bool = True, eps: float = UNIT_EPS, **options: Unpack[SoftmaxOptions],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, **options)
        self.margin = checked_multiple(self, margin)
        self.annealing = Annealing(base, gamma, power, lambda_min, self.weight.device)
        self.exact_gradient, self.eps = exact_gradient, eps
        if not exact_gradient:
            self.check_whole("exact_gradient=False")

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        if not self.exact_gradient:
            losses = softmax_losses(self.margin_scores(x, weight, labels), labels, self.label_smoothing)
        else:
            inputs = (row_lengths(x)[:, 0], self.annealing.current(x.dtype).expand(len(x)))
            formula = SoftmaxOf(self.of_dots, self.label_smoothing)
            losses = row_losses(x, weight, labels, formula, inputs, eps=self.eps, shard=self.shard)
        return self.annealing.counting(losses)

    def of_dots(self, scores: Tensor, labels: Tensor, length: Tensor, decay: Tensor) -> Tensor:
        """Return what the softmax gets of the scores x . w / |w| (N, C); the rest (N,)."""
        column = labels[:, None]
        dot, length, decay = scores.gather(1, column), length[:, None], decay[:, None]
        return scores.scatter(1, column, multiplied_angle(dot, length, self.margin, decay, eps=COSINE_EPS))

    def margin_scores(self, x: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        """Return what the softmax gets, (N, C): Caffe's MarginInnerProduct."""
        rows, column = unit(weight, self.eps), labels[:, None]
        if not self.exact_gradient:
            rows = straight_through(weight, rows)
        scores = x @ rows.t()
        published = None if self.exact_gradient or self.margin == 1 else (x, rows.index_select(0, labels))
        decay, dot = self.annealing.current(x.dtype), scores.gather(1, column)
        target = multiplied_angle(dot, row_lengths(x), self.margin, decay, eps=COSINE_EPS, published=published)
        return scores.scatter(1, column, target)

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ unit(weight, self.eps).t()

    def extra_repr(self) -> str:
        gradient = "" if self.exact_gradient else ", published gradient"
        return f"{super().extra_repr()}, margin {self.margin}, lambda {self.annealing.extra_repr()}{gradient}"


def row_lengths(x: Tensor) -> Tensor:
    """|x_i|, (N, 1); its gradient at a row of zeros is 0."""
    return torch.linalg.vector_norm(x, dim=1, keepdim=True)


def checked_multiple(loss: FaceLoss, margin: int) -> int:
    if isinstance(margin, bool) or margin not in (1, 2, 3, 4):
        raise TrainingError(f"{type(loss).__name__}: expected a margin of 1, 2, 3 or 4, got {margin!r}")
    return int(margin)
