"""Caffe's learning rate policies. Source: BVLC/caffe, solvers/sgd_solver.cpp, GetLearningRate."""

from __future__ import annotations

import math

from ..errors import TrainingError
from .fields import SolverParameter

POLICIES = {
    "fixed": "base_lr",
    "step": "base_lr * gamma ^ floor(t / stepsize)",
    "exp": "base_lr * gamma ^ t",
    "inv": "base_lr * (1 + gamma * t) ^ -power",
    "multistep": "base_lr * gamma ^ (how many stepvalues are behind t)",
    "poly": "base_lr * (1 - t / max_iter) ^ power",
    "sigmoid": "base_lr / (1 + exp(-gamma * (t - stepsize)))",
}
"""lr_policy -> the rate of iteration t, counted from 0."""


def current_step(p: SolverParameter, iteration: int, step: int) -> int:
    """Return how many times the rate has dropped: Caffe's current_step, ``step`` being that of the iteration before.

    With multistep it grows by at most one an iteration, whatever the stepvalues are.
    """
    if p.lr_policy == "step":
        return iteration // p.stepsize
    if p.lr_policy == "multistep" and step < len(p.stepvalue) and iteration >= p.stepvalue[step]:
        return step + 1
    return step


def learning_rate(p: SolverParameter, iteration: int, step: int) -> float:
    """The rate of an iteration; raises TrainingError where the policy has none (poly beyond max_iter, overflow)."""
    try:
        rate = p.base_lr * _factor(p, iteration, step)
    except (OverflowError, ZeroDivisionError):
        rate = math.nan
    if isinstance(rate, complex) or not math.isfinite(rate):
        beyond = " beyond max_iter" if p.lr_policy == "poly" and iteration > p.max_iter else ""
        raise TrainingError(f"iteration {iteration}: lr_policy {p.lr_policy} has no learning rate{beyond}")
    return rate


def _factor(p: SolverParameter, iteration: int, step: int) -> float:
    if p.lr_policy in ("step", "multistep"):
        return p.gamma**step
    if p.lr_policy == "exp":
        return p.gamma**iteration
    if p.lr_policy == "inv":
        return (1 + p.gamma * iteration) ** -p.power
    if p.lr_policy == "poly":
        return (1 - iteration / p.max_iter) ** p.power
    if p.lr_policy == "sigmoid":
        return 1 / (1 + math.exp(min(-p.gamma * (iteration - p.stepsize), 700.0)))  # exp(710) overflows
    return 1.0
