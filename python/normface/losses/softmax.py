"""The softmax losses: plain, on scaled cosines (NormFace), and on features of one length (L2-constrained)."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import l2_softmax_lower_alpha, scale_for_loss
from ..errors import TrainingError
from ..heads import UNIT_EPS, cosines, unit, unit_ball_, xavier_
from .annealing import MarginWarmup
from .base import FaceLoss, SoftmaxOptions
from .cosine_softmax import cosine_softmax_losses
from .row_formulas import SoftmaxOf, same_scores, softmax_losses
from .rows import row_losses
from .scale import LEARNED, at_least, register_scale

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SoftmaxLoss(FaceLoss):
    """-1/N sum_i log softmax(W x_i + b)_{y_i}: Caffe's InnerProduct and SoftmaxWithLoss.

    bias: False, as NormFace advises: softmax spreads features radially, and a bias lets classes differ by their
    features' length, so that neither Euclidean distance nor cosine measures likeness well.
    """

    options = SoftmaxOptions
    bias: nn.Parameter | None

    def __init__(
        self, num_classes: int, embedding_size: int, *, bias: bool = False, **options: Unpack[SoftmaxOptions]
    ) -> None:
        super().__init__(num_classes, embedding_size, xavier_, **options)
        self.register_parameter("bias", zero_bias(self.weight) if bias else None)

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        if self.shard is None:
            return softmax_losses(self.scores(x, weight), labels, self.label_smoothing)
        formula = SoftmaxOf(same_scores, self.label_smoothing)
        return row_losses(x, weight, labels, formula, eps=None, bias=self.bias, shard=self.shard)

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight, None if self.bias is None else self.bias.to(x.dtype))


class NormalizedSoftmaxLoss(FaceLoss):
    """-1/N sum_i log softmax(s cos(x_i, W_j))_{y_i}, without bias: NormFace (Wang et al. 2017).

    On C classes and s = 1 the loss stays above bounds.softmax_lower_bound(C, 1), which for many classes is little
    below that of chance: training stalls. A larger scale is the way out; a small one acts as a margin, since a
    label's score that is a little ahead is not enough yet.

    scale: a fixed number, or "learned" from initial_scale on (the default; 10 in NormFace); ``loss.scale``.
    target_loss: the scale for which the bound is this loss (bounds.scale_for_loss): fixed there, or with
        scale="learned" the start.
    min_scale: a learned scale acts as this where it is below (Caffe's Scale min_value, 0.01 in NormFace); unlike
        there, the stored number is left as it is.
    eps: under the root of every length.

    >>> NormalizedSoftmaxLoss(10575, 512, target_loss=0.1)
    NormalizedSoftmaxLoss(10575 classes, 512 features, fixed scale 11.52)
    """

    options = SoftmaxOptions
    scale: Tensor  # 0-D: a parameter if learned, else a buffer

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float | str | None = None, *,
        initial_scale: float = 10.0, min_scale: float = 0.01, target_loss: float | None = None, eps: float = UNIT_EPS,
        **options: Unpack[SoftmaxOptions],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, **options)
        if target_loss is not None:
            if scale not in (None, LEARNED):
                raise TrainingError("NormalizedSoftmaxLoss: expected a scale or a target_loss, got both")
            initial_scale = scale_for_loss(self.num_classes, target_loss)
            if initial_scale < min_scale:
                raise TrainingError(
                    f"NormalizedSoftmaxLoss: a target_loss of {target_loss} takes a scale of {initial_scale:.3g}, "
                    f"below the min_scale of {min_scale}; ask for a lower loss"
                )
            scale = initial_scale if scale is None else LEARNED
        register_scale(self, "scale", LEARNED if scale is None else scale, initial_scale)
        self.min_scale, self.eps = min_scale, eps

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        x, scale = unit(x, self.eps), self._scale(x)
        return cosine_softmax_losses(
            x, weight, scale, labels, self.eps, smoothing=self.label_smoothing, shard=self.shard
        )

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return self._scale(x) * cosines(x, weight, self.eps)

    def _scale(self, x: Tensor) -> Tensor:
        scale = self.scale.to(x.dtype)
        return at_least(scale, self.min_scale) if isinstance(self.scale, nn.Parameter) else scale

    def extra_repr(self) -> str:
        kind = "learned" if isinstance(self.scale, nn.Parameter) else "fixed"
        return f"{super().extra_repr()}, {kind} scale {self.scale.item():.4g}"


class PositiveScaleSoftmaxLoss(FaceLoss):
    """Softmax loss on s cos(x, W_j), the label's cosine times ``positive_scale``: NormFace's slides (0.75 at s = 15).

    Below 1 it acts as a margin: the label's score cannot exceed positive_scale s, and has to beat the others'
    all the same. A negative cosine comes nearer to 0 by it, so a hopeless sample is pulled less;
    positive_only leaves those cosines alone (LabelSpecificRescale's for_ip). margin_warmup: positive_scale comes
    from 1 over so many steps. eps: under the root of every length.
    """

    options = SoftmaxOptions
    scale: Tensor  # 0-D

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 15.0, positive_scale: float = 0.75, *,
        positive_only: bool = False, margin_warmup: int = 0, eps: float = UNIT_EPS, **options: Unpack[SoftmaxOptions],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, unit_ball_, **options)
        register_scale(self, "scale", scale, scale)
        if not (math.isfinite(positive_scale) and positive_scale > 0):
            raise TrainingError(f"PositiveScaleSoftmaxLoss: expected a positive_scale above 0, got {positive_scale}")
        self.positive_scale, self.positive_only, self.eps = positive_scale, positive_only, eps
        self.warmup = MarginWarmup(margin_warmup, self.weight.device)

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        x, scale = unit(x, self.eps), self.scale.to(x.dtype)
        psi = partial(self.psi, positive_scale=self.warmup.of(self.positive_scale, 1.0))
        losses = cosine_softmax_losses(
            x, weight, scale, labels, self.eps, psi, smoothing=self.label_smoothing, shard=self.shard
        )
        return self.warmup.counting(losses)

    def psi(self, cosine: Tensor, positive_scale: float | Tensor) -> tuple[Tensor, Tensor]:
        slope = torch.ones_like(cosine) * positive_scale
        if self.positive_only:
            slope = torch.where(cosine > 0, slope, 1.0)
        return slope * cosine, slope

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.scale.to(x.dtype) * cosines(x, weight, self.eps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale {self.scale.item():.4g}, the label's times {self.positive_scale}"


class L2SoftmaxLoss(FaceLoss):
    """-1/N sum_i log softmax(W alpha x_i/|x_i| + b)_{y_i}: the L2-constrained softmax loss of Ranjan et al. 2017.

    The class weights keep their lengths.

    alpha: the features' common length, a fixed number (the paper's better choice) or "learned" from
        initial_alpha on; ``loss.alpha``, ``loss.scale``.
    target_probability: alpha is the least that lets the label's class get this probability
        (bounds.l2_softmax_lower_alpha): fixed there, or with alpha="learned" the start.
    bias: the paper has one; False here, see SoftmaxLoss. eps: under the root of a feature's length.
    """

    options = SoftmaxOptions
    alpha: Tensor  # 0-D: a parameter if learned, else a buffer
    bias: nn.Parameter | None

    def __init__(
        self, num_classes: int, embedding_size: int, alpha: float | str | None = None, *,
        initial_alpha: float = 16.0, target_probability: float | None = None, bias: bool = False,
        eps: float = UNIT_EPS, **options: Unpack[SoftmaxOptions],
    ) -> None:  # fmt: skip
        super().__init__(num_classes, embedding_size, xavier_, **options)
        if target_probability is not None:
            if alpha not in (None, LEARNED):
                raise TrainingError("L2SoftmaxLoss: expected an alpha or a target_probability, got both")
            initial_alpha = l2_softmax_lower_alpha(self.num_classes, target_probability)
        register_scale(self, "alpha", initial_alpha if alpha is None else alpha, initial_alpha)
        self.register_parameter("bias", zero_bias(self.weight) if bias else None)
        self.eps = eps

    @property
    def scale(self) -> Tensor:
        """Return ``alpha``, by the name that the other losses have for it."""
        return self.alpha

    def each(self, x: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
        formula = SoftmaxOf(same_scores, self.label_smoothing)
        x = self.alpha.to(x.dtype) * unit(x, self.eps)
        return row_losses(x, weight, labels, formula, eps=None, bias=self.bias, shard=self.shard)

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(self.alpha.to(x.dtype) * unit(x, self.eps), weight, bias)

    def extra_repr(self) -> str:
        kind = "learned" if isinstance(self.alpha, nn.Parameter) else "fixed"
        return f"{super().extra_repr()}, {kind} alpha {self.alpha.item():.4g}"


def zero_bias(weight: Tensor) -> nn.Parameter:
    """One 0 a class, of the weight's dtype and device."""
    return nn.Parameter(weight.new_zeros(len(weight)))
