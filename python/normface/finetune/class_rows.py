"""Class weights of a run whose rows are shared among its ranks (--class-parallel): a rank's own, of all.

What a run without --class-parallel wrote holds all of them, and is gone on with by one that shares them, on any number
of devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import losses
from ..losses.class_shard import ClassShard
from ..parallel.layout import Layout, class_axis


def shard_of(loss: nn.Module) -> ClassShard | None:
    """Return which rows this rank has of a loss, or of the losses of a sum; None for all."""
    return next((one.shard for one in loss.modules() if isinstance(one, losses.FaceLoss)), None)


def sharded(loss: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a loss of which each rank has rows of its own."""
    if shard_of(loss) is None:
        return {}
    named = loss.named_parameters(remove_duplicate=False)  # losses of a sum may share one, which then has two names
    return {name: one for name, one in named if class_axis(name, one) is not None}


def own_states(
    states: Mapping[str, Mapping[str, Tensor]], modules: Mapping[str, nn.Module]
) -> dict[str, dict[str, Tensor]]:  # fmt: skip
    """The states of modules with this rank's rows, from those with all."""
    layout = Layout.of(modules)
    return {
        name: {key: _own(one, layout.axis(f"{name}.{key}", one), layout.shard) for key, one in states[name].items()}
        for name in modules
    }


def own_optimizer(state: dict[str, Any], optimizer: torch.optim.Optimizer, loss: nn.Module) -> dict[str, Any]:
    """The state of an optimizer with this rank's rows, from one with all."""
    shard = shard_of(loss)
    axes = {id(one): class_axis(name, one) for name, one in sharded(loss).items()}
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    changed = {}
    for number, entries in state["state"].items():
        one = parameters[number]
        alike = {key: value for key, value in entries.items() if getattr(value, "ndim", -1) == one.dim()}
        axis = axes.get(id(one))
        changed[number] = entries | {key: _own(value, axis, shard) for key, value in alike.items()}
    return state | {"state": changed}


def _own(tensor: Tensor, axis: int | None, shard: ClassShard | None) -> Tensor:
    if shard is None or axis is None:
        return tensor
    return shard.own_rows(tensor.movedim(axis, 0)).movedim(0, axis).clone()  # so that the whole is let go
