"""The updates of the weights by an iteration's gradients, with Caffe's arithmetic: one function a solver type.

Source: BVLC/caffe, solvers/*.cpp. Unlike in torch.optim, momentum carries the learning rate: the history is what
was subtracted from the weights, so a rate that drops leaves the steps before as they were. The order is Caffe's:
clip the summed gradients, divide by iter_size, add the decay, then the type's own step.

w weight, g gradient, h and k history, r = rate * lr_mult. Blobs of one lr_mult and decay_mult form a group, whose
tensors are updated together by torch's multi-tensor operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import TrainingError
from .fields import SolverParameter


@dataclass
class Group:
    """Blobs that share their multipliers, and their histories (``second`` is empty for types with one)."""

    lr_mult: float
    decay_mult: float
    weights: list[Tensor] = field(default_factory=list)
    history: list[Tensor] = field(default_factory=list)
    second: list[Tensor] = field(default_factory=list)

    def gradients(self) -> list[Tensor]:
        """Return the weights' gradients; zeros where the loss leaves one out; decay and momentum still move it."""
        for weight in self.weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        return [weight.grad for weight in self.weights]  # type: ignore[misc]


class Update:
    """The update of one solver; holds the histories.

    blobs: (weight, lr_mult, decay_mult) of every blob that is trained; a blob with lr_mult 0 stays as it is.
    """

    def __init__(self, parameters: SolverParameter, blobs: Sequence[tuple[Tensor, float, float]]) -> None:
        self.parameters = parameters
        self.step = STEPS[parameters.type]
        self.two_histories = parameters.type in TWO_HISTORIES
        groups: dict[tuple[float, float], Group] = {}
        for weight, lr_mult, decay_mult in blobs:
            group = groups.setdefault((lr_mult, decay_mult), Group(lr_mult, decay_mult))
            group.weights.append(weight)
            group.history.append(torch.zeros_like(weight))
            if self.two_histories:
                group.second.append(torch.zeros_like(weight))
        self.groups = list(groups.values())

    def histories(self) -> dict[Tensor, list[Tensor]]:
        """{weight: its one or two histories}"""
        return {
            weight: [kept[i] for kept in (group.history, group.second) if kept]
            for group in self.groups
            for i, weight in enumerate(group.weights)
        }

    @torch.no_grad()
    def apply(self, rate: float, iteration: int) -> None:
        """Change the weights by their gradients (``.grad``, summed over iter_size batches); these are used up."""
        p = self.parameters
        gradients = [group.gradients() for group in self.groups]
        factor = self._clip(gradients) / p.iter_size
        for group, found in zip(self.groups, gradients, strict=True):
            self.step(p, group, found, factor, rate * group.lr_mult, p.weight_decay * group.decay_mult, iteration)

    def _clip(self, gradients: list[list[Tensor]]) -> float:
        """Return the factor of the gradients so that their L2 norm, over all blobs, is clip_gradients at most."""
        most = self.parameters.clip_gradients
        if most < 0 or not gradients:
            return 1.0
        norms = [norm for found in gradients for norm in torch._foreach_norm(found)]
        norm = float(torch.linalg.vector_norm(torch.stack(norms)))
        return most / norm if norm > most else 1.0


Step = Callable[[SolverParameter, Group, list[Tensor], float, float, float, int], None]
"""(parameters, group, g, factor, r, decay, iteration): change the group's weights."""


def regularised(p: SolverParameter, group: Group, g: list[Tensor], factor: float, decay: float) -> list[Tensor]:
    """g = factor g + decay w, or + decay sign(w) with L1; in place."""
    if factor != 1:
        torch._foreach_mul_(g, factor)
    if decay:
        towards = group.weights if p.regularization_type == "L2" else torch._foreach_sign(group.weights)
        torch._foreach_add_(g, towards, alpha=decay)
    return g


def sgd(p: SolverParameter, group: Group, g: list[Tensor], factor: float, r: float, decay: float, t: int) -> None:
    """h = momentum h + r g; w -= h"""
    g = regularised(p, group, g, factor, decay)
    torch._foreach_mul_(group.history, p.momentum)
    torch._foreach_add_(group.history, g, alpha=r)
    torch._foreach_sub_(group.weights, group.history)


def nesterov(p: SolverParameter, group: Group, g: list[Tensor], factor: float, r: float, decay: float, t: int) -> None:
    """h' = momentum h + r g; w -= (1 + momentum) h' - momentum h"""
    g = regularised(p, group, g, factor, decay)
    torch._foreach_add_(group.weights, group.history, alpha=p.momentum)
    torch._foreach_mul_(group.history, p.momentum)
    torch._foreach_add_(group.history, g, alpha=r)
    torch._foreach_add_(group.weights, group.history, alpha=-(1 + p.momentum))


def adagrad(p: SolverParameter, group: Group, g: list[Tensor], factor: float, r: float, decay: float, t: int) -> None:
    """h += g^2; w -= r g / (sqrt(h) + delta)"""
    g = regularised(p, group, g, factor, decay)
    torch._foreach_addcmul_(group.history, g, g)
    _divide(p, group, g, r, group.history)


def rmsprop(p: SolverParameter, group: Group, g: list[Tensor], factor: float, r: float, decay: float, t: int) -> None:
    """h = rms_decay h + (1 - rms_decay) g^2; w -= r g / (sqrt(h) + delta)"""
    g = regularised(p, group, g, factor, decay)
    _average(group.history, p.rms_decay, g)
    _divide(p, group, g, r, group.history)


def adadelta(p: SolverParameter, group: Group, g: list[Tensor], factor: float, r: float, decay: float, t: int) -> None:
    """h = m h + (1 - m) g^2; d = g sqrt((k + delta) / (h + delta)); k = m k + (1 - m) d^2; w -= r d; m = momentum"""
    g = regularised(p, group, g, factor, decay)
    _average(group.history, p.momentum, g)
    ratio = torch._foreach_add(group.second, p.delta)
    torch._foreach_div_(ratio, torch._foreach_add(group.history, p.delta))
    torch._foreach_sqrt_(ratio)
    torch._foreach_mul_(g, ratio)
    _average(group.second, p.momentum, g)
    torch._foreach_add_(group.weights, g, alpha=-r)


def adam(p: SolverParameter, group: Group, g: list[Tensor], factor: float, r: float, decay: float, t: int) -> None:
    """h = m h + (1 - m) g; k = m2 k + (1 - m2) g^2; w -= r c h / (sqrt(k) + delta), c = sqrt(1 - m2^n) / (1 - m^n);
    m = momentum, m2 = momentum2, n = t + 1"""
    g = regularised(p, group, g, factor, decay)
    torch._foreach_mul_(group.history, p.momentum)
    torch._foreach_add_(group.history, g, alpha=1 - p.momentum)
    _average(group.second, p.momentum2, g)
    try:
        correction = math.sqrt(1 - p.momentum2 ** (t + 1)) / (1 - p.momentum ** (t + 1))
    except (ArithmeticError, ValueError) as error:  # NaN in Caffe, and so are the weights from then on
        raise TrainingError(
            f"iteration {t}: type Adam has no step with momentum {p.momentum:g} and momentum2 {p.momentum2:g}; "
            "expected both in [0, 1)"
        ) from error
    _divide(p, group, group.history, r * correction, group.second)


def _average(squares: list[Tensor], kept: float, g: list[Tensor]) -> None:
    """squares = kept squares + (1 - kept) g^2"""
    torch._foreach_mul_(squares, kept)
    torch._foreach_addcmul_(squares, g, g, value=1 - kept)


def _divide(p: SolverParameter, group: Group, step: list[Tensor], r: float, squares: list[Tensor]) -> None:
    """w -= r step / (sqrt(squares) + delta); delta stands outside the root"""
    divisor = torch._foreach_sqrt(squares)
    torch._foreach_add_(divisor, p.delta)
    torch._foreach_addcdiv_(group.weights, step, divisor, value=-r)


STEPS: dict[str, Step] = {
    "SGD": sgd,
    "Nesterov": nesterov,
    "AdaGrad": adagrad,
    "RMSProp": rmsprop,
    "AdaDelta": adadelta,
    "Adam": adam,
}
TWO_HISTORIES = ("AdaDelta", "Adam")
