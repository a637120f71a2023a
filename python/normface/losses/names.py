"""Losses by the names that the command line has for them."""

from __future__ import annotations

import inspect
from typing import Any

from ..errors import TrainingError, did_you_mean
from ..loss_names import parse
from .additive_margin import AMSoftmaxLoss, ArcFaceLoss
from .agents import CContrastiveLoss, CTripletLoss
from .base import FaceLoss, Loss, WeightedSum
from .center import CenterLoss
from .multiplied_angle import LargeMarginSoftmaxLoss, SphereFaceLoss
from .softmax import L2SoftmaxLoss, NormalizedSoftmaxLoss, PositiveScaleSoftmaxLoss, SoftmaxLoss

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
}


def make(name: str, num_classes: int, embedding_size: int, *, share_weight: bool = False, **options: Any) -> Loss:
    """The loss of that name, or a sum of them: ``make("softmax+0.01*c-contrastive", 1500, 512)``.

    share_weight: the losses of a sum have one class weight, the first one's, rather than one each.
    options: the loss's own; in a sum each goes to every loss that has it. Raises TrainingError for names, options
    and factors that make no loss.
    """
    terms = [(factor, LOSSES[term]) for factor, term in parse(name)]
    taken = [_options_of(kind) for _, kind in terms]
    for option in options:
        if not any(option in known for known in taken):
            every = sorted(set().union(*taken))
            raise TrainingError(
                f"the loss {name} has no option {option}{did_you_mean(option, every)}; it has {', '.join(every)}"
            )
    made = []
    for (factor, kind), known in zip(terms, taken, strict=True):
        own = {option: value for option, value in options.items() if option in known}
        try:
            made.append((factor, kind(num_classes, embedding_size, **own)))
        except TypeError as error:  # text where a number belongs, say, from a configuration file
            raise TrainingError(f"the options {own} do not fit {kind.__name__}: {error}") from error
    return made[0][1] if len(made) == 1 and made[0][0] == 1 else WeightedSum(made, share_weight=share_weight)


def _options_of(kind: type[FaceLoss]) -> set[str]:
    return set(inspect.signature(kind.__init__).parameters) - {"self", "num_classes", "embedding_size"}
