"""Losses by the names that the command line has for them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypedDict

from ..errors import TrainingError, did_you_mean
from ..loss_names import parse
from .adaptive import AdaFaceLoss, MagFaceLoss
from .additive_margin import AMSoftmaxLoss, ArcFaceLoss
from .agents import CContrastiveLoss, CTripletLoss
from .base import FaceLoss
from .center import CenterLoss
from .combined_margin import CombinedMarginLoss
from .curricular import CurricularFaceLoss
from .elastic import ElasticFaceLoss
from .multiplied_angle import LargeMarginSoftmaxLoss, SphereFaceLoss
from .regularisers import MHELoss, RingLoss
from .softmax import L2SoftmaxLoss, NormalizedSoftmaxLoss, PositiveScaleSoftmaxLoss, SoftmaxLoss
from .sphereface2 import SphereFace2Loss
from .sub_center import SubCenterArcFaceLoss
from .sums import Loss, WeightedSum
from .support_vector import SVXSoftmaxLoss

if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack

    from .class_shard import ClassShard

LOSSES: dict[str, type[FaceLoss]] = {
    "softmax": SoftmaxLoss,
    "normalized-softmax": NormalizedSoftmaxLoss,
    "positive-scale-softmax": PositiveScaleSoftmaxLoss,
    "l2-softmax": L2SoftmaxLoss,
    "am-softmax": AMSoftmaxLoss,
    "arcface": ArcFaceLoss,
    "large-margin-softmax": LargeMarginSoftmaxLoss,
    "sphereface": SphereFaceLoss,
    "c-contrastive": CContrastiveLoss,
    "c-triplet": CTripletLoss,
    "center": CenterLoss,
    "combined-margin": CombinedMarginLoss,
    "sv-x-softmax": SVXSoftmaxLoss,
    "curricularface": CurricularFaceLoss,
    "magface": MagFaceLoss,
    "adaface": AdaFaceLoss,
    "sphereface2": SphereFace2Loss,
    "sub-center-arcface": SubCenterArcFaceLoss,
    "elasticface": ElasticFaceLoss,
}

REGULARISERS: dict[str, type[FaceLoss]] = {"ring": RingLoss, "mhe": MHELoss}
"""What is added to one of LOSSES and is nothing alone."""


class LossOptions(TypedDict, total=False):
    """Every option that some loss has; what it means there, and its default, is in the loss's docstring."""

    above_margin_only: bool
    add_center_loss: bool
    alpha: float | str | None
    balance: float
    base: float
    beyond: str
    bias: bool
    center_step: str
    device: torch.device | str | None
    dtype: torch.dtype | None
    easy: bool
    eps: float
    exact_gradient: bool
    exp_negative_weight: bool
    gamma: float
    h: float
    half_space: bool
    hardest_only: bool
    ignore_index: int | None
    initial_alpha: float
    initial_scale: float
    label_smoothing: float
    lambda_g: float
    lambda_min: float
    least_margin: float
    longest: float
    m1: float
    m2: float
    m3: float
    margin: float | None
    margin_on: str
    margin_warmup: int
    max_negative_only: bool
    max_positive_only: bool
    min_scale: float
    momentum: float
    most_margin: float
    negative_margin: float
    negative_weight: float
    over: str
    positive_first: bool
    positive_margin: float
    positive_only: bool
    positive_outlier_thresh: float
    positive_scale: float
    positive_upper_bound: float
    positive_weight: float
    power: float
    radius: float | None
    reduction: str
    scale: float | str | None
    seed: int
    shard: ClassShard | None
    shortest: float
    std: float
    sub_centers: int
    t: float
    target_loss: float | None
    target_probability: float | None


def make(
    name: str, num_classes: int, embedding_size: int, *, share_weight: bool = False, **options: Unpack[LossOptions]
) -> Loss:
    """Return the loss of that name, or a sum of them: ``make("softmax+0.01*c-contrastive", 1500, 512)``.

    share_weight: the losses of a sum have one class weight, the first one's, rather than one each.
    options: the loss's own; in a sum each goes to every loss that has it.

    Raises TrainingError for names, options and factors that make no loss.

    >>> make("arcface", 1500, 512, margin=0.4)
    ArcFaceLoss(1500 classes, 512 features, scale 64, margin 0.4)
    >>> make("softmax+0.008*center", 7, 32)
    SoftmaxLoss(7 classes, 32 features) + 0.008 * CenterLoss(7 classes, 32 features, center step paper)
    """
    kinds = LOSSES | REGULARISERS
    terms = [(factor, kinds[term]) for factor, term in parse(name)]
    taken = [_options_of(kind) for _, kind in terms]
    for option in options:
        if not any(option in known for known in taken):
            every = sorted(set().union(*taken))
            raise TrainingError(
                f"the loss {name} has no option {option}{did_you_mean(option, every)}; it has {', '.join(every)}"
            )
    losses: list[tuple[float, FaceLoss]] = []
    for (factor, kind), known in zip(terms, taken, strict=True):
        own: dict[str, Any] = {option: value for option, value in options.items() if option in known}
        try:
            losses.append((factor, kind(num_classes, embedding_size, **own)))
        except TypeError as error:  # text where a number belongs, say, from a configuration file
            raise TrainingError(f"the options {own} do not fit {kind.__name__}: {error}") from error
    return losses[0][1] if len(losses) == 1 and losses[0][0] == 1 else WeightedSum(losses, share_weight=share_weight)


def _options_of(kind: type[FaceLoss]) -> set[str]:
    own = set(inspect.signature(kind.__init__).parameters) - {"self", "num_classes", "embedding_size", "options"}
    return own | set(kind.options.__annotations__)
