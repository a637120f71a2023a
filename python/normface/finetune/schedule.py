"""Parameter groups, and the learning rate of every step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from caffeport import Param
from torch import nn

from ..losses import CenterLoss
from ..parallel import ClassParallel, RowSGD
from .backbone import Backbone, Trunk
from .config import Config


def factor(config: Config, step: int, steps: int) -> float:
    """Return the factor of all learning rates in step ``step``, 0 to ``steps`` - 1.

    Linear warm-up, w steps: (step + 1) / w. Then, with t = (step - w) / (steps - w):
    cosine (1 + cos(pi t)) / 2; step gamma^(milestones passed); constant 1.
    """
    warmup = in_steps(config.warmup, steps)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "cosine":
        return (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))) / 2
    if config.schedule == "step":
        return config.gamma ** sum(step >= in_steps(at, steps) for at in config.milestones)
    return 1.0


def in_steps(number: float, steps: int) -> int:
    """A share of the run (below 1) or a count of steps, as steps."""
    return round(number * steps) if number < 1 else round(number)


def optimizers(
    config: Config, backbone: Backbone, trunk: Trunk, loss: nn.Module, sampled: ClassParallel | None = None
) -> list[torch.optim.Optimizer]:  # fmt: skip
    """SGD or AdamW over the net (by the text's lr_mult and decay_mult), the class weights, the scale, the centers.

    Where ``sampled`` chooses the classes of a step, RowSGD steps the class weights, and the other one all else, if any.
    A group's ``base_lr`` is what the schedule's factor is applied to. What has lr 0 is not trained at all.
    """
    groups = [group for group in _groups(config, backbone, trunk, loss) if group["lr"] > 0]
    for group in groups:
        # With SGD the centers' gradient is a step by itself, without a past: the paper's alpha is a rate that stays.
        group["scheduled"] = group["part"] != "centers" or config.optimizer != "sgd"
        group["base_lr"] = group["lr"]
        if not group["scheduled"]:
            group["momentum"] = 0.0
    if config.optimizer == "adamw":
        return [torch.optim.AdamW(groups, betas=(config.momentum, 0.999))]
    if sampled is None:
        return [torch.optim.SGD(groups, momentum=config.momentum)]
    (head,) = (group for group in groups if group["part"] == "head")
    rows = RowSGD(sampled, head["lr"], momentum=config.momentum, weight_decay=head["weight_decay"])
    rows.param_groups[0] |= {key: one for key, one in head.items() if key != "params"}
    others = [group for group in groups if group is not head]
    return [*([torch.optim.SGD(others, momentum=config.momentum)] if others else []), rows]


def set_rates(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Give all that the schedule is of its learning rate, times ``factor``."""
    for one in optimizers:
        for group in one.param_groups:
            group["lr"] = group["base_lr"] * (factor if group["scheduled"] else 1)


def stepped_centers(loss: nn.Module) -> list[CenterLoss]:
    """The center losses whose centers move by a rule of their own instead of the derivative."""
    return [m for m in loss.modules() if isinstance(m, CenterLoss) and m.center_step != "derivative"]


def _groups(config: Config, backbone: Backbone, trunk: Trunk, loss: nn.Module) -> list[dict[str, Any]]:
    groups: dict[tuple[str, float, float], list[nn.Parameter]] = {}
    texts: Mapping[str, Param] = backbone.multipliers()
    behind = backbone.layers_behind()
    for name, parameter in trunk.named_blobs():
        text = texts[name]
        rate, decay = (text.lr_mult, text.decay_mult) if config.net_multipliers else (1.0, 1.0)
        layer = name.removeprefix(Trunk.PREFIX).rpartition(".")[0]
        part = "new" if layer in backbone.new_layers else "net"
        rate *= config.new_lr_mult if part == "new" else config.layer_decay ** behind[name]
        groups.setdefault((part, rate, decay), []).append(parameter)
    centers = {id(center.weight) for center in stepped_centers(loss)}
    own_rate = config.center_lr / config.lr if config.optimizer == "sgd" else config.head_lr_mult
    for parameter in loss.parameters():
        if id(parameter) in centers:
            groups.setdefault(("centers", own_rate, 0.0), []).append(parameter)
            continue
        # Class weights are matrices; a scale is a number, and pulling it to 0 would undo what it learns.
        kind = ("head", config.head_lr_mult, 1.0) if parameter.dim() > 1 else ("scale", config.scale_lr_mult, 0.0)
        groups.setdefault(kind, []).append(parameter)
    for (_, rate, _), parameters in groups.items():
        for parameter in parameters:
            parameter.requires_grad_(parameter.requires_grad and rate > 0)
    return [
        {
            "params": [parameter for parameter in parameters if parameter.requires_grad],
            "lr": config.lr * rate,
            "weight_decay": config.weight_decay * decay,
            "part": part,
        }
        for (part, rate, decay), parameters in groups.items()
        if any(parameter.requires_grad for parameter in parameters)
    ]
