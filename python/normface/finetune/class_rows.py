"""Class weights of a run whose rows are shared among its ranks (--class-parallel), and the whole of them.

A checkpoint and the exported head hold them whole, so that a run is resumed on any number of devices, with or without
--class-parallel, and the leading rank measures a model as it does in other runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import losses
from ..losses.class_shard import ClassShard
from ..parallel.layout import class_axis


def shard_of(loss: nn.Module) -> ClassShard | None:
    """Return which rows this rank has of a loss, or of the losses of a sum; None for all."""
    return next((one.shard for one in loss.modules() if isinstance(one, losses.FaceLoss)), None)


def sharded(loss: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a loss of which each rank has rows of its own."""
    if shard_of(loss) is None:
        return {}
    return {name: one for name, one in loss.named_parameters() if class_axis(name, one) is not None}


def whole_state(state: Mapping[str, Tensor], shard: ClassShard | None) -> dict[str, Tensor]:
    """The state of a loss with all ranks' rows; every rank calls it."""
    return {name: _whole(tensor, class_axis(name, tensor), shard) for name, tensor in state.items()}


def own_state(state: Mapping[str, Tensor], shard: ClassShard | None) -> dict[str, Tensor]:
    """The state of a loss with this rank's rows, from one with all."""
    return {name: _own(tensor, class_axis(name, tensor), shard) for name, tensor in state.items()}


def whole_optimizer(optimizer: torch.optim.Optimizer, loss: nn.Module) -> dict[str, Any]:
    """The state of an optimizer with all ranks' rows; every rank calls it."""
    return _each(optimizer.state_dict(), optimizer, loss, _whole)


def own_optimizer(state: dict[str, Any], optimizer: torch.optim.Optimizer, loss: nn.Module) -> dict[str, Any]:
    """The state of an optimizer with this rank's rows, from one with all."""
    return _each(state, optimizer, loss, _own)


def whole_loss(loss: nn.Module, name: str, options: Mapping[str, Any]) -> losses.Loss:
    """The loss of that name and options as one process has it; every rank calls it."""
    assert isinstance(loss, losses.Loss)
    state = whole_state(loss.state_dict(), shard_of(loss))
    with torch.random.fork_rng():
        whole = losses.make(name, loss.num_classes, loss.embedding_size, **options)
    whole.load_state_dict(state)
    return whole.to(next(iter(state.values())).device)


def _each(state: dict[str, Any], optimizer: torch.optim.Optimizer, loss: nn.Module, change: Any) -> dict[str, Any]:
    shard = shard_of(loss)
    axes = {id(one): class_axis(name, one) for name, one in sharded(loss).items()}
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    changed = {}
    for number, entries in state["state"].items():
        one = parameters[number]
        alike = {key: value for key, value in entries.items() if getattr(value, "ndim", -1) == one.dim()}
        axis = axes.get(id(one))
        changed[number] = entries | {key: change(value, axis, shard) for key, value in alike.items()}
    return state | {"state": changed}


def _whole(tensor: Tensor, axis: int | None, shard: ClassShard | None) -> Tensor:
    if shard is None or axis is None:
        return tensor
    rows = tensor.detach().movedim(axis, 0)
    padded = rows.new_zeros(-(-shard.num_classes // shard.size), *rows.shape[1:])
    padded[: len(rows)] = rows
    return shard.gather(padded).flatten(0, 1)[: shard.num_classes].movedim(0, axis).contiguous()


def _own(tensor: Tensor, axis: int | None, shard: ClassShard | None) -> Tensor:
    if shard is None or axis is None:
        return tensor
    return shard.own_rows(tensor.movedim(axis, 0)).movedim(0, axis).contiguous()
