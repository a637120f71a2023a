"""The least that a softmax loss on bounded scores can be, and the scale that it takes to go lower.

Unit features and unit class weights give cosines, and s times a cosine stays within [-s, s]. However well
the n classes lie, the softmax loss on such scores stays above a bound: NormFace (Wang et al. 2017),
proposition 2, whose l^2 is the scale s here. Imports no torch.
"""

from __future__ import annotations

import math
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import TrainingError

__all__ = ["l2_softmax_lower_alpha", "scale_for_loss", "softmax_lower_bound"]


@overload
def softmax_lower_bound(num_classes: int, scale: float) -> float: ...
@overload
def softmax_lower_bound(num_classes: int, scale: ArrayLike) -> float | NDArray[np.float64]: ...
def softmax_lower_bound(num_classes: int, scale: ArrayLike) -> float | NDArray[np.float64]:
    """Return log(1 + (n-1) exp(-s n / (n-1))): no softmax loss on s times cosines of n classes can be lower.

    That is the mean over the classes, all of them as frequent. It is reached where every feature lies on its
    class's weight and the weights form a regular simplex (which takes n-1 dimensions or more). 10,575 classes and
    s = 1: 8.27, where log n, the loss of equal scores, is 9.27. One class: 0, since there is nothing to tell apart.

    scale: 0 or more; an array gives an array. Raises TrainingError for fewer than one class, and for a scale
    that is negative or no number.

    >>> round(softmax_lower_bound(10575, 1.0), 2), round(softmax_lower_bound(10575, 30.0), 4)
    (8.27, 0.0)
    """
    n = _count(num_classes, least=1)
    scales = np.asarray(scale, dtype=np.float64)
    if not (scales >= 0).all():
        raise TrainingError(f"expected a scale of 0 or more, got {scale!r}")
    if n == 1:
        return 0.0 if scales.ndim == 0 else np.zeros_like(scales)
    # log(1 + exp(x)) without overflow, and without losing a small exp(x) beside the 1.
    bound = np.logaddexp(0.0, math.log(n - 1) - scales * (n / (n - 1)))
    return float(bound) if bound.ndim == 0 else bound


def scale_for_loss(num_classes: int, target_loss: float) -> float:
    """Return the scale whose ``softmax_lower_bound`` is ``target_loss``: s = (n-1)/n log((n-1) / (exp(L) - 1)).

    A loss of L can be reached with this scale or a larger one. Raises TrainingError for fewer than two
    classes, for L <= 0, which no scale reaches, and for L > log n, which needs no scale at all.

    >>> round(scale_for_loss(10575, 0.1), 2)
    11.52
    """
    n = _count(num_classes, least=2)
    loss = float(target_loss)
    if not loss > 0:
        raise TrainingError(f"expected a target loss above 0, which no finite scale reaches, got {target_loss}")
    if loss > math.log(n):
        raise TrainingError(
            f"expected a target loss of at most log {n} = {math.log(n):.4g}, which equal scores have, got {target_loss}"
        )
    log_odds = loss + math.log(-math.expm1(-loss))  # log(exp(L) - 1)
    return max((n - 1) / n * (math.log(n - 1) - log_odds), 0.0)


def l2_softmax_lower_alpha(num_classes: int, probability: float) -> float:
    """Return log(p (C-2) / (1-p)), the least feature length with which the label's class can get probability p.

    On average over the classes, of unit weights spread over the sphere: Ranjan et al. 2017, "L2-constrained softmax
    loss".

    Raises TrainingError for fewer than three classes, and for a p outside (0, 1) or so low that any length will do.

    >>> round(l2_softmax_lower_alpha(10575, 0.9), 2)
    11.46
    """
    n = _count(num_classes, least=3)
    if not 0 < probability < 1:
        raise TrainingError(f"expected a probability between 0 and 1, got {probability}")
    alpha = math.log(n - 2) + math.log(probability) - math.log1p(-probability)
    if alpha <= 0:
        raise TrainingError(
            f"a probability of {probability} of {n} classes has no lower bound above 0; ask for a higher one"
        )
    return alpha


def _count(num_classes: int, least: int) -> int:
    if isinstance(num_classes, bool) or int(num_classes) != num_classes or num_classes < least:
        raise TrainingError(f"expected {least} or more classes, a whole number, got {num_classes!r}")
    return int(num_classes)
